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
//! Held events stay encoded, a few bytes each, until their round comes; then the streams are merged by
//! stamp. Where two stamps are equal, deaths come first: the end of one life and the start of the next at one
//! address are then in order, and [`live`](crate::live) mends the opposite case.

use crate::stacks::Stack;
use crate::stream::{Birth, Change, Known, Origins, Stream};
use prof::read::What;
use prof::{Damage, Generation, MAX_DEPTH, Nanos, NodeId, Record, StreamIndex, varint};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Samples are numbered and blocks have addresses: this keeps their keys apart.
const SAMPLE_KEY: u64 = 1 << 63;

/// Stands among the streams for the changes that are records.
const RECORDS: usize = usize::MAX;

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
    /// Empty buffers to use again.
    spare: Vec<Vec<u8>>,
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
                self.records.push_back(Change { time, key: self.samples | SAMPLE_KEY, birth });
            }
            Record::Freed { sample, time } => {
                if sample == 0 || sample > self.samples {
                    return Err("a sample that is not defined was freed");
                }
                self.records.push_back(Change { time, key: sample | SAMPLE_KEY, birth: None });
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

    /// Takes in a block of events.
    pub fn events(&mut self, payload_offset: u64, payload: &[u8]) -> Result<(), Damage> {
        let mut rest = payload;
        let Some(index) = varint::take(&mut rest).and_then(|n| u32::try_from(n).ok()).map(StreamIndex) else {
            let what = What::Malformed("a block of events without a stream");
            return Err(Damage::Corrupt { offset: payload_offset, what });
        };
        let at = *self.by_index.entry(index).or_insert_with(|| {
            self.streams.push(Stream::default());
            self.streams.len() - 1
        });
        let Some(stream) = self.streams.get_mut(at) else { return Ok(()) };
        if !stream.holds_any() {
            self.active.push(at);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(rest);
        let offset = payload_offset + (payload.len() - rest.len()) as u64;
        stream.push(offset, bytes);
        Ok(())
    }

    /// Gives `sink` every change before `limit`, in order; all of them where there is no limit.
    ///
    /// # Errors
    /// Where an event cannot be read; changes before it have been given.
    pub fn release(
        &mut self,
        limit: Option<Nanos>,
        mut sink: impl FnMut(Change, &Origins),
    ) -> Result<(), Damage> {
        self.records.make_contiguous().sort_by_key(|change| (change.time, change.birth.is_some()));
        let mut heads = BinaryHeap::new();
        let due = |change: &Change| limit.is_none_or(|limit| change.time < limit);
        heads.extend(self.records.front().filter(|c| due(c)).map(|c| Reverse(rank(c, RECORDS))));
        for &at in &self.active {
            let Some(stream) = self.streams.get_mut(at) else { continue };
            if stream.head.is_none() {
                stream.advance(&mut self.known, &mut self.spare)?;
            }
            heads.extend(stream.head.as_ref().filter(|c| due(c)).map(|c| Reverse(rank(c, at))));
        }
        while let Some(Reverse((.., at))) = heads.pop() {
            let next = heads.peek().map(|Reverse(rank)| *rank);
            let mut stream = self.streams.get_mut(at);
            // The stream with the earliest change gives until another's is earlier.
            loop {
                let head = match &mut stream {
                    Some(stream) => {
                        stream.head.take().into_iter().for_each(|change| sink(change, &self.known.origins));
                        stream.advance(&mut self.known, &mut self.spare)?;
                        stream.head.as_ref()
                    }
                    None => {
                        self.records
                            .pop_front()
                            .into_iter()
                            .for_each(|change| sink(change, &self.known.origins));
                        self.records.front()
                    }
                };
                let Some(head) = head.filter(|head| due(head)) else { break };
                let rank = rank(head, at);
                if next.is_some_and(|next| next < rank) {
                    heads.push(Reverse(rank));
                    break;
                }
            }
        }
        let streams = &self.streams;
        self.active.retain(|&at| streams.get(at).is_some_and(Stream::holds_any));
        Ok(())
    }
}

/// Deaths before births at one instant.
#[inline]
fn rank(change: &Change, stream: usize) -> (Nanos, bool, usize) {
    (change.time, change.birth.is_some(), stream)
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
