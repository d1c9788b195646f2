//! Which memory a walk may read: the thread's own stack where the stack pointer is on it; else pages that the kernel
//! says are readable, one after the other (coroutines, alternate signal stacks, threads of unknown origin).

use crate::x86_64::local::Local;

const PAGE: u64 = 4096;

/// A foreign stack is followed this far, in bytes.
const FOREIGN_LIMIT: u64 = 4 << 20;

/// Readable memory, `low..high`.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    own: (u64, u64),
    low: u64,
    high: u64,
    /// How far `high` may still grow.
    limit: u64,
}

impl Window {
    /// The window for a walk that starts at `rsp`; empty where not even that can be read.
    pub fn at(local: &Local, rsp: u64) -> Window {
        let mut window =
            Window { own: (local.stack_low.get(), local.stack_high.get()), low: 0, high: 0, limit: 0 };
        window.enter(rsp);
        window
    }

    /// Moves the window to the stack that `rsp` lies on.
    pub fn enter(&mut self, rsp: u64) {
        let (low, high) = self.own;
        if (low..high).contains(&rsp) {
            (self.low, self.high, self.limit) = (rsp, high, high);
        } else {
            let page = rsp & !(PAGE - 1);
            let end = if readable(page) { page.saturating_add(PAGE) } else { page };
            (self.low, self.high, self.limit) = (rsp, end.max(rsp), rsp.saturating_add(FOREIGN_LIMIT));
        }
    }

    /// Whether eight bytes at `at` can be read.
    #[inline]
    pub fn covers(&mut self, at: u64) -> bool {
        at >= self.low && at <= self.high.wrapping_sub(8) && self.high >= 8 || self.grow(at)
    }

    #[cold]
    fn grow(&mut self, at: u64) -> bool {
        let Some(end) = at.checked_add(8).filter(|&end| at >= self.low && end <= self.limit) else {
            return false;
        };
        while self.high < end {
            if !readable(self.high) {
                self.limit = self.high;
                return false;
            }
            self.high += PAGE;
        }
        true
    }

    /// Reads eight bytes of the stack.
    #[inline]
    pub fn load(&mut self, at: u64) -> Option<u64> {
        if !self.covers(at) {
            return None;
        }
        // SAFETY: the bytes lie in the window: on this thread's own stack above its stack pointer, which is mapped, or
        // on a page that the kernel has just read. Alignment is not assumed.
        Some(unsafe { (at as *const u64).read_unaligned() })
    }
}

/// Asks the kernel to read a signal mask at `page`. The mask is never used: the request that goes with it is not valid,
/// which the kernel notices after reading.
fn readable(page: u64) -> bool {
    const INVALID: libc::c_int = -1;
    if page < PAGE {
        // A null mask is not read at all.
        return false;
    }
    // SAFETY: the kernel reads the memory, or refuses to; nothing is written. errno is the thread's own, and put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::syscall(libc::SYS_rt_sigprocmask, INVALID, page, 0usize, 8usize);
        let fault = *errno == libc::EFAULT;
        *errno = before;
        !fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86_64::local::local;

    #[test]
    fn foreign_pages_are_read_up_to_the_first_unreadable_one() {
        // SAFETY: three pages of our own; the last is made unreadable.
        let base = unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                3 * PAGE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::mprotect(base.byte_add(2 * PAGE as usize), PAGE as usize, libc::PROT_NONE);
            base as u64
        };
        let mut window = Window::at(local(), base + 16);
        assert_eq!(window.load(base + 16), Some(0));
        assert_eq!(window.load(base + 8), None);
        assert_eq!(window.load(base + PAGE - 4), Some(0));
        assert_eq!(window.load(base + 2 * PAGE - 8), Some(0));
        assert_eq!(window.load(base + 2 * PAGE - 4), None);
        assert_eq!(window.load(base + 2 * PAGE), None);
        assert_eq!(window.load(u64::MAX - 3), None);
        assert_eq!(Window::at(local(), 64).load(64), None);
    }
}
