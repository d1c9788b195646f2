//! Profiles made by hand, with prof's own writers. Included by unit tests and by the command line's tests.

use prof::event::{ADDRESS, Birth, LONGEST};
use prof::record::Identity;
use prof::{
    BlockKind, EventEncoder, Generation, Header, ModuleId, Nanos, NodeId, Record, RecordWriter, ThreadIndex,
    block, varint,
};

/// A file under construction.
pub struct File(pub Vec<u8>);

impl File {
    pub fn new(run: u8) -> File {
        File(Header::new([run; 16]).to_bytes().to_vec())
    }

    /// A block of records, written at `time`.
    pub fn records(&mut self, time: u64, records: &[Record]) -> &mut File {
        let mut writer = RecordWriter::new(Nanos(time));
        records.iter().for_each(|record| writer.push(record));
        block::write(&mut self.0, BlockKind::Records, Nanos(time), writer.payload());
        self
    }

    /// A block of a stream's events so far.
    pub fn events(&mut self, time: u64, log: &mut Log) -> &mut File {
        let mut payload = Vec::new();
        varint::push(&mut payload, log.stream.into());
        payload.append(&mut log.bytes);
        block::Packer::default().write(&mut self.0, BlockKind::Events, Nanos(time), &payload);
        self
    }

    /// Says that everything before `time` is in the file.
    pub fn complete(&mut self, time: u64) -> &mut File {
        self.records(time, &[Record::Complete { time: Nanos(time) }])
    }

    /// The facts that a tracer states, a module `/app/server` at 0x400000 and `/app/lib/libplugin.so` at 0x7f0000,
    /// and the threads `main` and `worker`.
    pub fn preamble(&mut self, interval: &str) -> &mut File {
        let thread =
            |index, tid, name| Record::Thread { thread: ThreadIndex(index), tid, start: Nanos(0), name };
        let module = |id, bias, path| Record::Module {
            id: ModuleId(id),
            generation: Generation(0),
            bias,
            identity: Identity::Unknown,
            path,
            ranges: vec![(bias, 0x10000)],
        };
        self.records(
            0,
            &[
                Record::Fact { key: "command", value: "server --port 8500" },
                Record::Fact { key: "pid", value: "4711" },
                Record::Fact { key: "process_age_ns", value: "500000000" },
                Record::Fact { key: "interval", value: interval },
                module(0, 0x40_0000, "/app/server"),
                module(1, 0x7f_0000, "/app/lib/libplugin.so"),
                thread(0, 4711, "main"),
                thread(1, 4712, "worker"),
            ],
        )
    }
}

/// A stream, of one thread until [`thread`](Log::thread) says otherwise.
pub struct Log {
    stream: u32,
    encoder: Box<EventEncoder>,
    /// The last allocation's, leaf first.
    stack: Vec<u64>,
    bytes: Vec<u8>,
}

impl Log {
    /// The stream and the thread have the same number; the thread's name is of the preamble.
    pub fn new(number: u32) -> Log {
        let encoder = Box::new(EventEncoder::new());
        let mut log = Log { stream: number, encoder, stack: Vec::new(), bytes: Vec::new() };
        let name = ["main", "worker", "poller", "logger"][number as usize % 4];
        log.thread(number, 4711 + number, 0, name);
        log
    }

    /// Hands the stream to another thread.
    pub fn thread(&mut self, thread: u32, tid: u32, stamp: u64, name: &str) -> &mut Log {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        self.push(|encoder, out| encoder.thread(out, ThreadIndex(thread), tid, Nanos(stamp), &bytes))
    }

    pub fn thread_end(&mut self, stamp: u64) -> &mut Log {
        self.push(|encoder, out| encoder.thread_end(out, Nanos(stamp)))
    }

    fn push(&mut self, encode: impl FnOnce(&mut EventEncoder, &mut [u8; LONGEST]) -> usize) -> &mut Log {
        let mut out = [0; LONGEST];
        let len = encode(&mut self.encoder, &mut out);
        self.bytes.extend_from_slice(&out[..len]);
        self
    }

    /// A birth's event, its site's definition before it where that is new.
    fn born(
        &mut self,
        birth: &Birth,
        encode: impl Fn(&mut EventEncoder, &mut [u8; LONGEST], &Birth) -> Option<usize>,
    ) -> &mut Log {
        let mut out = [0; LONGEST];
        let len = encode(&mut self.encoder, &mut out, birth).unwrap_or_else(|| {
            let mut site = vec![0; LONGEST + ADDRESS * birth.pushed.len()];
            let len = self.encoder.define(&mut site, birth).expect("room for a site");
            self.bytes.extend_from_slice(&site[..len]);
            encode(&mut self.encoder, &mut out, birth).expect("its site is defined")
        });
        self.bytes.extend_from_slice(&out[..len]);
        self
    }

    /// How many frames `stack` shares with the one before, and the others, outermost first.
    fn difference(&mut self, stack: &[u64]) -> (usize, Vec<u64>) {
        let kept = self.stack.iter().rev().zip(stack.iter().rev()).take_while(|(a, b)| a == b).count();
        self.stack = stack.to_vec();
        (kept, stack[..stack.len() - kept].iter().rev().copied().collect())
    }

    /// `stack` is leaf first.
    pub fn alloc(&mut self, key: u64, stamp: u64, size: u64, stack: &[u64]) -> &mut Log {
        let (kept, pushed) = self.difference(stack);
        let birth = Birth { key, stamp: Nanos(stamp), size, kept, pushed: &pushed };
        self.born(&birth, |encoder, out, birth| encoder.alloc(out, birth))
    }

    pub fn free(&mut self, key: u64, stamp: u64) -> &mut Log {
        self.push(|encoder, out| encoder.free(out, key, Nanos(stamp)))
    }

    pub fn realloc(&mut self, old: (u64, u64), new: (u64, u64), size: u64, stack: &[u64]) -> &mut Log {
        let (kept, pushed) = self.difference(stack);
        let birth = Birth { key: new.0, stamp: Nanos(new.1), size, kept, pushed: &pushed };
        self.born(&birth, |encoder, out, birth| encoder.realloc(out, old.0, Nanos(old.1), birth))
    }

    pub fn generation(&mut self, generation: u32) -> &mut Log {
        self.stack.clear();
        self.push(|encoder, out| encoder.generation(out, Generation(generation)))
    }
}

/// Nodes of one stack, outermost first, the first of them being number `first`.
pub fn chain(first: u32, stack: &[u64]) -> Vec<Record<'static>> {
    let parent = |i: usize| if i == 0 { NodeId::ROOT } else { NodeId(first + i as u32 - 1) };
    stack.iter().enumerate().map(|(i, &address)| Record::Node { parent: parent(i), address }).collect()
}

pub const SECOND: u64 = 1_000_000_000;

/// Every allocation of 20 seconds: a leak of 1000 bytes a second in the plugin, called from a worker, a cache of
/// 64 KiB that is filled in the first five seconds, and a buffer that is replaced every second.
pub fn every(run: u8, seconds: u64) -> Vec<u8> {
    let mut file = File::new(run);
    file.preamble("every");
    let (mut main, mut worker) = (Log::new(0), Log::new(1));
    let buffer = [0x40_0110, 0x40_0100];
    let cache = [0x40_0210, 0x40_0200, 0x40_0100];
    let leak = [0x7f_0310, 0x7f_0300, 0x40_0400];
    worker.generation(0);
    main.generation(0).alloc(0x9000, 1, 4096, &buffer);
    for second in 0..seconds {
        let now = second * SECOND + SECOND / 2;
        if second < 5 {
            main.alloc(0x10_0000 + second * 0x10000, now, 13107, &cache);
        }
        main.realloc((0x9000, now + 10), (0x9000, now + 20), 4096 + second, &buffer);
        for i in 0..10 {
            worker.alloc(0x20_0000 + second * 0x1000 + i * 0x100, now + i * 1000, 100, &leak);
            worker.alloc(0x8000, now + i * 1000 + 100, 1 << 20, &leak[1..]);
            worker.free(0x8000, now + i * 1000 + 200);
        }
        let end = (second + 1) * SECOND;
        if second + 1 == seconds {
            worker.thread_end(end - 1);
        }
        file.events(end, &mut main).events(end, &mut worker).complete(end);
        if second == 9 {
            file.records(end, &[Record::Mark { time: Nanos(end), name: "model v2" }]);
        }
    }
    file.0
}

/// Samples of ten seconds: 64 KiB a second that stay and as much that dies young, at a mean interval of 512 KiB.
pub fn sampled(run: u8, seconds: u64) -> Vec<u8> {
    let mut file = File::new(run);
    file.preamble("524288");
    let mut records = chain(1, &[0x40_0400, 0x7f_0300, 0x7f_0310]);
    records.extend(chain(4, &[0x40_0100, 0x40_0200]));
    file.records(0, &records);
    for second in 0..seconds {
        let end = Nanos((second + 1) * SECOND);
        let sample = |node, size| Record::Sample {
            node: NodeId(node),
            thread: ThreadIndex(1),
            time: Nanos(end.0 - 1000),
            size,
            interval: 524288,
        };
        let mut records = vec![sample(3, 65536), sample(5, 4096)];
        if second > 0 {
            records.push(Record::Freed { sample: second * 2, time: Nanos(end.0 - 500) });
        }
        records.push(Record::Folded { node: NodeId(5), blocks: 100.0, bytes: 65536.0 });
        if second == 3 {
            records.push(Record::Lost { reason: prof::Lost::BackPressure, events: 7 });
        }
        records.push(Record::Complete { time: end });
        file.records(end.0, &records);
    }
    file.records(seconds * SECOND, &[Record::End { reason: "exit" }]);
    file.0
}
