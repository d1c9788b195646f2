//! From blocks of many streams to one sequence of changes of the live set.
//!
//! A stream holds the events of one thread, and after its end those of another, in order; different streams are not
//! ordered with each other. A `Complete` record says up to which instant nothing is missing, and so bounds a round:
//!
//! ```text
//! file:      [stream 1: 3 5 9] [stream 2: 4 6 8 12] Complete 8 [stream 1: 10 11] Complete 12
//! round 1:   3 4 5 6                                         held: 9 | 8 12
//! round 2:   8 9 10 11                                       held: 12
//! ```
//!
//! Held events stay encoded, a few bytes each, until their round comes, and beyond 1 MiB in the file; then the streams are
//! merged by stamp. Where two stamps are equal, deaths come first: the end of one life and the start of the next at one
//! address are then in order, and [`live`](crate::live) mends the opposite case.

use crate::profile::Store;
use crate::stacks::Stack;
use crate::stream::{BATCH, Birth, Bytes, Change, Known, Origins, RECORDS, Stream};
use prof::read::What;
use prof::{Damage, Generation, MAX_DEPTH, Nanos, NodeId, Record, StreamIndex, varint};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::rc::Rc;

/// Samples are numbered and blocks have addresses: this keeps their keys apart.
const SAMPLE_KEY: u64 = 1 << 63;

/// Holds what cannot be ordered yet.
#[derive(Debug, Default)]
pub struct Order {
    /// What the changes refer to.
    pub known: Known,
    /// Stack and depth of the file's nodes, from node 1.
    nodes: Vec<(Stack, u16)>,
    generation: Generation,
    samples: u64,
    /// Changes that are records, in file order.
    records: VecDeque<Change>,
    streams: Vec<Stream>,
    by_index: FxHashMap<StreamIndex, usize>,
    /// Streams that hold events.
    active: Vec<usize>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    /// Bytes of the blocks of events that are held in memory.
    held: usize,
    /// Changes of several streams, in order, to be given together.
    merged: Vec<Change>,
}

impl Order {
    /// Takes in one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(&mut self, record: &Record) -> Result<(), &'static str> {
        match *record {
            Record::Module { id, generation, bias, identity, path, ref ranges } => {
                self.known.stacks.modules.add(id, generation, bias, identity, path, ranges);
            }
            Record::ModuleGone { id, generation } => self.known.stacks.modules.end(id, generation),
            Record::Thread { thread, tid, start, name } => self.known.threads.note(thread, tid, start, name),
            Record::ThreadEnd { thread, time } => self.known.threads.end(thread, time),
            Record::Generation(generation) => self.generation = generation,
            Record::Node { parent, address } => {
                let (parent, depth) = match parent {
                    NodeId::ROOT => (Stack::EMPTY, 0),
                    _ => self.node(parent)?,
                };
                if usize::from(depth) > MAX_DEPTH {
                    return Err("a stack deeper than the limit");
                }
                self.nodes.push((self.known.stacks.push(parent, address, self.generation), depth + 1));
            }
            Record::Sample { node, thread, time, size, interval } => {
                let (stack, _) = self.node(node)?;
                self.samples += 1;
                let origin = self.known.origins.intern(thread, interval);
                let birth = Some(Birth { size, stack, origin });
                let key = self.samples | SAMPLE_KEY;
                self.records.push_back(Change { time, key, birth, stream: RECORDS });
            }
            Record::Freed { sample, time } => {
                if sample == 0 || sample > self.samples {
                    return Err("a sample that is not defined was freed");
                }
                let key = sample | SAMPLE_KEY;
                self.records.push_back(Change { time, key, birth: None, stream: RECORDS });
            }
            _ => {}
        }
        Ok(())
    }

    /// The stack that the file calls `node`, and its depth.
    fn node(&self, node: NodeId) -> Result<(Stack, u16), &'static str> {
        let at = (node.0 as usize).wrapping_sub(1);
        self.nodes.get(at).copied().ok_or("a stack node that is not defined")
    }

    /// The stack that the file calls `node`.
    pub fn stack(&self, node: NodeId) -> Stack {
        self.node(node).map_or(Stack::EMPTY, |(stack, _)| stack)
    }

    /// A buffer for a block of events.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes in a block of events. Where much is held already, and its payload can be read `again`, it is read again when
    /// its turn comes, and its buffer can be used for others.
    ///
    /// # Errors
    /// Where it does not say of which stream it is.
    pub fn events(
        &mut self,
        payload_offset: u64,
        payload: Vec<u8>,
        again: Option<&Rc<Store>>,
    ) -> Result<(), Damage> {
        let mut rest = &payload[..];
        let Some(index) = varint::take(&mut rest).and_then(|n| u32::try_from(n).ok()).map(StreamIndex) else {
            let what = What::Malformed("a block of events without a stream");
            return Err(Damage::Corrupt { offset: payload_offset, what });
        };
        let from = payload.len() - rest.len();
        let at = *self.by_index.entry(index).or_insert_with(|| {
            self.streams.push(Stream::new(self.streams.len() as u32));
            self.streams.len() - 1
        });
        let Some(stream) = self.streams.get_mut(at) else { return Ok(()) };
        if !stream.holds_any() {
            self.active.push(at);
        }
        match again.filter(|_| self.held + payload.len() > MOST_HELD) {
            Some(store) => {
                stream.push(payload_offset, Bytes::Stored(store.clone(), payload.len()), from);
                self.spare.push(payload);
            }
            None => {
                self.held += payload.len();
                stream.push(payload_offset, Bytes::Held(payload), from);
            }
        }
        Ok(())
    }

    /// Gives `sink` every change before `limit`, in order, some at a time; all of them where there is no limit.
    ///
    /// # Errors
    /// Where an event cannot be read; changes before it have been given.
    pub fn release(
        &mut self,
        limit: Option<Nanos>,
        mut sink: impl FnMut(&[Change], &Origins),
    ) -> Result<(), Damage> {
        let result = self.merge(limit, &mut sink);
        give(&mut self.merged, &self.known.origins, &mut sink);
        let streams = &self.streams;
        self.active.retain(|&at| streams.get(at).is_some_and(Stream::holds_any));
        self.held = self.active.iter().filter_map(|&at| streams.get(at)).map(Stream::held).sum();
        result
    }

    fn merge(
        &mut self,
        limit: Option<Nanos>,
        sink: &mut impl FnMut(&[Change], &Origins),
    ) -> Result<(), Damage> {
        self.records.make_contiguous().sort_by_key(|change| (change.time, change.birth.is_some()));
        let end = limit.map_or(Rank::MAX, |limit| Rank::from(limit.0) << TIME_SHIFT);
        let mut heads = BinaryHeap::new();
        heads.extend(self.records.front().map(|change| Reverse(rank(change))));
        for &at in &self.active {
            let Some(stream) = self.streams.get_mut(at) else { continue };
            stream.decode(limit, &mut self.known, &mut self.spare)?;
            heads.extend(stream.ready().first().map(|change| Reverse(rank(change))));
        }
        while let Some(&Reverse(first)) = heads.peek().filter(|Reverse(first)| *first < end) {
            // The stream with the earliest change gives until another's is earlier: of a heap the second or the third.
            let others = heads.as_slice().iter().skip(1).take(2);
            let until = others.fold(end, |until, Reverse(other)| until.min(*other));
            let at = stream_of(first);
            let next = loop {
                let ready = match self.streams.get(at) {
                    Some(stream) => stream.ready(),
                    None => self.records.as_slices().0,
                };
                let count = count_before(ready, until);
                let (run, rest) = ready.split_at_checked(count).unwrap_or((ready, &[]));
                let next = rest.first().map(rank);
                if count < LONG {
                    self.merged.extend_from_slice(run);
                } else {
                    give(&mut self.merged, &self.known.origins, sink);
                    sink(run, &self.known.origins);
                }
                match self.streams.get_mut(at) {
                    Some(stream) => stream.take(count),
                    None => drop(self.records.drain(..count)),
                }
                if next.is_some() || count == 0 {
                    break next;
                }
                if let Some(stream) = self.streams.get_mut(at) {
                    stream.decode(limit, &mut self.known, &mut self.spare)?;
                }
            };
            if self.merged.len() >= BATCH {
                give(&mut self.merged, &self.known.origins, sink);
            }
            if let Some(mut first) = heads.peek_mut() {
                match next {
                    Some(next) => *first = Reverse(next),
                    None => drop(PeekMut::pop(first)),
                }
            }
        }
        Ok(())
    }
}

/// Bytes of blocks of events that are held in memory: a program can make far more in a round than a reader should take, and
/// what is read again soon before it is decoded is in the processor's caches then. In tests few, so that blocks are read
/// again.
const MOST_HELD: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// Runs as long as this are given as they are.
const LONG: usize = BATCH / 4;

fn give(merged: &mut Vec<Change>, origins: &Origins, sink: &mut impl FnMut(&[Change], &Origins)) {
    if !merged.is_empty() {
        sink(merged, origins);
        merged.clear();
    }
}

/// How many of a stream's next changes come before `until`.
#[inline]
fn count_before(ready: &[Change], until: Rank) -> usize {
    match ready.last() {
        Some(last) if rank(last) >= until => ready.iter().take_while(|change| rank(change) < until).count(),
        _ => ready.len(),
    }
}

/// Time, then deaths before births, then the stream: one number, so that comparing two is one step.
type Rank = u128;

/// Bits below the time.
const TIME_SHIFT: u32 = 64;

#[inline]
fn rank(change: &Change) -> Rank {
    let births = u64::from(change.birth.is_some()) << 63;
    Rank::from(change.time.0) << TIME_SHIFT | Rank::from(births | u64::from(change.stream))
}

fn stream_of(rank: Rank) -> usize {
    rank as u32 as usize
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
