//! The first 32 bytes of a file.
//!
//! ```text
//!  0  8  magic: 89 'p' 'r' 'o' 'f' 0d 0a 1a
//!  8  4  version, little-endian
//! 12  4  zero
//! 16 16  run id
//! ```

/// Not text, not truncated to 7 bits, not through a line-ending conversion.
pub const MAGIC: [u8; 8] = *b"\x89prof\r\n\x1a";

/// The version this crate writes and the newest it reads.
pub const VERSION: u32 = 1;

/// Bytes of the header.
pub const LEN: usize = 32;

/// Random, chosen once per traced process: two files with one run id are of the same process.
pub type RunId = [u8; 16];

/// The header's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The format's version.
    pub version: u32,
    /// The process run that the file is of.
    pub run: RunId,
}

impl Header {
    /// A header of the present version.
    pub fn new(run: RunId) -> Header {
        Header { version: VERSION, run }
    }

    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[16..].copy_from_slice(&self.run);
        out
    }

    /// Reads what [`Header::to_bytes`] wrote; `None` where the magic is another's.
    pub fn from_bytes(bytes: &[u8; LEN]) -> Option<Header> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let run = rest.last_chunk::<16>()?;
        (*magic == MAGIC).then(|| Header { version: u32::from_le_bytes(*version), run: *run })
    }
}
