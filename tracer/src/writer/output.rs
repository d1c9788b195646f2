//! The file.

use super::facts::start_ticks;
use crate::safepoint;
use prof::block::{self, Packer};
use prof::{BlockKind, Header, Nanos, Record, RunId};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::*};

/// Descriptors from here on are rarely the host's.
const HIGH_DESCRIPTOR: i32 = 500;

/// Bytes that are collected before they are written.
const FULL: usize = 256 << 10;

/// Descriptor, device and inode of the process's file; a forked child has to close its copy.
static OPEN: (AtomicI32, AtomicU64, AtomicU64) = (AtomicI32::new(-1), AtomicU64::new(0), AtomicU64::new(0));

/// The file and what is yet to be written to it.
pub struct Output {
    path: String,
    /// Where the process was when it was made.
    directory: PathBuf,
    run: RunId,
    /// `None` where it is another process's.
    file: Option<Handle>,
    /// Device and inode: a descriptor that the host closed may become some other file's.
    identity: (u64, u64),
    pending: Vec<u8>,
    packer: Packer,
    /// Bytes of the file so far.
    written: u64,
    /// Nothing could be written so far.
    is_empty: bool,
}

/// A file whose descriptor the host may close at any time: that is no defect of ours, for which `File` takes it.
struct Handle(ManuallyDrop<File>);

impl Handle {
    /// Leaves the descriptor to whoever has it now.
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Deref for Handle {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours, or closed already, or, for a moment that nobody can exclude, the host's.
        unsafe { libc::close(self.as_raw_fd()) };
    }
}

/// What a forked child knows of its parent's file.
pub struct Parent {
    /// The parent's run.
    pub run: RunId,
    /// Where it is, from the root on.
    pub path: String,
    /// How much of it had been written.
    pub written: u64,
    /// The blocks that had not.
    pub pending: Vec<u8>,
}

impl Output {
    /// Creates the file; an older file of that name is replaced. Where another process is writing it, as when a traced
    /// shell starts a traced program, the process id is put into the name. Nothing is written yet.
    ///
    /// # Errors
    /// From the system.
    pub fn create(path: &str, run: RunId) -> io::Result<Output> {
        while_closing(|| Output::create_now(path, run))
    }

    fn create_now(path: &str, run: RunId) -> io::Result<Output> {
        keep_earlier(path);
        let (path, file) = match open(path)? {
            Some(file) => (path.to_owned(), file),
            None => {
                let own = with(path, std::process::id());
                keep_earlier(&own);
                let file = open(&own)?.ok_or_else(|| io::Error::other("the file is locked"))?;
                (own, file)
            }
        };
        file.set_len(0).or_else(|error| if file.metadata()?.is_file() { Err(error) } else { Ok(()) })?;
        let identity = identity_of(&file)?;
        let pending = Header::new(run).to_bytes().to_vec();
        OPEN.1.store(identity.0, Relaxed);
        OPEN.2.store(identity.1, Relaxed);
        OPEN.0.store(file.as_raw_fd(), Release);
        let directory = std::env::current_dir().unwrap_or_default();
        let (file, packer) = (Some(file), Packer::default());
        Ok(Output { path, directory, run, file, identity, pending, packer, written: 0, is_empty: true })
    }

    /// Its name, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A path as it would have been meant when this file was made.
    pub fn beside(&self, path: &str) -> String {
        self.directory.join(path).to_string_lossy().into_owned()
    }

    /// In a forked child, where the descriptor has been closed: the parent's file as it was. From now on this stands for a
    /// file at `path` that cannot be had.
    pub fn give_up(&mut self, path: String) -> Parent {
        self.file.take().into_iter().for_each(Handle::forget);
        let parent = self.beside(&self.path);
        self.path = path;
        Parent {
            run: self.run,
            path: parent,
            written: self.written,
            pending: std::mem::take(&mut self.pending),
        }
    }

    /// Appends the blocks of events among those that another process has not written yet.
    pub fn event_blocks(&mut self, blocks: &[u8]) {
        let header = Header::new(self.run).to_bytes();
        // They are whole: an error would be a defect.
        let Ok(mut reader) = prof::Reader::new(header.chain(blocks)) else { return };
        while let Ok(Some(block)) = reader.next_block() {
            if block.kind == BlockKind::Events {
                self.packer.write(&mut self.pending, block.kind, block.time, block.payload);
            }
        }
    }

    /// Appends a block, to be written with the next flush.
    pub fn block(&mut self, kind: BlockKind, time: Nanos, payload: &[u8]) {
        let largest = block::MAX_PAYLOAD;
        debug_assert!(payload.len() <= largest, "payload of {} bytes", payload.len());
        self.packer.write(&mut self.pending, kind, time, payload);
    }

    /// Writes what is pending. A file to which nothing at all could be written is removed. Where the process has closed the
    /// descriptor, as daemons close all, the file is opened again.
    ///
    /// # Errors
    /// From the system, or where the file is not at its path any more.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write(|work| safepoint::outside(work))
    }

    /// As [`flush`](Self::flush), but no fork comes in between: a child has to find the beginning of its parent's file, which
    /// says what the parent itself was forked from.
    ///
    /// # Errors
    /// As `flush`.
    pub fn flush_beginning(&mut self) -> io::Result<()> {
        self.write(|work| work())
    }

    fn write(
        &mut self,
        run: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let whole_path = self.beside(&self.path);
        let Output { file, identity, pending, written, is_empty, .. } = self;
        run(&mut || {
            let mut write = || {
                if !file.as_ref().is_some_and(|file| identity_of(file).is_ok_and(|found| found == *identity))
                {
                    // The number may be the host's by now.
                    file.take().into_iter().for_each(Handle::forget);
                    *file = Some(reopen(&whole_path, *identity, *written)?);
                }
                let mut open: &File = file.as_ref().ok_or(io::ErrorKind::NotFound)?;
                open.write_all(pending)
            };
            let done = while_closing(&mut write);
            let Some(file) = file else { return done };
            if done.is_err()
                && *is_empty
                && file.metadata().is_ok_and(|data| data.is_file() && data.len() == 0)
            {
                let _ = std::fs::remove_file(&whole_path);
            }
            done
        })?;
        self.is_empty = false;
        self.written += self.pending.len() as u64;
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
fn open(path: &str) -> io::Result<Option<Handle>> {
    let file = open_high(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks is no reason not to trace.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Tries again where the host is at closing all its descriptors.
fn while_closing<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TIMES: usize = 10;
    let is_closed = |result: &io::Result<T>| {
        result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
    };
    let mut result = work();
    for _ in 1..TIMES {
        if !is_closed(&result) {
            break;
        }
        result = work();
    }
    result
}

/// Device and inode.
fn identity_of(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens the file that was at `path`, to go on behind its first bytes.
fn reopen(path: &str, identity: (u64, u64), written: u64) -> io::Result<Handle> {
    let closed = || io::Error::other("the process closed the descriptor");
    let file = open_high(OpenOptions::new().write(true), path).map_err(|_| closed())?;
    if identity_of(&file)? != identity {
        return Err(closed());
    }
    let _ = file.try_lock();
    (&*file).seek(SeekFrom::Start(written))?;
    OPEN.0.store(file.as_raw_fd(), Release);
    Ok(file)
}

/// `run.prof` becomes `run.4711.prof`.
pub fn with(path: &str, number: u32) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name..].rfind('.').map_or(path.len(), |dot| name + dot);
    format!("{}.{number}{}", &path[..dot], &path[dot..])
}

/// A process that executes another program has left its file behind: it makes room, and `run.prof` becomes `run.1.prof`.
/// Files of other processes are left to be replaced.
fn keep_earlier(path: &str) {
    if is_own(path).is_none_or(|is_own| !is_own) {
        return;
    }
    const MOST: u32 = 1000;
    if let Some(free) = (1..MOST).map(|n| with(path, n)).find(|free| !Path::new(free).exists()) {
        let _ = std::fs::rename(path, free);
    }
}

/// Whether a file says that it is of this process. `None` where it says nothing.
fn is_own(path: &str) -> Option<bool> {
    // Opening something else than a file may have effects.
    std::fs::metadata(path).ok().filter(|metadata| metadata.is_file())?;
    let file = Handle(ManuallyDrop::new(File::open(path).ok()?));
    let mut reader = prof::Reader::new(BufReader::new(&*file)).ok()?;
    let block = reader.next_block().ok()??;
    let facts: Vec<_> = block.records().map_while(Result::ok).collect();
    let fact = |name| {
        facts.iter().find_map(|record| match *record {
            Record::Fact { key, value } if key == name => value.parse::<u64>().ok(),
            _ => None,
        })
    };
    Some((fact("pid")?, fact("process_start_ticks")?) == (std::process::id().into(), start_ticks()?))
}

/// In a forked child: gives up its copy of the descriptor, unless the host has taken the number for something else.
pub fn abandon() {
    let descriptor = OPEN.0.swap(-1, AcqRel);
    // SAFETY: zero bytes are a valid `stat`; the descriptor is closed only where it is still our file's, and the parent's copy
    // stays open.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        let is_ours = descriptor >= 0
            && libc::fstat(descriptor, &mut status) == 0
            && (status.st_dev, status.st_ino) == (OPEN.1.load(Relaxed), OPEN.2.load(Relaxed));
        if is_ours {
            // As a bare system call it is no cancellation point of the host's thread.
            libc::syscall(libc::SYS_close, descriptor);
        }
    }
}

/// Opens a file at a high descriptor, where there is one, out of the way of hosts that count on low ones.
fn open_high(options: &OpenOptions, path: &str) -> io::Result<Handle> {
    let file = Handle(ManuallyDrop::new(options.open(path)?));
    // SAFETY: duplicates a descriptor that is open.
    let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR) };
    if copy < 0 {
        return Ok(file);
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(Handle(ManuallyDrop::new(unsafe { File::from_raw_fd(copy) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prof::RecordWriter;

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
    fn a_descriptor_that_was_closed_and_taken_is_left_to_its_new_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.prof");
        let other = File::create(folder.path().join("other")).unwrap();
        let mut output = Output::create(path.to_str().unwrap(), [1; 16]).unwrap();
        output.flush().unwrap();
        let number = output.file.as_ref().unwrap().as_raw_fd();
        // SAFETY: another file takes the number; the output finds out.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        output.block(BlockKind::Records, Nanos(0), &[]);
        output.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len() as u64, output.written);
        drop(output);
        assert_eq!(other.metadata().unwrap().len(), 0);
        // SAFETY: the number is open, as what it was made.
        let taken = unsafe { File::from_raw_fd(number) };
        assert_eq!(identity_of(&taken).unwrap(), identity_of(&other).unwrap());
    }

    #[test]
    fn the_process_id_goes_before_the_extension() {
        let id = std::process::id();
        assert_eq!(with("a.b/run", id), format!("a.b/run.{id}"));
        assert_eq!(with("run.1.prof", id), format!("run.1.{id}.prof"));
    }

    #[test]
    fn the_file_of_an_earlier_program_of_the_process_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.prof");
        let path = path.to_str().unwrap();
        let write = |pid: u32, text: &str| {
            let mut output = Output::create(path, [1; 16]).unwrap();
            let mut records = RecordWriter::new(Nanos(0));
            let ticks = start_ticks().unwrap().to_string();
            for (key, value) in
                [("pid", pid.to_string().as_str()), ("process_start_ticks", &ticks), ("is", text)]
            {
                records.push(&Record::Fact { key, value });
            }
            output.block(BlockKind::Records, Nanos(0), records.payload());
            output.flush().unwrap();
        };
        let names = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        write(1, "another's");
        write(std::process::id(), "first");
        assert_eq!(names(), ["run.prof"]);
        write(std::process::id(), "second");
        write(std::process::id(), "third");
        assert_eq!(names(), ["run.1.prof", "run.2.prof", "run.prof"]);
        let first = std::fs::read(folder.path().join("run.1.prof")).unwrap();
        assert!(first.windows(5).any(|bytes| bytes == b"first"));
    }
}
