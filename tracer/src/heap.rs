//! The library's own heap, on private mappings: nothing here can re-enter the host's allocator, and the host's heap
//! statistics stay the host's.

// Miri checks its own.
#[cfg(not(miri))]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Maps `len` zeroed bytes that stay mapped for ever; null where the system refuses. Usable in hooks.
pub fn map(len: usize) -> *mut u8 {
    // Miri, which reserves nothing, does not know the flag.
    const NO_RESERVE: libc::c_int = if cfg!(miri) { 0 } else { libc::MAP_NORESERVE };
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory in use.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NO_RESERVE,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED { std::ptr::null_mut() } else { at.cast() }
}
