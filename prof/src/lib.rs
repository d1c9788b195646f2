//! The `.prof` format: an append-only stream that the tracer writes and the analyzer reads.
//!
//! Any prefix of a stream is a profile of the process up to that point. The layers, outermost first:
//!
//! ```text
//! file    = header, block*                  [`header`]  32 bytes: magic, version, run id
//! block   = 24 bytes of frame, payload      [`block`]   kind, length, time, checksum
//! payload = record*                         [`record`]  what the writer knows: modules, stacks, samples
//!         | stream, event*                  [`event`]   what threads saw, as they encoded it themselves
//! ```
//!
//! A record is a statement in the file; an event is something that happened in the process. In sampled mode the
//! tracer's writer thread turns events into records; at `interval=every` it passes the event streams
//! on as they are, and the analyzer rebuilds the stacks.
#![forbid(unsafe_code)]

pub mod ids;
pub mod varint;
pub mod weight;
pub mod header;
pub mod block;
pub mod record;
pub mod event;
pub mod read;
pub mod control;

pub use block::BlockKind;
pub use event::{Event, EventDecoder, EventEncoder};
pub use header::{Header, RunId};
pub use ids::{Generation, ModuleId, Nanos, NodeId, StreamIndex, ThreadIndex};
pub use read::{Block, Damage, ReadError, Reader};
pub use record::{Identity, Lost, Record, RecordWriter, Records, Resource, Vital};

/// A stack's depth limit in frames; what lies further out is represented by [`TRUNCATED`].
pub const MAX_DEPTH: usize = 1024;

/// Stands, as the outermost address of a stack, for the frames beyond [`MAX_DEPTH`].
pub const TRUNCATED: u64 = 1;
