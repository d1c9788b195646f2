//! Tables of descriptors of the library's own threads.
//!
//! Threads share their process's table unless they ask for another. With one of its own the writer's file is in nobody's way:
//! the host cannot close it, does not find it in `/proc/self/fd`, does not pass it on to its children, and may have as many
//! descriptors as before; nor does the writer keep open what the host closes. The other threads have one each: a host that
//! closes all descriptors and opens new ones would else have those closed by a thread that is done with its own. Where the
//! kernel does not allow that, as a sandbox may, descriptors are the process's.
//!
//! ```text
//! the program's thread   create the file ─ start the writer ─ wait ─────────── close the file in the process's table
//! the writer                                  take a copy of the table, close the rest ─┘ write …
//! ```

use crate::{clock, futex};
use libc::{c_int, c_uint};
use prof::Nanos;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::*};

/// Nobody knows yet whose table the writer uses.
const UNKNOWN: u32 = 0;
const SHARED: u32 = 1;
const OWN: u32 = 2;

/// In the child of a fork it is the process's again.
static TABLE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// How long the start of tracing waits for the writer's first steps.
const PATIENCE: Nanos = Nanos(1_000_000_000);

/// On the writer's thread, before it opens anything: leaves the process's table for one in which only `kept` is open.
pub fn separate(kept: Option<RawFd>) {
    let table = if leave(kept) { OWN } else { SHARED };
    TABLE.store(table, Release);
    futex::wake(&TABLE);
}

/// Whether the writer has left the process's table.
pub fn are_separate() -> bool {
    TABLE.load(Acquire) == OWN
}

/// Waits until the writer has left the process's table or cannot, but not for ever. Whether it has left.
pub fn wait_until_separate() -> bool {
    futex::wait_while(&TABLE, UNKNOWN, Nanos(clock::now().0 + PATIENCE.0));
    are_separate()
}

/// In a forked child: its writer will begin with the process's table.
pub fn forked() {
    TABLE.store(UNKNOWN, Release);
}

/// Leaves the table that the calling thread shares for one in which only `kept` is open. Whether the kernel allows that.
pub fn leave(kept: Option<RawFd>) -> bool {
    match kept.and_then(|kept| c_uint::try_from(kept).ok()) {
        None => close_range(0, c_uint::MAX),
        // What lies above is closed in the new table.
        Some(0) => close_range(1, c_uint::MAX),
        Some(kept) => close_range(0, kept - 1) && close_range(kept + 1, c_uint::MAX),
    }
}

/// Closes descriptors in a table of this thread's own, which is made where there is none. Since Linux 5.9; before, nothing
/// closes them at once, and they may be a million.
fn close_range(first: c_uint, last: c_uint) -> bool {
    // SAFETY: with the flag the call concerns descriptors of this thread only, which has opened none but the one left out.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_UNSHARE) == 0 }
}

/// A copy of one of the process's descriptors for a thread that has left its table.
pub fn of_process(descriptor: c_int) -> Option<OwnedFd> {
    // SAFETY: the calls make descriptors that nobody else has, or fail.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0);
        let process = (process >= 0).then(|| OwnedFd::from_raw_fd(process as RawFd))?;
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0);
        (copy >= 0).then(|| OwnedFd::from_raw_fd(copy as RawFd))
    }
}
