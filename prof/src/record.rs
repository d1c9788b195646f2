//! Statements of the tracer's writer thread. One file, because writing, reading and the description of each record are
//! only checked against each other side by side.
//!
//! After a kind byte come LEB128 numbers; a text is its length and UTF-8; an age is the block's time minus the time
//! meant, in nanoseconds; a float is its four bytes. Definitions precede their uses; nodes and samples are numbered
//! from 1 in the order in which they stand.
//!
//! ```text
//! Fact        0x01  key text  value text
//! Module      0x02  id  generation  load bias  identity  path text  range count  (start  bytes) × count
//! ModuleGone  0x03  id  generation
//! Thread      0x04  thread  tid  age of its start  name text
//! ThreadEnd   0x05  thread  age
//! Generation  0x06  generation                        the nodes that follow belong to it
//! Node        0x07  parent  ±address                  against the previous node's address
//! Sample      0x08  node  thread  age  size  interval
//! Freed       0x09  sample  age
//! Folded      0x0a  node  blocks float  bytes float   estimates for samples that died before they were written
//! Lost        0x0b  reason  events
//! Mark        0x0c  age  name text
//! Complete    0x0d  age                               everything before it stands in the file
//! End         0x0e  reason text
//! Interval    0x0f  age  bytes                        of new samples, from then on
//! Fork        0x10  age  run  path text  bytes
//! ```

use crate::header::RunId;
use crate::ids::{Generation, ModuleId, Nanos, NodeId, ThreadIndex};
use crate::varint::{self, unzigzag, zigzag};

/// How an image is recognised again on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Identity<'a> {
    /// The GNU build-id note.
    BuildId(&'a [u8]),
    /// For images without one: FNV-1a 64 over ELF header, program headers and the first page of code.
    Content(u64),
    /// Neither could be read.
    Unknown,
}

/// Why events are not in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lost {
    /// The writer did not keep up and no empty buffer was left.
    BackPressure,
    /// The table of live samples was full.
    TableFull,
    /// A signal handler allocated while its thread was recording.
    Reentrant,
}

impl Lost {
    /// Every reason.
    pub const ALL: [Lost; 3] = [Lost::BackPressure, Lost::TableFull, Lost::Reentrant];

    fn code(self) -> u64 {
        match self {
            Lost::BackPressure => 0,
            Lost::TableFull => 1,
            Lost::Reentrant => 2,
        }
    }

    /// In words, as reports print it.
    pub fn text(self) -> &'static str {
        match self {
            Lost::BackPressure => "the writer did not keep up",
            Lost::TableFull => "the table of live samples was full",
            Lost::Reentrant => "a signal handler interrupted the tracer",
        }
    }
}

/// One statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Record<'a> {
    /// A fact about the process or the tracing; the keys are listed in ARCHITECTURE.md.
    Fact {
        /// What it is about.
        key: &'a str,
        /// What is so.
        value: &'a str,
    },
    /// An image was found in the process.
    Module {
        /// Its number.
        id: ModuleId,
        /// The first generation of the module map that has it.
        generation: Generation,
        /// Address in the process minus address in the ELF.
        bias: u64,
        /// How to recognise the file.
        identity: Identity<'a>,
        /// As the loader knows it.
        path: &'a str,
        /// Start and bytes of each executable segment, in the process.
        ranges: Vec<(u64, u64)>,
    },
    /// An image was unloaded.
    ModuleGone {
        /// Its number.
        id: ModuleId,
        /// The first generation without it.
        generation: Generation,
    },
    /// A thread was seen for the first time, or has changed its name.
    Thread {
        /// Its number.
        thread: ThreadIndex,
        /// The kernel's number.
        tid: u32,
        /// When it was first seen.
        start: Nanos,
        /// Its name at the time of writing.
        name: &'a str,
    },
    /// A thread ended.
    ThreadEnd {
        /// Its number.
        thread: ThreadIndex,
        /// When.
        time: Nanos,
    },
    /// The nodes that follow belong to this module map.
    Generation(Generation),
    /// Defines the next node of the stack tree.
    Node {
        /// The caller's node.
        parent: NodeId,
        /// Return address in the process.
        address: u64,
    },
    /// The next sample: an allocation that was live when it was written.
    Sample {
        /// Its stack.
        node: NodeId,
        /// Where it was made.
        thread: ThreadIndex,
        /// When it was made.
        time: Nanos,
        /// Requested bytes.
        size: u64,
        /// Mean bytes between samples when it was taken; 1: every allocation.
        interval: u64,
    },
    /// A written sample was freed.
    Freed {
        /// Number of the sample.
        sample: u64,
        /// When.
        time: Nanos,
    },
    /// Allocations that were sampled and freed before they were written.
    Folded {
        /// Their stack.
        node: NodeId,
        /// Estimated number of allocations.
        blocks: f32,
        /// Estimated requested bytes.
        bytes: f32,
    },
    /// Events that are not in the stream.
    Lost {
        /// Why.
        reason: Lost,
        /// How many, since the last such record.
        events: u64,
    },
    /// A named instant.
    Mark {
        /// When.
        time: Nanos,
        /// Its name.
        name: &'a str,
    },
    /// Everything that happened before `time` stands before this record.
    Complete {
        /// The instant.
        time: Nanos,
    },
    /// The tracer has changed the sampling interval. Every sample carries its own: this says when and why figures
    /// became more or less precise.
    Interval {
        /// When.
        time: Nanos,
        /// Mean bytes between samples.
        bytes: u64,
    },
    /// The process was forked from another traced one, and goes on from its past.
    Fork {
        /// When. Stamps count on from the parent's.
        time: Nanos,
        /// The parent's run.
        run: RunId,
        /// The parent's file.
        path: &'a str,
        /// Where every allocation is recorded: how much of the parent's file is this process's past. Blocks of the
        /// parent's streams go on from there, up to the `Complete` of the same time. 0 where samples are recorded: those
        /// that were live stand before this record.
        bytes: u64,
    },
    /// The stream ends here as intended; where the process goes on nevertheless, so does the stream.
    End {
        /// Why.
        reason: &'a str,
    },
}

const FACT: u8 = 0x01;
const MODULE: u8 = 0x02;
const MODULE_GONE: u8 = 0x03;
const THREAD: u8 = 0x04;
const THREAD_END: u8 = 0x05;
const GENERATION: u8 = 0x06;
const NODE: u8 = 0x07;
const SAMPLE: u8 = 0x08;
const FREED: u8 = 0x09;
const FOLDED: u8 = 0x0a;
const LOST: u8 = 0x0b;
const MARK: u8 = 0x0c;
const COMPLETE: u8 = 0x0d;
const END: u8 = 0x0e;
const INTERVAL: u8 = 0x0f;
const FORK: u8 = 0x10;

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
            Record::Fork { time, run, path, bytes } => {
                self.kind(FORK);
                self.age(time);
                self.payload.extend_from_slice(&run);
                self.text(path);
                self.number(bytes);
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

/// Iterates over the records of one payload, and ends after the first that cannot be read.
#[derive(Debug)]
pub struct Records<'a> {
    time: Nanos,
    address: u64,
    payload_len: usize,
    rest: &'a [u8],
}

/// A record that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// Bytes from the start of the payload.
    pub at: usize,
    /// The kind byte, where it is not one of ours.
    pub unknown_kind: Option<u8>,
}

impl<'a> Records<'a> {
    /// The records of a block that was written at `time`.
    pub fn new(time: Nanos, payload: &'a [u8]) -> Records<'a> {
        Records { time, address: 0, payload_len: payload.len(), rest: payload }
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, Option<u8>> {
        let Some((&kind, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let record = match kind {
            FACT => self.fact(),
            MODULE => self.module(),
            MODULE_GONE => self.module_gone(),
            THREAD => self.thread(),
            THREAD_END => self.thread_end(),
            GENERATION => self.id().map(|id| Record::Generation(Generation(id))),
            NODE => self.node(),
            SAMPLE => self.sample(),
            FREED => self.freed(),
            FOLDED => self.folded(),
            LOST => self.lost(),
            MARK => self.mark(),
            COMPLETE => self.age().map(|time| Record::Complete { time }),
            INTERVAL => self.interval(),
            FORK => self.fork(),
            END => self.text().map(|reason| Record::End { reason }),
            other => return Err(Some(other)),
        };
        record.map(Some).ok_or(None)
    }

    fn fact(&mut self) -> Option<Record<'a>> {
        Some(Record::Fact { key: self.text()?, value: self.text()? })
    }

    fn module(&mut self) -> Option<Record<'a>> {
        let (id, generation, bias) = (ModuleId(self.id()?), Generation(self.id()?), self.number()?);
        let identity = match self.number()? {
            0 => Identity::Unknown,
            1 => Identity::BuildId(self.bytes()?),
            2 => Identity::Content(self.number()?),
            _ => return None,
        };
        let path = self.text()?;
        let count = self.number()?;
        // Each range takes two bytes at least: a count beyond that is a lie, not a reason to allocate.
        if count > self.rest.len() as u64 / 2 {
            return None;
        }
        let ranges = (0..count).map(|_| Some((self.number()?, self.number()?))).collect::<Option<_>>()?;
        Some(Record::Module { id, generation, bias, identity, path, ranges })
    }

    fn module_gone(&mut self) -> Option<Record<'a>> {
        Some(Record::ModuleGone { id: ModuleId(self.id()?), generation: Generation(self.id()?) })
    }

    fn thread(&mut self) -> Option<Record<'a>> {
        let (thread, tid) = (ThreadIndex(self.id()?), self.id()?);
        Some(Record::Thread { thread, tid, start: self.age()?, name: self.text()? })
    }

    fn thread_end(&mut self) -> Option<Record<'a>> {
        Some(Record::ThreadEnd { thread: ThreadIndex(self.id()?), time: self.age()? })
    }

    fn node(&mut self) -> Option<Record<'a>> {
        let parent = NodeId(self.id()?);
        self.address = self.address.wrapping_add(unzigzag(self.number()?));
        Some(Record::Node { parent, address: self.address })
    }

    fn sample(&mut self) -> Option<Record<'a>> {
        let (node, thread, time) = (NodeId(self.id()?), ThreadIndex(self.id()?), self.age()?);
        Some(Record::Sample { node, thread, time, size: self.number()?, interval: self.number()? })
    }

    fn freed(&mut self) -> Option<Record<'a>> {
        Some(Record::Freed { sample: self.number()?, time: self.age()? })
    }

    fn folded(&mut self) -> Option<Record<'a>> {
        Some(Record::Folded { node: NodeId(self.id()?), blocks: self.float()?, bytes: self.float()? })
    }

    fn lost(&mut self) -> Option<Record<'a>> {
        let code = self.number()?;
        let reason = Lost::ALL.into_iter().find(|reason| reason.code() == code)?;
        Some(Record::Lost { reason, events: self.number()? })
    }

    fn interval(&mut self) -> Option<Record<'a>> {
        Some(Record::Interval { time: self.age()?, bytes: self.number()? })
    }

    fn fork(&mut self) -> Option<Record<'a>> {
        let time = self.age()?;
        let (&run, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(Record::Fork { time, run, path: self.text()?, bytes: self.number()? })
    }

    fn mark(&mut self) -> Option<Record<'a>> {
        Some(Record::Mark { time: self.age()?, name: self.text()? })
    }

    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.rest)
    }

    fn id(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn age(&mut self) -> Option<Nanos> {
        self.time.0.checked_sub(self.number()?).map(Nanos)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Finite and not negative: a sum of estimates.
    fn float(&mut self) -> Option<f32> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(f32::from_le_bytes(*bytes)).filter(|value| value.is_finite() && *value >= 0.0)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.payload_len - self.rest.len();
        match self.read() {
            Ok(record) => record.map(Ok),
            Err(unknown_kind) => {
                self.rest = &[];
                Some(Err(BadRecord { at, unknown_kind }))
            }
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
