//! The frame around every piece of the stream.
//!
//! ```text
//!  0  4  sync: 'b' 'l' 'k' a7
//!  4  1  kind
//!  5  1  0: the payload stands as it is; 1: packed
//!  6  2  zero
//!  8  4  bytes that follow the frame
//! 12  4  CRC-32 (IEEE) of bytes 0..12, 16..24 and the bytes that follow
//! 16  8  time of writing, nanoseconds since the start of tracing
//! 24  …  payload; packed: its length (4 bytes) and an LZ4 block
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
    /// How the payload stands, as a code.
    pub packing: u8,
    /// Bytes that follow the frame.
    pub len: usize,
    /// The checksum that the block claims.
    pub crc: u32,
    /// When the block was written.
    pub time: Nanos,
}

/// Appends one block to `out`, as it is.
///
/// # Panics
/// Where the payload exceeds [`MAX_PAYLOAD`]; writers split their work well below it.
pub fn write(out: &mut Vec<u8>, kind: BlockKind, time: Nanos, payload: &[u8]) {
    put(out, kind, PLAIN, time, [payload, &[]]);
}

/// The codes of [`Frame::packing`].
const PLAIN: u8 = 0;
const LZ4: u8 = 1;

fn put(out: &mut Vec<u8>, kind: BlockKind, packing: u8, time: Nanos, parts: [&[u8]; 2]) {
    let len = parts.map(<[u8]>::len).iter().sum::<usize>();
    assert!(len <= MAX_PAYLOAD, "payload of {len} bytes");
    let mut frame = [0; FRAME_LEN];
    frame[..4].copy_from_slice(&SYNC);
    frame[4] = kind.code();
    frame[5] = packing;
    frame[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    frame[16..].copy_from_slice(&time.0.to_le_bytes());
    let crc = checksum_of(&frame, parts);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
    out.reserve(FRAME_LEN + len);
    out.extend_from_slice(&frame);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Writes blocks packed, where that is worth its time: after payloads that do not become a quarter smaller, some are not
/// tried.
#[derive(Clone, Debug, Default)]
pub struct Packer {
    packed: Vec<u8>,
    /// A payload that came in two parts.
    joined: Vec<u8>,
    /// Payloads in a row that did not become smaller by that.
    failures: u32,
    /// How many are not tried.
    skipped: u32,
}

impl Packer {
    /// Appends one block to `out`.
    ///
    /// # Panics
    /// As [`write`].
    pub fn write(&mut self, out: &mut Vec<u8>, kind: BlockKind, time: Nanos, payload: &[u8]) {
        self.write_parts(out, kind, time, [&[], payload]);
    }

    /// As [`write`](Self::write), for a payload in two parts, which are joined only where it is tried.
    ///
    /// # Panics
    /// As [`write`].
    pub fn write_parts(&mut self, out: &mut Vec<u8>, kind: BlockKind, time: Nanos, parts: [&[u8]; 2]) {
        const SHORTEST: usize = 256;
        const MOST_SKIPPED: u32 = 32;
        let [head, rest] = parts;
        let len = head.len() + rest.len();
        if len < SHORTEST || self.skipped > 0 {
            self.skipped = self.skipped.saturating_sub(u32::from(len >= SHORTEST));
            return put(out, kind, PLAIN, time, parts);
        }
        let payload = if head.is_empty() {
            rest
        } else {
            self.joined.clear();
            parts.iter().for_each(|part| self.joined.extend_from_slice(part));
            &self.joined
        };
        self.packed.resize(4 + lz4_flex::block::get_maximum_output_size(payload.len()), 0);
        self.packed[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let len = lz4_flex::block::compress_into(payload, &mut self.packed[4..]);
        match len.map(|len| 4 + len) {
            Ok(len) if len <= payload.len() / 4 * 3 => {
                self.failures = 0;
                put(out, kind, LZ4, time, [&self.packed[..len], &[]]);
            }
            _ => {
                self.failures = (self.failures + 1).min(MOST_SKIPPED.ilog2());
                self.skipped = (1 << self.failures) - 1;
                put(out, kind, PLAIN, time, parts);
            }
        }
    }
}

/// Makes the payload of a block from the bytes that follow its frame, in `out`; `None` where they are not what was written.
pub fn unpack(packing: u8, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    /// LZ4 turns a byte into so many at most.
    const MOST_TIMES: usize = 255;
    out.clear();
    let (len, packed) = bytes.split_first_chunk::<4>().filter(|_| packing == LZ4)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_PAYLOAD || len > packed.len().saturating_mul(MOST_TIMES) {
        return None;
    }
    out.resize(len, 0);
    let written = lz4_flex::block::decompress_into(packed, out).ok()?;
    (written == len).then_some(())
}

impl Frame {
    /// Whether the payload stands as it is.
    pub fn is_plain(&self) -> bool {
        self.packing == PLAIN
    }
}

/// Reads a frame; `None` where the sync bytes are missing.
pub fn parse(frame: &[u8; FRAME_LEN]) -> Option<Frame> {
    let u32_at = |at: usize| {
        frame.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let time = frame.last_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    frame.starts_with(&SYNC).then(|| Frame {
        kind: frame[4],
        packing: frame[5],
        len: u32_at(8) as usize,
        crc: u32_at(12),
        time: Nanos(time),
    })
}

/// The checksum of a block, over everything but the checksum itself.
pub fn checksum(frame: &[u8; FRAME_LEN], payload: &[u8]) -> u32 {
    checksum_of(frame, [payload, &[]])
}

fn checksum_of(frame: &[u8; FRAME_LEN], parts: [&[u8]; 2]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..12]);
    hasher.update(&frame[16..]);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            parts in prop::collection::vec((any::<u8>(), 0..2000usize), 0..10),
            split in 0..300usize,
        ) {
            let payload: Vec<u8> =
                parts.iter().flat_map(|(seed, len)| (0..*len).map(move |i| (i % 7) as u8 ^ seed)).collect();
            let mut out = Vec::new();
            Packer::default().write(&mut out, BlockKind::Events, Nanos(5), &payload);
            let mut in_parts = Vec::new();
            let (head, rest) = payload.split_at(payload.len().min(split));
            Packer::default().write_parts(&mut in_parts, BlockKind::Events, Nanos(5), [head, rest]);
            prop_assert_eq!(&in_parts, &out);
            let frame = parse(out.first_chunk().unwrap()).unwrap();
            prop_assert_eq!(frame.len, out.len() - FRAME_LEN);
            prop_assert_eq!(frame.is_plain(), payload.len() < 256);
            let mut unpacked = Vec::new();
            if !frame.is_plain() {
                prop_assert!(frame.len < payload.len());
                prop_assert!(unpack(frame.packing, &out[FRAME_LEN..], &mut unpacked).is_some());
                prop_assert_eq!(unpacked, payload);
            }
        }

        #[test]
        fn unpacking_is_total(packing in 0..3u8, len in 0..100_000u32, bytes: Vec<u8>) {
            let mut all = len.to_le_bytes().to_vec();
            all.extend_from_slice(&bytes);
            let mut out = Vec::new();
            if unpack(packing, &all, &mut out).is_some() {
                prop_assert_eq!((packing, out.len()), (LZ4, len as usize));
            }
            prop_assert!(out.capacity() <= 255 * all.len());
        }
    }

    #[test]
    fn what_does_not_become_smaller_is_rarely_tried() {
        let mut packer = Packer::default();
        let mut seed = 1u64;
        let mut random = || {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            };
            (0..1000).map(|_| next()).collect::<Vec<_>>()
        };
        let mut out = Vec::new();
        for _ in 0..100 {
            packer.write(&mut out, BlockKind::Events, Nanos(0), &random());
        }
        assert_eq!(out.len(), 100 * (1000 + FRAME_LEN));
        let skipped = packer.skipped;
        assert!(skipped > 0);
        for _ in 0..skipped {
            packer.write(&mut out, BlockKind::Events, Nanos(0), &random());
        }
        out.clear();
        packer.write(&mut out, BlockKind::Events, Nanos(0), &[7; 1000]);
        assert!(out.len() < 100);
    }
}
