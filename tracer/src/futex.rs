//! Threads of this process that wait for a word to change.

use crate::clock;
use prof::Nanos;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// Sleeps while `word` holds `value`, until it is woken, for at most `most`; may also wake for no reason.
pub fn sleep(word: &AtomicU32, value: u32, most: Nanos) {
    const WAIT: i32 = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let limit = clock::timespec(most);
    // SAFETY: waits on an address of ours while it holds `value`, with a valid time limit.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), WAIT, value, &limit) };
}

/// Wakes all that sleep. Changes errno where it fails, which it does not.
pub fn wake(word: &AtomicU32) {
    const WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: wakes sleepers on an address of ours.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), WAKE, i32::MAX) };
}

/// Sleeps until `word` holds something else, but not longer than up to an instant. Whether it does.
pub fn wait_while(word: &AtomicU32, value: u32, deadline: Nanos) -> bool {
    while word.load(Acquire) == value {
        let left = deadline.0.saturating_sub(clock::now().0);
        if left == 0 {
            return false;
        }
        sleep(word, value, Nanos(left));
    }
    true
}
