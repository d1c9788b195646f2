//! Writing records.

use super::*;
use crate::varint::{self, zigzag};

/// Collects the records of one block.
#[derive(Debug)]
pub struct RecordWriter {
    time: Nanos,
    address: u64,
    payload: Vec<u8>,
}

impl RecordWriter {
    /// Starts a block that will be written at `time`; no record may speak of a later one.
    pub fn new(time: Nanos) -> RecordWriter {
        RecordWriter { time, address: 0, payload: Vec::new() }
    }

    /// The block's time.
    pub fn time(&self) -> Nanos {
        self.time
    }

    /// The records so far.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Empties it for the next block.
    pub fn restart(&mut self, time: Nanos) {
        self.time = time;
        self.address = 0;
        self.payload.clear();
    }

    /// Appends one record.
    pub fn push(&mut self, record: &Record) {
        match *record {
            Record::Fact { key, value } => {
                self.kind(FACT);
                self.text(key);
                self.text(value);
            }
            Record::Module { id, generation, bias, identity, path, ref ranges } => {
                self.kind(MODULE);
                self.numbers(&[id.0.into(), generation.0.into(), bias]);
                match identity {
                    Identity::Unknown => self.number(0),
                    Identity::BuildId(bytes) => {
                        self.numbers(&[1, bytes.len() as u64]);
                        self.payload.extend_from_slice(bytes);
                    }
                    Identity::Content(hash) => self.numbers(&[2, hash]),
                }
                self.text(path);
                self.number(ranges.len() as u64);
                for &(start, len) in ranges {
                    self.numbers(&[start, len]);
                }
            }
            Record::ModuleGone { id, generation } => {
                self.kind(MODULE_GONE);
                self.numbers(&[id.0.into(), generation.0.into()]);
            }
            Record::Thread { thread, tid, start, name } => {
                self.kind(THREAD);
                self.numbers(&[thread.0.into(), tid.into()]);
                self.age(start);
                self.text(name);
            }
            Record::ThreadEnd { thread, time } => {
                self.kind(THREAD_END);
                self.number(thread.0.into());
                self.age(time);
            }
            Record::Generation(generation) => {
                self.kind(GENERATION);
                self.number(generation.0.into());
            }
            Record::Node { parent, address } => {
                self.kind(NODE);
                self.numbers(&[parent.0.into(), zigzag(address.wrapping_sub(self.address))]);
                self.address = address;
            }
            Record::Sample { node, thread, time, size, interval } => {
                self.kind(SAMPLE);
                self.numbers(&[node.0.into(), thread.0.into()]);
                self.age(time);
                self.numbers(&[size, interval]);
            }
            Record::Freed { sample, time } => {
                self.kind(FREED);
                self.number(sample);
                self.age(time);
            }
            Record::Folded { node, blocks, bytes } => {
                self.kind(FOLDED);
                self.number(node.0.into());
                self.payload.extend_from_slice(&blocks.to_le_bytes());
                self.payload.extend_from_slice(&bytes.to_le_bytes());
            }
            Record::Lost { reason, events } => {
                self.kind(LOST);
                self.numbers(&[reason.code(), events]);
            }
            Record::Mark { time, name } => {
                self.kind(MARK);
                self.age(time);
                self.text(name);
            }
            Record::Complete { time } => {
                self.kind(COMPLETE);
                self.age(time);
            }
            Record::Interval { time, bytes } => {
                self.kind(INTERVAL);
                self.age(time);
                self.number(bytes);
            }
            Record::Segment { time, number, path, blocks, bytes } => {
                self.kind(SEGMENT);
                self.age(time);
                self.number(number);
                self.text(path);
                self.numbers(&[blocks, bytes]);
            }
            Record::Fork { time, run, path, bytes } => {
                self.kind(FORK);
                self.age(time);
                self.payload.extend_from_slice(&run);
                self.text(path);
                self.number(bytes);
            }
            Record::Vitals { time, ref values } => {
                self.kind(VITALS);
                self.age(time);
                self.number(values.len() as u64);
                values.iter().for_each(|&(vital, value)| self.numbers(&[vital.code(), value]));
            }
            Record::Arena { time, arena, system, free } => {
                self.kind(ARENA);
                self.age(time);
                self.numbers(&[arena.into(), system, free]);
            }
            Record::Held { resource, node, time, acquired, released, bytes } => {
                self.kind(HELD);
                self.numbers(&[resource.code(), node.0.into()]);
                self.age(time);
                self.numbers(&[acquired, released, bytes]);
            }
            Record::End { reason } => {
                self.kind(END);
                self.text(reason);
            }
        }
    }

    fn kind(&mut self, kind: u8) {
        self.payload.push(kind);
    }

    fn number(&mut self, value: u64) {
        varint::push(&mut self.payload, value);
    }

    fn numbers(&mut self, values: &[u64]) {
        values.iter().for_each(|&value| self.number(value));
    }

    fn age(&mut self, time: Nanos) {
        self.number(self.time.0.saturating_sub(time.0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.payload.extend_from_slice(text.as_bytes());
    }
}
