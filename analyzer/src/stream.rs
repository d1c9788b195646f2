//! One stream of events: from its bytes to changes of the live set, in order, with their stacks.

use crate::stacks::{Stack, Stacks};
use crate::threads::Threads;
use prof::event::name_text;
use prof::read::What;
use prof::{Damage, Event, EventDecoder, Generation, Nanos, ThreadIndex, weight};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Who allocated, and at which sampling interval.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin(u32);

/// The origins of a file; there are about as many as threads.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    all: Vec<(ThreadIndex, u64)>,
    by_content: FxHashMap<(ThreadIndex, u64), Origin>,
}

impl Origins {
    /// The origin of a thread and an interval.
    pub fn intern(&mut self, thread: ThreadIndex, interval: u64) -> Origin {
        *self.by_content.entry((thread, interval)).or_insert_with(|| {
            self.all.push((thread, interval));
            Origin(self.all.len() as u32 - 1)
        })
    }

    /// Thread and interval.
    #[inline]
    pub fn get(&self, origin: Origin) -> (ThreadIndex, u64) {
        self.all.get(origin.0 as usize).copied().unwrap_or((ThreadIndex(0), 1))
    }
}

/// What became live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Requested bytes.
    pub size: u64,
    /// Where it was allocated.
    pub stack: Stack,
    /// By whom.
    pub origin: Origin,
}

/// A block became live, or died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub time: Nanos,
    /// Names the block.
    pub key: u64,
    /// `None`: it died.
    pub birth: Option<Birth>,
}

/// What streams refer to, and add to.
#[derive(Debug, Default)]
pub struct Known {
    /// Every stack so far.
    pub stacks: Stacks,
    /// Every origin so far.
    pub origins: Origins,
    /// Every thread so far.
    pub threads: Threads,
}

/// The payload of a block of events, without the stream's index.
#[derive(Debug)]
struct Chunk {
    /// In the file.
    offset: u64,
    bytes: Vec<u8>,
    /// Where the next event starts in `bytes`.
    at: usize,
}

/// One thread's events, and then another's.
#[derive(Debug, Default)]
pub struct Stream {
    decoder: EventDecoder,
    /// The decoder's present stack as nodes, outermost first; what lies further in is not yet interned.
    stacks: Vec<Stack>,
    generation: Generation,
    thread: ThreadIndex,
    /// Where it has been said; else every allocation is recorded.
    interval: Option<u64>,
    origin: Option<Origin>,
    chunks: VecDeque<Chunk>,
    /// The next change, decoded.
    pub head: Option<Change>,
    /// The change after it: a realloc is two.
    second: Option<Change>,
    /// Of the last change; no later one is earlier.
    time: Nanos,
}

impl Stream {
    /// Takes in a block's payload from `offset` of the file on, copied into `bytes`.
    pub fn push(&mut self, offset: u64, bytes: Vec<u8>) {
        self.chunks.push_back(Chunk { offset, bytes, at: 0 });
    }

    /// Whether changes may be left.
    pub fn holds_any(&self) -> bool {
        self.head.is_some() || self.second.is_some() || !self.chunks.is_empty()
    }

    /// Decodes up to the next change, which becomes the head; buffers that are read go to `spare`.
    ///
    /// # Errors
    /// Where an event cannot be read.
    #[inline]
    pub fn advance(&mut self, known: &mut Known, spare: &mut Vec<Vec<u8>>) -> Result<(), Damage> {
        self.head = self.second.take();
        while self.head.is_none() {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let mut input = chunk.bytes.get(chunk.at..).unwrap_or(&[]);
            let event = self.decoder.next(&mut input).map_err(|what| Damage::Corrupt {
                offset: chunk.offset + chunk.at as u64,
                what: What::Malformed(what),
            })?;
            chunk.at = chunk.bytes.len() - input.len();
            let Some(event) = event else {
                spare.extend(self.chunks.pop_front().map(|mut chunk| {
                    chunk.bytes.clear();
                    chunk.bytes
                }));
                continue;
            };
            match event {
                Event::Alloc { key, stamp, size, kept } => {
                    let birth = Some(self.birth(size, kept, known));
                    self.head = Some(self.change(stamp, key, birth));
                }
                Event::Free { key, stamp } => self.head = Some(self.change(stamp, key, None)),
                Event::Realloc { key, old_key, stamp, old_stamp, size, kept } => {
                    let birth = Some(self.birth(size, kept, known));
                    self.head = Some(self.change(old_stamp, old_key, None));
                    self.second = Some(self.change(stamp, key, birth));
                }
                Event::Interval(interval) => (self.interval, self.origin) = (Some(interval), None),
                Event::Generation(generation) => {
                    self.generation = generation;
                    self.stacks.clear();
                }
                Event::Thread { thread, tid, stamp, name } => {
                    (self.thread, self.origin) = (thread, None);
                    known.threads.note(thread, tid, stamp, &name_text(&name));
                }
                Event::ThreadEnd { stamp } => known.threads.end(self.thread, stamp),
            }
        }
        Ok(())
    }

    #[inline]
    fn change(&mut self, time: Nanos, key: u64, birth: Option<Birth>) -> Change {
        self.time = self.time.max(time);
        Change { time: self.time, key, birth }
    }

    #[inline]
    fn birth(&mut self, size: u64, kept: usize, known: &mut Known) -> Birth {
        self.stacks.truncate(kept);
        let mut stack = self.stacks.last().copied().unwrap_or(Stack::EMPTY);
        for &address in self.decoder.stack().get(self.stacks.len()..).unwrap_or(&[]) {
            stack = known.stacks.push(stack, address, self.generation);
            self.stacks.push(stack);
        }
        let interval = self.interval.unwrap_or(weight::EVERY);
        let origin = *self.origin.get_or_insert_with(|| known.origins.intern(self.thread, interval));
        Birth { size, stack, origin }
    }
}
