//! The host's `errno`, which must not change under a call of `malloc` or `free` that succeeds.

use std::ffi::c_int;

/// Puts `errno` back when it goes. Held wherever the recorder makes a system call.
pub struct Errno(c_int);

impl Errno {
    /// The present value.
    pub fn save() -> Errno {
        // SAFETY: errno is the calling thread's own.
        Errno(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = self.0 };
    }
}
