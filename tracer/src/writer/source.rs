//! Collects the streams' buffers, each stream's in order.

use crate::buffer::{self, BufferRef};
use crate::{safepoint, stream};
use prof::EventDecoder;
use rustc_hash::FxHashMap;

/// How often a stream is looked at again because it has moved on to another buffer.
const LOOKS: usize = 16;

/// What the writer knows of one stream.
#[derive(Default)]
pub struct State {
    /// Reads it, in sampled mode.
    pub decoder: EventDecoder,
    /// The stack of its last allocation, outermost frame first.
    pub stack: Vec<u64>,
    /// The interval in force in it.
    pub interval: u64,
    /// The generation of the module map in force in it.
    pub generation: u32,
    /// The number of the thread that has it.
    pub thread: u32,
    /// The number of its next buffer.
    next: u32,
}

/// All streams.
#[derive(Default)]
pub struct Source {
    streams: FxHashMap<u32, State>,
    /// Buffers that were received, and not yet read.
    sent: Vec<BufferRef>,
}

impl Source {
    /// Hands every stretch of events to `take`, with its stream's number and state. With `current` also those in
    /// buffers that are still being filled.
    pub fn collect(&mut self, current: bool, mut take: impl FnMut(u32, &mut State, &[u8])) {
        self.drain(&mut take);
        if !current {
            return;
        }
        for stream in stream::all() {
            for _ in 0..LOOKS {
                match stream.current() {
                    // It is another buffer's turn: the thread has moved on, and has sent that one before.
                    Some(buffer) if !self.consume(buffer, false, &mut take) => self.drain(&mut take),
                    _ => break,
                }
            }
        }
    }

    /// In a forked child: reads what is left of the parent's streams, those before `first`, and returns all their buffers.
    pub fn collect_rest(
        &mut self,
        first: u32,
        mut take: impl FnMut(u32, &mut State, &[u8]),
    ) -> Vec<BufferRef> {
        self.sent.clear();
        let is_own = |origin: u32| (first..buffer::NO_STREAM).contains(&origin);
        let mut buffers: Vec<_> = buffer::all().filter(|buffer| !is_own(buffer.origin().0)).collect();
        buffers.sort_unstable_by_key(|buffer| buffer.origin());
        for &buffer in buffers.iter().filter(|buffer| buffer.origin().0 != buffer::NO_STREAM) {
            self.consume(buffer, true, &mut take);
        }
        buffers
    }

    /// Reads the buffers that have been sent.
    fn drain(&mut self, take: &mut impl FnMut(u32, &mut State, &[u8])) {
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

    /// Reads what is published in a buffer, if it is its turn.
    fn consume(
        &mut self,
        buffer: BufferRef,
        full: bool,
        take: &mut impl FnMut(u32, &mut State, &[u8]),
    ) -> bool {
        safepoint::pass();
        let (index, sequence) = buffer.origin();
        let state = self.streams.entry(index).or_default();
        if state.next != sequence {
            return false;
        }
        let bytes = buffer.take();
        if !bytes.is_empty() {
            take(index, state, bytes);
        }
        if full {
            state.next += 1;
        }
        true
    }
}
