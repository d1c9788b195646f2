//! The file.

use super::descriptors;
use super::facts::start_ticks;
use crate::safepoint;
use prof::block::{self, Packer};
use prof::{BlockKind, Header, Nanos, Record, RecordWriter, RunId};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::*};

/// Descriptors from here on are rarely the host's.
const HIGH_DESCRIPTOR: i32 = 500;

/// Bytes that are collected before they are written.
const FULL: usize = 256 << 10;

/// Descriptor, device and inode of the process's file, where it is in the process's table; a forked child has to close its
/// copy.
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
    /// Neither a pipe nor a device.
    is_regular: bool,
    /// Where the file goes once another follows, from the root on.
    earlier: Option<String>,
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
        Output::begin(path, std::env::current_dir().unwrap_or_default(), run, file)
    }

    fn begin(path: String, directory: PathBuf, run: RunId, file: Handle) -> io::Result<Output> {
        let is_regular = file.metadata()?.is_file();
        file.set_len(0).or_else(|error| if is_regular { Err(error) } else { Ok(()) })?;
        let identity = identity_of(&file)?;
        let output = Output {
            path,
            directory,
            run,
            identity,
            pending: Header::new(run).to_bytes().to_vec(),
            packer: Packer::default(),
            written: 0,
            is_empty: true,
            is_regular,
            earlier: None,
            file: Some(file),
        };
        output.remember();
        Ok(output)
    }

    /// This is the file that a forked child has to close.
    fn remember(&self) {
        OPEN.1.store(self.identity.0, Relaxed);
        OPEN.2.store(self.identity.1, Relaxed);
        self.file.iter().for_each(|file| publish(file));
    }

    /// Bytes of the file so far; 0 where it is none.
    pub fn size(&self) -> u64 {
        if self.is_regular { self.written } else { 0 }
    }

    /// Where this file goes once another follows: the name of the one before, or the first that is free.
    pub fn earlier(&self) -> String {
        let whole = || self.beside(&self.path);
        self.earlier.clone().or_else(|| free_name(&whole())).unwrap_or_else(|| with(&whole(), 1))
    }

    /// Another file of the same stream. Until [`replace`](Self::replace) it has another name.
    ///
    /// # Errors
    /// From the system.
    pub fn next(&self) -> io::Result<Output> {
        let path = format!("{}.next", self.path);
        let begin = || {
            let file = open(&self.beside(&path))?.ok_or_else(|| io::Error::other("the file is locked"))?;
            Output::begin(path.clone(), self.directory.clone(), self.run, file)
        };
        while_closing(begin).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    }

    /// Removes what there is of a file that could not be written as a whole.
    pub fn discard(&self) {
        let _ = std::fs::remove_file(self.beside(&self.path));
    }

    /// Takes the name of `full`, of which this is the next; that one takes the name of the one before. There is a file of
    /// this name at any time. Where somebody has moved it away, it is left there.
    ///
    /// # Errors
    /// From the system, or where the name is another file's by now.
    pub fn replace(&mut self, full: Output) -> io::Result<()> {
        let (own, name) = (self.beside(&self.path), full.beside(&full.path));
        let earlier = full.earlier();
        match std::fs::metadata(&name).map(|found| (found.dev(), found.ino())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(found) if found == full.identity => {
                let _ = std::fs::remove_file(&earlier);
                // Not every file system has a second name for a file.
                std::fs::hard_link(&name, &earlier).or_else(|_| std::fs::rename(&name, &earlier))?;
            }
            Ok(_) => return Err(io::Error::other("another file has taken its name")),
            Err(error) => return Err(error),
        }
        std::fs::rename(own, name)?;
        (self.path, self.earlier) = (full.path.clone(), Some(earlier));
        Ok(())
    }

    /// Makes a block of records that have become many, and goes on with none.
    pub fn spill(&mut self, records: &mut RecordWriter) {
        const MANY: usize = 4 << 20;
        if records.payload().len() > MANY {
            self.block(BlockKind::Records, records.time(), records.payload());
            records.restart(records.time());
        }
    }

    /// Its name, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's descriptor.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.file.as_ref().map(|file| file.as_raw_fd())
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

    /// As [`block`](Self::block), for a stretch of the events of the stream that `index` names.
    pub fn events(&mut self, time: Nanos, index: &[u8], events: &[u8]) {
        self.packer.write_parts(&mut self.pending, BlockKind::Events, time, [index, events]);
    }

    /// Writes what is pending. A file to which nothing at all could be written is removed. Where the process has closed the
    /// descriptor, as daemons close all, the file is opened again.
    ///
    /// # Errors
    /// From the system, or where the file was removed or truncated.
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
        let Output { file, identity, pending, written, is_empty, is_regular, .. } = self;
        run(&mut || {
            let mut write = || {
                let is_same = |file: &Handle| identity_of(file).is_ok_and(|found| found == *identity);
                // Nobody else can close what is in a table of our own.
                if !file.as_ref().is_some_and(|file| descriptors::are_separate() || is_same(file)) {
                    // The number may be the host's by now.
                    file.take().into_iter().for_each(Handle::forget);
                    *file = Some(reopen(&whole_path, *identity, *written)?);
                }
                let mut open: &File = file.as_ref().ok_or(io::ErrorKind::NotFound)?;
                if *is_regular {
                    expect_whole(open, &whole_path, *written)?;
                }
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
    // Opening a pipe that nobody reads waits for a reader, and writing to it does not, or fails.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NONBLOCK);
    let file = open_high(&options, path)?;
    // SAFETY: changes the flags of a descriptor that is open, of a file that nobody else has opened.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
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

/// What is written to a file without a name is lost, and what is written behind the end of one cannot be read.
fn expect_whole(file: &File, path: &str, written: u64) -> io::Result<()> {
    let found = match file.metadata() {
        Ok(found) => found,
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Err(error),
        // A sandbox may forbid the question.
        Err(_) => return Ok(()),
    };
    // Some file systems never count names.
    let is_named = || std::fs::metadata(path).is_ok_and(|named| named.ino() == found.ino());
    if found.nlink() == 0 && !is_named() {
        return Err(io::Error::other("the file was removed"));
    }
    if found.len() < written {
        return Err(io::Error::other("the file was truncated"));
    }
    Ok(())
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
    publish(&file);
    Ok(file)
}

/// Notes a descriptor that the process's other threads share.
fn publish(file: &File) {
    if !descriptors::are_separate() {
        OPEN.0.store(file.as_raw_fd(), Release);
    }
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
    if let Some(free) = free_name(path) {
        let _ = std::fs::rename(path, free);
    }
}

/// `run.1.prof`, or the first number that is free.
fn free_name(path: &str) -> Option<String> {
    const MOST: u32 = 1000;
    (1..MOST).map(|n| with(path, n)).find(|free| !Path::new(free).exists())
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

/// In a forked child, and where the writer has a table of its own: gives up the process's copy of the descriptor, unless the
/// host has taken the number for something else.
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
#[path = "output_tests.rs"]
mod tests;
