//! Which memory a walk may read: the thread's own stack where the stack pointer is on it; else pages that the kernel
//! says are readable, one after the other (coroutines, alternate signal stacks, threads of unknown origin).

use super::stack::readable;
use crate::local::Local;

/// The unit in which more of a foreign stack is asked for.
const PAGE: u64 = 4096;

/// A foreign stack is followed this far, in bytes.
const FOREIGN_LIMIT: u64 = 4 << 20;

/// Whether a frame with this stack pointer is on the thread's own stack; the word below it is, which a call has written.
#[inline(always)]
pub fn is_on_own_stack(local: &Local, sp: u64) -> bool {
    (local.stack_low.get()..local.stack_high.get()).contains(&sp.wrapping_sub(8))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::local;
    use crate::unwind::stack;

    #[test]
    fn foreign_pages_are_read_up_to_the_first_unreadable_one() {
        stack::init();
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
