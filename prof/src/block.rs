//! The frame around every piece of the stream.
//!
//! ```text
//!  0  4  sync: 'b' 'l' 'k' a7
//!  4  1  kind
//!  5  3  zero
//!  8  4  payload bytes
//! 12  4  CRC-32 (IEEE) of bytes 0..12, 16..24 and the payload
//! 16  8  time of writing, nanoseconds since the start of tracing
//! 24  …  payload
//! ```

use crate::Nanos;

/// Starts every block, so that a reader can tell a shifted stream at once.
pub const SYNC: [u8; 4] = *b"blk\xa7";

/// Bytes before the payload.
pub const FRAME_LEN: usize = 24;

/// The longest payload that is written or believed.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// What a payload consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// A sequence of [records](crate::record).
    Records,
    /// A stream's index (LEB128) and a stretch of its [events](crate::event).
    Events,
}

impl BlockKind {
    fn code(self) -> u8 {
        match self {
            BlockKind::Records => 1,
            BlockKind::Events => 2,
        }
    }

    /// The kind with this code.
    pub fn from_code(code: u8) -> Option<BlockKind> {
        match code {
            1 => Some(BlockKind::Records),
            2 => Some(BlockKind::Events),
            _ => None,
        }
    }
}

/// The decoded frame; the checksum is not yet compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The kind's code, as it stands.
    pub kind: u8,
    /// Payload bytes.
    pub len: usize,
    /// The checksum that the block claims.
    pub crc: u32,
    /// When the block was written.
    pub time: Nanos,
}

/// Appends one block to `out`.
///
/// # Panics
/// Where the payload exceeds [`MAX_PAYLOAD`]; writers split their work well below it.
pub fn write(out: &mut Vec<u8>, kind: BlockKind, time: Nanos, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "payload of {} bytes", payload.len());
    let mut frame = [0; FRAME_LEN];
    frame[..4].copy_from_slice(&SYNC);
    frame[4] = kind.code();
    frame[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    frame[16..].copy_from_slice(&time.0.to_le_bytes());
    let crc = checksum(&frame, payload);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&frame);
    out.extend_from_slice(payload);
}

/// Reads a frame; `None` where the sync bytes are missing.
pub fn parse(frame: &[u8; FRAME_LEN]) -> Option<Frame> {
    let u32_at = |at: usize| {
        frame.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let time = frame.last_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    frame.starts_with(&SYNC).then(|| Frame {
        kind: frame[4],
        len: u32_at(8) as usize,
        crc: u32_at(12),
        time: Nanos(time),
    })
}

/// The checksum of a block, over everything but the checksum itself.
pub fn checksum(frame: &[u8; FRAME_LEN], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..12]);
    hasher.update(&frame[16..]);
    hasher.update(payload);
    hasher.finalize()
}
