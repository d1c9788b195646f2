//! Statements of the tracer's writer thread: what they are. [`write`] and [`read`] are the two directions.
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
//! Vitals      0x11  age  count  (vital  value) × count
//! Arena       0x12  age  arena  system bytes  free bytes
//! Held        0x13  resource  node  age  acquired  released  bytes
//! Segment     0x14  age  number  path text  blocks  bytes
//! ```

mod read;
mod vital;
mod write;

#[cfg(test)]
mod tests;

pub use read::{BadRecord, Records};
pub use vital::Vital;
pub use write::RecordWriter;

use crate::header::RunId;
use crate::ids::{Generation, ModuleId, Nanos, NodeId, ThreadIndex};

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

/// What a process holds, beside heap blocks, of which the stack that acquired it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    /// Threads; their bytes are the address space of their stacks.
    Thread,
    /// Memory that the program mapped itself.
    Mapping,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Resource; 2] = [Resource::Thread, Resource::Mapping];

    fn code(self) -> u64 {
        match self {
            Resource::Thread => 0,
            Resource::Mapping => 1,
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
    /// became more or less precise, or that recording was paused.
    Interval {
        /// When.
        time: Nanos,
        /// Mean bytes between samples; 1: every allocation is recorded; 0: none is, until the next such record.
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
    /// The process as a whole. What is not stated is as it was in the last such record; what never was is not known.
    Vitals {
        /// When.
        time: Nanos,
        /// What was read.
        values: Vec<(Vital, u64)>,
    },
    /// One arena of the C library's allocator, where it differs from what was last said of it.
    Arena {
        /// When.
        time: Nanos,
        /// Its number; 0 is the main arena.
        arena: u32,
        /// Bytes that it has from the system.
        system: u64,
        /// Bytes of it that the program has freed, or not yet used.
        free: u64,
    },
    /// What one node's stack has acquired since tracing began, or, in a forked child, of what it inherited and since. Nodes
    /// of several generations of the module map may be one stack: their counts add up. The root is all stacks that are not
    /// known.
    Held {
        /// Of what.
        resource: Resource,
        /// The stack.
        node: NodeId,
        /// When this was so.
        time: Nanos,
        /// How many it has acquired.
        acquired: u64,
        /// How many of them have been released.
        released: u64,
        /// Bytes of those that have not; of mappings, those that can be accessed.
        bytes: u64,
    },
    /// The file is not its process's first: it begins with the samples that were live, which stand before this record. A
    /// `Complete` of the same time follows.
    Segment {
        /// When.
        time: Nanos,
        /// Its number; the process's first file is number 1.
        number: u64,
        /// The file that ends where this one begins.
        path: &'a str,
        /// Allocated before, since the start of the process or its fork: estimated blocks.
        blocks: u64,
        /// And bytes.
        bytes: u64,
    },
    /// The stream ends here as intended; where the process goes on nevertheless, so does the stream.
    End {
        /// Why.
        reason: &'a str,
    },
}

/// Why a stream ends whose process ended by itself.
pub const EXITED: &str = "the process exited";

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
const VITALS: u8 = 0x11;
const ARENA: u8 = 0x12;
const HELD: u8 = 0x13;
const SEGMENT: u8 = 0x14;
