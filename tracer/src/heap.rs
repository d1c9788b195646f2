//! The library's own heap, on private mappings: nothing here can re-enter the host's allocator, and the host's heap
//! statistics stay the host's.

#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Maps `len` zeroed bytes that stay mapped for ever; null where the system refuses. Usable in hooks.
pub fn map(len: usize) -> *mut u8 {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory in use.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED { std::ptr::null_mut() } else { at.cast() }
}
