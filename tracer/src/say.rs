//! The only place that speaks to the person: one line on stderr, straight to the descriptor.

use std::os::fd::RawFd;
use std::sync::OnceLock;

/// Device and inode of what stderr was when the library started.
static STDERR: OnceLock<Option<(u64, u64)>> = OnceLock::new();

/// Notes what stderr is: a host that closes it may open another file under its number.
pub fn remember_stderr() {
    STDERR.get_or_init(|| identity(libc::STDERR_FILENO));
}

/// Writes `libtrace: <text>`, without buffering or allocation, unless stderr is something else by now.
pub fn line(text: &str) {
    line_to(libc::STDERR_FILENO, text);
}

/// As [`line`], for a thread in whose table stderr has this number.
pub fn line_to(stderr: RawFd, text: &str) {
    let now = identity(stderr);
    if now.is_none() || STDERR.get().is_some_and(|then| *then != now) {
        return;
    }
    let part = |text: &str| libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    let line = [part("libtrace: "), part(text), part("\n")];
    // SAFETY: the parts are of texts that live; they are only read. A full descriptor only makes the call fail.
    // As a bare system call it is no cancellation point of the host's thread.
    unsafe { libc::syscall(libc::SYS_writev, stderr, line.as_ptr(), line.len()) };
}

/// Device and inode.
fn identity(descriptor: RawFd) -> Option<(u64, u64)> {
    // SAFETY: zero bytes are a valid `stat`, and a valid place for the result.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &mut status) == 0).then_some((status.st_dev, status.st_ino))
    }
}
