//! The file.

use prof::block::{self, Packer};
use prof::{BlockKind, Header, Nanos, RunId};
use std::fs::{File, OpenOptions, TryLockError};
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
    packer: Packer,
    /// Nothing could be written so far.
    is_empty: bool,
}

impl Output {
    /// Creates the file; an older file of that name is replaced. Where another process is writing it, as when a traced
    /// shell starts a traced program, the process id is put into the name. Nothing is written yet.
    ///
    /// # Errors
    /// From the system.
    pub fn create(path: &str, run: RunId) -> io::Result<Output> {
        let (path, file) = match open(path)? {
            Some(file) => (path.to_owned(), file),
            None => {
                let own = with_process_id(path);
                let file = open(&own)?.ok_or_else(|| io::Error::other("the file is locked"))?;
                (own, file)
            }
        };
        file.set_len(0).or_else(|error| if file.metadata()?.is_file() { Err(error) } else { Ok(()) })?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let pending = Header::new(run).to_bytes().to_vec();
        Ok(Output { path, file, identity, pending, packer: Packer::default(), is_empty: true })
    }

    /// Where it is.
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
        self.packer.write(&mut self.pending, kind, time, payload);
    }

    /// Writes what is pending. A file to which nothing at all could be written is removed.
    ///
    /// # Errors
    /// From the system, or where the descriptor is not our file any more.
    pub fn flush(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.identity {
            return Err(io::Error::other("the process closed the descriptor"));
        }
        let written = self.file.write_all(&self.pending);
        if written.is_err() && self.is_empty && metadata.is_file() && metadata.len() == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
        written?;
        self.is_empty = false;
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

/// Opens the file and locks it; `None` where another process has done so. The lock goes with the process.
fn open(path: &str) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let file = high(file)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks is no reason not to trace.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// `run.prof` becomes `run.4711.prof`.
fn with_process_id(path: &str) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name..].rfind('.').map_or(path.len(), |dot| name + dot);
    format!("{}.{}{}", &path[..dot], std::process::id(), &path[dot..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.prof");
        let path = path.to_str().unwrap();
        std::fs::write(path, "an older file, longer than a header, which is replaced").unwrap();
        let mut first = Output::create(path, [1; 16]).unwrap();
        first.flush().unwrap();
        let mut second = Output::create(path, [2; 16]).unwrap();
        second.flush().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), Header::new([1; 16]).to_bytes());
        let own = format!("{}/run.{}.prof", folder.path().display(), std::process::id());
        assert_eq!(second.path(), own);
        assert_eq!(std::fs::read(own).unwrap(), Header::new([2; 16]).to_bytes());
        drop(first);
        assert_eq!(Output::create(path, [3; 16]).unwrap().path(), path);
    }

    #[test]
    fn the_process_id_goes_before_the_extension() {
        let id = std::process::id();
        assert_eq!(with_process_id("a.b/run"), format!("a.b/run.{id}"));
        assert_eq!(with_process_id("run.1.prof"), format!("run.1.{id}.prof"));
    }
}
