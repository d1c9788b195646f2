//! Collects the threads' buffers, each thread's in order.

use crate::buffer::{self, BufferRef};
use crate::clock;
use crate::thread::{self, Thread};
use prof::{EventDecoder, Nanos, Record, RecordWriter, ThreadIndex};
use rustc_hash::FxHashMap;
use std::sync::atomic::Ordering::*;

/// How often a thread is looked at again because it has moved on.
const MOST_BUFFERS_MEANWHILE: usize = 16;

/// The state of one thread's stream.
#[derive(Default)]
pub struct Stream {
    /// Reads it, in sampled mode.
    pub decoder: EventDecoder,
    /// The interval in force in it.
    pub interval: u64,
    /// The generation of the module map in force in it.
    pub generation: u32,
    /// The number of the thread's next buffer.
    next: u32,
    tid: u32,
    start: Nanos,
    name: String,
    /// How often the stream has been flushed since the thread was met.
    flushes: u64,
    /// Its name, or the thread itself, is not in the file yet.
    unwritten: bool,
}

/// All threads that have recorded something and not ended.
#[derive(Default)]
pub struct Source {
    streams: FxHashMap<u32, Stream>,
    ended: Vec<(u32, Nanos)>,
    /// Received, and not yet read.
    sent: Vec<BufferRef>,
}

impl Source {
    /// Hands every stretch of events to `take`, with its thread's number and state. With `current` also those in
    /// buffers that are still being filled; threads that have ended are let go then.
    pub fn collect(&mut self, current: bool, mut take: impl FnMut(u32, &mut Stream, &[u8])) {
        self.drain(&mut take);
        if current {
            for thread in thread::all().filter(|thread| thread.is_occupied()) {
                // A thread may go on to its next buffer meanwhile; each time, the one before has been sent.
                for _ in 0..MOST_BUFFERS_MEANWHILE {
                    if self.look_at(thread, &mut take) {
                        break;
                    }
                    self.drain(&mut take);
                }
            }
        }
    }

    /// Reads the buffers that have been sent.
    fn drain(&mut self, take: &mut impl FnMut(u32, &mut Stream, &[u8])) {
        let Some(exchange) = buffer::exchange() else { return };
        while let Some(buffer) = exchange.receive() {
            self.sent.push(buffer);
        }
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|&buffer| {
            let taken = self.consume(buffer, true, take);
            if taken {
                exchange.give_back(buffer);
            }
            !taken
        });
        self.sent = sent;
    }

    /// Reads what a thread has published in its current buffer. False: it is another buffer's turn.
    fn look_at(&mut self, thread: &Thread, take: &mut impl FnMut(u32, &mut Stream, &[u8])) -> bool {
        if thread.ended().is_none() && !thread.exists() {
            thread.end(clock::now());
        }
        // Asked before the buffer is read: what is read then is all there is.
        let ended = thread.ended();
        self.meet(thread);
        let buffer = thread.current();
        if let Some(buffer) = buffer
            && !self.consume(buffer, false, take)
        {
            return false;
        }
        if ended.is_some() {
            self.let_go(thread, ended);
            if let (Some(buffer), Some(exchange)) = (buffer, buffer::exchange()) {
                exchange.give_back(buffer);
            }
        }
        true
    }

    fn let_go(&mut self, thread: &Thread, ended: Option<Nanos>) {
        let index = thread.index.load(Relaxed);
        self.ended.push((index, ended.unwrap_or_default()));
        thread.release();
    }

    /// Reads what is published in a buffer, if it is its thread's turn.
    fn consume(
        &mut self,
        buffer: BufferRef,
        full: bool,
        take: &mut impl FnMut(u32, &mut Stream, &[u8]),
    ) -> bool {
        let (index, sequence) = buffer.origin();
        if !self.streams.contains_key(&index) {
            thread::all()
                .filter(|thread| thread.index.load(Relaxed) == index)
                .for_each(|thread| self.meet(thread));
        }
        let stream = self.streams.entry(index).or_default();
        if stream.next != sequence {
            return false;
        }
        let bytes = buffer.take();
        if !bytes.is_empty() {
            take(index, stream, bytes);
        }
        if full {
            stream.next += 1;
        }
        true
    }

    fn meet(&mut self, thread: &Thread) {
        let index = thread.index.load(Relaxed);
        self.streams.entry(index).or_insert_with(|| Stream {
            tid: thread.tid.load(Relaxed),
            start: Nanos(thread.start.load(Relaxed)),
            name: thread.name(),
            unwritten: true,
            ..Stream::default()
        });
    }

    /// Appends threads that are new, renamed or ended. Names are asked for again after 1, 2, 4, 8, … flushes: threads
    /// are named soon after they start, if at all.
    pub fn push(&mut self, records: &mut RecordWriter) {
        let mut indexes: Vec<u32> = self.streams.keys().copied().collect();
        indexes.sort_unstable();
        for index in indexes {
            let Some(stream) = self.streams.get_mut(&index) else { continue };
            stream.flushes += 1;
            if stream.flushes.is_power_of_two()
                && let Some(name) = name_of(stream.tid)
                && name != stream.name
            {
                stream.name = name;
                stream.unwritten = true;
            }
            if std::mem::take(&mut stream.unwritten) {
                let thread = ThreadIndex(index);
                records.push(&Record::Thread {
                    thread,
                    tid: stream.tid,
                    start: stream.start,
                    name: &stream.name,
                });
            }
        }
        for (index, time) in self.ended.drain(..) {
            self.streams.remove(&index);
            records.push(&Record::ThreadEnd { thread: ThreadIndex(index), time });
        }
    }
}

fn name_of(tid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}
