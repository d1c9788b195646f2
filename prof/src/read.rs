//! Reads a stream block by block, in bounded memory.

use crate::block::{self, BlockKind, Frame};
use crate::header::{self, Header};
use crate::{Nanos, Records};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Where and why reading stopped before the end of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The data ends inside a block: the process was killed, or the file was copied while it was written.
    Cut {
        /// Where the unfinished block starts, in bytes.
        offset: u64,
        /// How much of it is there, in bytes.
        bytes: u64,
    },
    /// The data is not what was written.
    Corrupt {
        /// Where, in bytes.
        offset: u64,
        /// What is wrong there.
        what: What,
    },
}

/// What is wrong at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The bytes that start every block are missing.
    Sync,
    /// The checksum differs.
    Checksum,
    /// A packed payload cannot be unpacked.
    Packing,
    /// A block claims more bytes than any has.
    Length(u64),
    /// A block of a kind that this version does not have.
    BlockKind(u8),
    /// A record of a kind that this version does not have.
    RecordKind(u8),
    /// A record or event that breaks its own rules.
    Malformed(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Damage::Cut { offset, bytes } => {
                write!(f, "block at offset {offset:#x}: the file ends after {bytes} of its bytes")
            }
            Damage::Corrupt { offset, what } => match what {
                What::Sync => write!(f, "block at offset {offset:#x}: no block starts here"),
                What::Checksum => write!(f, "block at offset {offset:#x}: checksum mismatch"),
                What::Packing => write!(f, "block at offset {offset:#x}: its payload cannot be unpacked"),
                What::Length(len) => write!(f, "block at offset {offset:#x}: impossible length {len}"),
                What::BlockKind(kind) => write!(f, "block at offset {offset:#x}: unknown kind {kind:#04x}"),
                What::RecordKind(kind) => write!(f, "record at offset {offset:#x}: unknown kind {kind:#04x}"),
                What::Malformed(what) => write!(f, "record at offset {offset:#x}: {what}"),
            },
        }
    }
}

/// Why a stream, or the rest of it, cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// From the system.
    Io(io::Error),
    /// The file has no bytes.
    Empty,
    /// It does not start as a profile does.
    Foreign,
    /// It is a profile of a later version.
    Newer(u32),
    /// What precedes the damage has been read.
    Damaged(Damage),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{error}"),
            ReadError::Empty => write!(f, "the file is empty"),
            ReadError::Foreign => write!(f, "not a profile: bad magic at offset 0x0"),
            ReadError::Newer(version) => write!(
                f,
                "format version {version} at offset 0x8 is newer than this analyzer's {}",
                header::VERSION
            ),
            ReadError::Damaged(damage) => write!(f, "{damage}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// A block whose checksum was right.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// What the payload consists of.
    pub kind: BlockKind,
    /// When it was written.
    pub time: Nanos,
    /// Where its payload starts in the file, in bytes.
    pub payload_offset: u64,
    /// Bytes that its payload takes in the file, packed or not.
    pub payload_len: u64,
    /// Whether the payload stands in the file as it is.
    pub is_plain: bool,
    /// The content, unpacked, where it has been read.
    pub payload: &'a [u8],
}

impl<'a> Block<'a> {
    /// The payload as records.
    pub fn records(&self) -> Records<'a> {
        Records::new(self.time, self.payload)
    }
}

/// Reads blocks off any source of bytes; it buffers one block, so the source need not be buffered much.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    offset: u64,
    payload: Vec<u8>,
    packed: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where the source fails, or is no profile that this version can read.
    pub fn new(mut source: R) -> Result<Reader<R>, ReadError> {
        let mut bytes = [0; header::LEN];
        match fill(&mut source, &mut bytes)? {
            0 => return Err(ReadError::Empty),
            header::LEN => {}
            n if bytes[..n.min(8)] == header::MAGIC[..n.min(8)] => {
                return Err(ReadError::Damaged(Damage::Cut { offset: 0, bytes: n as u64 }));
            }
            _ => return Err(ReadError::Foreign),
        }
        let header = Header::from_bytes(&bytes).ok_or(ReadError::Foreign)?;
        if header.version > header::VERSION {
            return Err(ReadError::Newer(header.version));
        }
        Ok(Reader { source, header, offset: header::LEN as u64, payload: Vec::new(), packed: Vec::new() })
    }

    /// The file's header.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Bytes read so far that were sound.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next block; `None` where the data ends between two blocks.
    ///
    /// # Errors
    /// Where the source fails or the data is damaged. There is no reading on after that.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, ReadError> {
        match self.frame()? {
            Some((bytes, frame)) => self.checked(&bytes, &frame).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the payload that belongs to a frame.
    fn checked(&mut self, bytes: &[u8; block::FRAME_LEN], frame: &Frame) -> Result<Block<'_>, ReadError> {
        let offset = self.offset;
        let corrupt = |what| ReadError::Damaged(Damage::Corrupt { offset, what });
        self.payload.clear();
        self.payload.reserve_exact(frame.len);
        let got = (&mut self.source).take(frame.len as u64).read_to_end(&mut self.payload)?;
        if got < frame.len {
            let bytes = (block::FRAME_LEN + got) as u64;
            return Err(ReadError::Damaged(Damage::Cut { offset, bytes }));
        }
        if block::checksum(bytes, &self.payload) != frame.crc {
            return Err(corrupt(What::Checksum));
        }
        if !frame.is_plain() {
            std::mem::swap(&mut self.payload, &mut self.packed);
            if block::unpack(frame.packing, &self.packed, &mut self.payload).is_none() {
                return Err(corrupt(What::Packing));
            }
        }
        let kind = BlockKind::from_code(frame.kind).ok_or(corrupt(What::BlockKind(frame.kind)))?;
        Ok(self.block(kind, frame))
    }

    /// Reads the next block's frame; `None` where the data ends before it.
    fn frame(&mut self) -> Result<Option<([u8; block::FRAME_LEN], Frame)>, ReadError> {
        let offset = self.offset;
        let corrupt = |what| ReadError::Damaged(Damage::Corrupt { offset, what });
        let mut bytes = [0; block::FRAME_LEN];
        match fill(&mut self.source, &mut bytes)? {
            0 => return Ok(None),
            block::FRAME_LEN => {}
            n if bytes[..n.min(4)] == block::SYNC[..n.min(4)] => {
                return Err(ReadError::Damaged(Damage::Cut { offset, bytes: n as u64 }));
            }
            _ => return Err(corrupt(What::Sync)),
        }
        let frame = block::parse(&bytes).ok_or(corrupt(What::Sync))?;
        if frame.len > block::MAX_PAYLOAD {
            return Err(corrupt(What::Length(frame.len as u64)));
        }
        Ok(Some((bytes, frame)))
    }

    /// The block whose payload has been read, or passed over.
    fn block(&mut self, kind: BlockKind, frame: &Frame) -> Block<'_> {
        let payload_offset = self.offset + block::FRAME_LEN as u64;
        self.offset = payload_offset + frame.len as u64;
        Block {
            kind,
            time: frame.time,
            payload_offset,
            payload_len: frame.len as u64,
            is_plain: frame.is_plain(),
            payload: &self.payload,
        }
    }

    /// Gives away the last block's payload, and goes on with `buffer`.
    pub fn exchange(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.payload, buffer)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// As [`next_block`](Self::next_block), but passes over the payload of a block of events: it is empty then, and
    /// its checksum not compared. [`offset`](Self::offset) counts it as read.
    ///
    /// # Errors
    /// As `next_block`.
    pub fn next_records(&mut self) -> Result<Option<Block<'_>>, ReadError> {
        let offset = self.offset;
        let Some((bytes, frame)) = self.frame()? else { return Ok(None) };
        if BlockKind::from_code(frame.kind) != Some(BlockKind::Events) {
            return self.checked(&bytes, &frame).map(Some);
        }
        self.payload.clear();
        let end = offset + (block::FRAME_LEN + frame.len) as u64;
        // The last byte must be there.
        self.source.seek(SeekFrom::Start(end - 1))?;
        if fill(&mut self.source, &mut [0])? == 0 {
            let bytes = self.source.seek(SeekFrom::End(0))?.saturating_sub(offset);
            return Err(ReadError::Damaged(Damage::Cut { offset, bytes }));
        }
        Ok(Some(self.block(BlockKind::Events, &frame)))
    }
}

/// Reads until `out` is full or the source ends, and says how far it came.
fn fill(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < out.len() {
        match source.read(&mut out[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
