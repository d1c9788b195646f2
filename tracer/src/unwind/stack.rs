//! Whether memory that is not the thread's own stack can be read: the kernel says so.

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
