// Worker threads, native memory of buffers, zlib and hashes, and a child process. Prints sums.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const crypto = require('node:crypto');
const zlib = require('node:zlib');
const { execFileSync } = require('node:child_process');

function work(seed) {
  const hash = crypto.createHash('sha256');
  const live = new Map();
  for (let round = 0; round < 150; round++) {
    const buffer = Buffer.alloc(64 << 10);
    for (let i = 0; i < buffer.length; i += 4) buffer.writeUInt32LE((i * (seed + 1)) >>> round % 7, i);
    const packed = zlib.deflateSync(buffer, { level: 1 });
    if (!zlib.inflateSync(packed).equals(buffer)) throw new Error('what was packed is not what comes out');
    live.set(round % 23, packed);
    hash.update(buffer);
  }
  for (const packed of live.values()) hash.update(zlib.inflateSync(packed));
  return hash.digest('hex');
}

if (isMainThread) {
  const sums = Array.from({ length: 4 }, (_, seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.on('message', resolve);
    worker.on('error', reject);
  }));
  Promise.all(sums).then((all) => {
    all.forEach((sum) => console.log(sum));
    console.log(execFileSync(process.execPath, ['-p', '6 * 7']).toString().trim());
  });
} else {
  parentPort.postMessage(work(workerData));
}
