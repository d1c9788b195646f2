//! How far the file is, for who asks while the writer may be waiting for the disk.

use crate::clock;
use prof::Nanos;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};

static WRITTEN: AtomicU64 = AtomicU64::new(0);
static COMPLETE: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static IS_AUTO: AtomicBool = AtomicBool::new(false);

/// The file; never freed, since another thread may be reading it.
static FILE: AtomicPtr<File> = AtomicPtr::new(std::ptr::null_mut());

struct File {
    path: String,
    begin: Nanos,
    age: Nanos,
}

/// What the file has.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Where it is, from the root on.
    pub path: String,
    /// Bytes.
    pub written: u64,
    /// Everything before this instant is in it.
    pub complete: Nanos,
    /// Events that it says were lost.
    pub lost: u64,
    /// Whether the interval is the budget's to choose.
    pub is_auto: bool,
    begin: Nanos,
    age: Nanos,
}

impl Progress {
    /// Since the process started; a forked child starts with its fork.
    pub fn since_start(&self, time: Nanos) -> Nanos {
        Nanos(self.age.0 + time.0.saturating_sub(self.begin.0))
    }
}

/// The present state.
pub fn progress() -> Progress {
    // SAFETY: null, or from a box that is never freed.
    let file = unsafe { FILE.load(Acquire).as_ref() };
    Progress {
        path: file.map_or_else(String::new, |file| file.path.clone()),
        written: WRITTEN.load(Relaxed),
        complete: Nanos(COMPLETE.load(Relaxed)),
        lost: LOST.load(Relaxed),
        is_auto: IS_AUTO.load(Relaxed),
        begin: file.map_or(clock::now(), |file| file.begin),
        age: file.map_or(Nanos(0), |file| file.age),
    }
}

/// A file is begun: of a process that was so old at an instant.
pub fn begun(path: String, age: Nanos, begin: Nanos) {
    LOST.store(0, Relaxed);
    FILE.store(Box::into_raw(Box::new(File { path, begin, age })), Release);
}

/// Something has been written: so many bytes in all, everything up to an instant.
pub fn advanced(written: u64, complete: Nanos) {
    WRITTEN.store(written, Relaxed);
    COMPLETE.store(complete.0, Relaxed);
}

/// So many events are said to be lost, in all.
pub fn lost(events: u64) {
    LOST.store(events, Relaxed);
}

/// Who chooses the interval from now on.
pub fn chooses(is_auto: bool) {
    IS_AUTO.store(is_auto, Relaxed);
}
