//! Which memory a walk may read: the thread's own stack where the stack pointer is on it; else pages that the kernel
//! says are readable, one after the other (coroutines, alternate signal stacks, threads of unknown origin).

use crate::local::Local;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Memory is readable, or not, in units of this many bytes or of a multiple.
const PAGE: u64 = 4096;

/// Whether [`readable`] can be believed.
static KERNEL_CHECKS: AtomicBool = AtomicBool::new(false);

/// Finds out whether the kernel checks memory in the way that [`readable`] asks it to: an emulator, a sandbox or a
/// filter of system calls may do otherwise. Where it does not, no memory but the thread's own stack is read.
pub fn init() {
    // SAFETY: a mapping of our own, at an address of the kernel's choice.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(std::ptr::null_mut(), PAGE as usize, libc::PROT_NONE, flags, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return;
    }
    KERNEL_CHECKS.store(refuses(page as u64) && !refuses(&raw const KERNEL_CHECKS as u64 & !7), Relaxed);
    // SAFETY: the mapping is ours, and nobody else knows of it.
    unsafe { libc::munmap(page, PAGE as usize) };
}

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
    /// The window for a walk that starts at `sp`; empty where not even that can be read.
    #[cold]
    #[inline(never)]
    pub fn at(local: &Local, sp: u64) -> Window {
        let mut window =
            Window { own: (local.stack_low.get(), local.stack_high.get()), low: 0, high: 0, limit: 0 };
        window.enter(sp);
        window
    }

    /// Moves the window to the stack that `sp` lies on.
    pub fn enter(&mut self, sp: u64) {
        let (low, high) = self.own;
        if (low..high).contains(&sp) {
            (self.low, self.high, self.limit) = (sp, high, high);
        } else {
            let page = sp & !(PAGE - 1);
            let end = if readable(page) { page.saturating_add(PAGE) } else { page };
            (self.low, self.high, self.limit) = (sp, end.max(sp), sp.saturating_add(FOREIGN_LIMIT));
        }
    }

    /// Whether it is on the thread's own stack.
    #[inline]
    pub fn is_own(&self) -> bool {
        self.high == self.own.1 && self.high != 0
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

/// Whether the kernel can read eight bytes at `at`.
pub fn readable(at: u64) -> bool {
    // A null mask is not read at all, and no memory is down there.
    at >= PAGE && KERNEL_CHECKS.load(Relaxed) && !refuses(at)
}

/// Whether [`readable`] can tell.
pub fn kernel_checks() -> bool {
    KERNEL_CHECKS.load(Relaxed)
}

/// Asks the kernel to read a signal mask at `at`. The mask is never used: the request that goes with it is not valid,
/// which the kernel notices after reading.
fn refuses(at: u64) -> bool {
    const INVALID: libc::c_int = -1;
    // SAFETY: the kernel reads the memory, or refuses to; nothing is written. errno is the thread's own, and put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::syscall(libc::SYS_rt_sigprocmask, INVALID, at, 0usize, 8usize);
        let fault = *errno == libc::EFAULT;
        *errno = before;
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::local;

    #[test]
    fn foreign_pages_are_read_up_to_the_first_unreadable_one() {
        init();
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        // SAFETY: three pages of our own; the last is made unreadable.
        let base = unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                3 * page as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::mprotect(base.byte_add(2 * page as usize), page as usize, libc::PROT_NONE);
            base as u64
        };
        let mut window = Window::at(local(), base + 16);
        assert_eq!(window.load(base + 16), Some(0));
        assert_eq!(window.load(base + 8), None);
        assert_eq!(window.load(base + page - 4), Some(0));
        assert_eq!(window.load(base + 2 * page - 8), Some(0));
        assert_eq!(window.load(base + 2 * page - 4), None);
        assert_eq!(window.load(base + 2 * page), None);
        assert_eq!(window.load(u64::MAX - 3), None);
        assert_eq!(Window::at(local(), 64).load(64), None);
    }
}
