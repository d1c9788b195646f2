//! Collects the threads' buffers, each thread's in order.

use crate::buffer::{self, BufferRef};
use crate::clock;
use crate::thread::{self, Thread};
use prof::{EventDecoder, Nanos, Record, RecordWriter, ThreadIndex};
use rustc_hash::FxHashMap;
use std::sync::atomic::Ordering::*;

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
}

impl Source {
    /// Hands every stretch of events to `take`, with its thread's number and state. With `current` also those in
    /// buffers that are still being filled; threads that have ended are let go then.
    pub fn collect(&mut self, current: bool, mut take: impl FnMut(u32, &mut Stream, &[u8])) {
        let Some(exchange) = buffer::exchange() else { return };
        let mut early = Vec::new();
        loop {
            while let Some(buffer) = exchange.receive() {
                early.push(buffer);
            }
            // Threads send in order, but a receiver may be overtaken between two of one thread's buffers.
            let before = early.len();
            early.sort_by_key(|buffer| buffer.origin());
            early.retain(|&buffer| {
                let taken = self.consume(buffer, true, &mut take);
                if taken {
                    exchange.give_back(buffer);
                }
                !taken
            });
            if early.is_empty() || early.len() == before {
                break;
            }
        }
        debug_assert!(early.is_empty(), "a thread's buffers arrive in order");
        if current {
            thread::all()
                .filter(|thread| thread.is_taken())
                .for_each(|thread| self.look_at(thread, &mut take));
        }
    }

    fn look_at(&mut self, thread: &Thread, take: &mut impl FnMut(u32, &mut Stream, &[u8])) {
        let index = thread.index.load(Relaxed);
        if thread.ended().is_none() && !thread.exists() {
            thread.end(clock::now());
        }
        // Before the buffer is read: what is committed after the end is not this thread's.
        let ended = thread.ended();
        self.meet(thread);
        let Some(buffer) = thread.current() else {
            if ended.is_some() {
                self.let_go(thread, ended);
            }
            return;
        };
        if !self.consume(buffer, false, take) {
            // The one before it has been sent since; next time.
            return;
        }
        if ended.is_some() && buffer.origin().0 == index {
            self.let_go(thread, ended);
            if let Some(exchange) = buffer::exchange() {
                exchange.give_back(buffer);
            }
        }
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
