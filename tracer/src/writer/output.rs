//! The file.

use prof::{BlockKind, Header, Nanos, RunId, block};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Descriptors from here on are rarely the host's.
const HIGH_DESCRIPTOR: i32 = 500;

/// Bytes that are collected before they are written.
const FULL: usize = 256 << 10;

/// The file and what is yet to be written to it.
pub struct Output {
    path: String,
    file: File,
    /// Device and inode: a descriptor that the host closed may become some other file's.
    identity: (u64, u64),
    pending: Vec<u8>,
}

impl Output {
    /// Creates the file and writes its header; an older file of that name is replaced.
    ///
    /// # Errors
    /// From the system. A file that could be created but not written is removed again.
    pub fn create(path: &str, run: RunId) -> io::Result<Output> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let file = high(file)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let pending = Header::new(run).to_bytes().to_vec();
        let mut output = Output { path: path.into(), file, identity, pending };
        if let Err(error) = output.flush() {
            if metadata.is_file() {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        Ok(output)
    }

    /// As it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's descriptor.
    pub fn descriptor(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Appends a block, to be written with the next flush.
    pub fn block(&mut self, kind: BlockKind, time: Nanos, payload: &[u8]) {
        let largest = block::MAX_PAYLOAD;
        debug_assert!(payload.len() <= largest, "payload of {} bytes", payload.len());
        block::write(&mut self.pending, kind, time, payload);
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// From the system, or where the descriptor is not our file any more.
    pub fn flush(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.identity {
            return Err(io::Error::other("the process closed the descriptor"));
        }
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending once it is worth a system call.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_when_full(&mut self) -> io::Result<()> {
        if self.pending.len() < FULL { Ok(()) } else { self.flush() }
    }
}

/// Moves the file to a high descriptor, where there is one, out of the way of hosts that count on low ones.
fn high(file: File) -> io::Result<File> {
    // SAFETY: duplicates a descriptor that is open.
    let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR) };
    if copy < 0 {
        return Ok(file);
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}
