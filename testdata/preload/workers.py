"""Forked workers as PyTorch's DataLoader has them: they inherit a data set, send batches through a pipe that a thread of
the parent reads, and leave by os._exit. Python's multiprocessing is what DataLoader is made of.

    workers.py EPOCHS WORKERS
"""

import multiprocessing
import queue
import sys
import threading
import zlib

DATA = [bytes([i % 251]) * (i % 97 + 400) for i in range(2000)]


def work(tasks, results):
    while (task := tasks.get()) is not None:
        batch = [bytearray(DATA[i]) for i in task]
        results.put((task[0], zlib.crc32(b"".join(batch))))


def epoch(context, workers):
    results = context.Queue()
    pipes = [context.Queue() for _ in range(workers)]
    processes = [context.Process(target=work, args=(tasks, results), daemon=True) for tasks in pipes]
    for process in processes:
        process.start()
    batches = [range(i, i + 50) for i in range(0, len(DATA), 50)]
    collected = queue.Queue()
    reader = threading.Thread(target=lambda: [collected.put(results.get()) for _ in batches])
    reader.start()
    for i, batch in enumerate(batches):
        pipes[i % workers].put(batch)
    for tasks in pipes:
        tasks.put(None)
    reader.join()
    for process in processes:
        process.join()
    return sorted(collected.get() for _ in batches), [process.exitcode for process in processes]


def main():
    context = multiprocessing.get_context("fork")
    for _ in range(int(sys.argv[1])):
        batches, codes = epoch(context, int(sys.argv[2]))
        print(zlib.crc32(repr(batches).encode()), codes)


main()
