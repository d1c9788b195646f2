//! The library's own heap, on private mappings: nothing here can re-enter the host's allocator, and the host's heap
//! statistics stay the host's.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

/// The heap, and how many bytes of it are in use.
struct Heap;

// Miri checks its own.
#[cfg(not(miri))]
#[global_allocator]
static HEAP: Heap = Heap;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { dlmalloc::GlobalDlmalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: as above.
        unsafe { dlmalloc::GlobalDlmalloc.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: as above.
        unsafe { dlmalloc::GlobalDlmalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add((size as u64).wrapping_sub(layout.size() as u64), Relaxed);
        // SAFETY: as above.
        unsafe { dlmalloc::GlobalDlmalloc.realloc(block, layout, size) }
    }
}

/// Bytes of the heap that are in use.
pub fn allocated() -> u64 {
    ALLOCATED.load(Relaxed)
}

/// Mappings that are noted; buffers and streams of some thousand threads are.
const MOST_MAPPINGS: usize = 8192;

/// Start and bytes of each.
static MAPPINGS: [(AtomicU64, AtomicU64); MOST_MAPPINGS] =
    [const { (AtomicU64::new(0), AtomicU64::new(0)) }; MOST_MAPPINGS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What [`map`] has mapped: starts, and bytes.
pub fn mapped() -> impl Iterator<Item = (u64, u64)> {
    let noted = MAPPINGS.iter().take(COUNT.load(Acquire));
    noted.map(|(start, len)| (start.load(Relaxed), len.load(Relaxed)))
}

/// Maps `len` zeroed bytes that stay mapped for ever; null where the system refuses. Usable in hooks.
pub fn map(len: usize) -> *mut u8 {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory in use.
    let at = unsafe { map_anonymous(len) };
    if at == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    // A place that is not filled in yet has no bytes.
    if let Some((start, bytes)) = MAPPINGS.get(COUNT.fetch_add(1, AcqRel)) {
        start.store(at as u64, Relaxed);
        bytes.store(len as u64, Relaxed);
    }
    at.cast()
}

const PROTECTION: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// As a bare system call it does not come through our own hook of `mmap`.
///
/// # Safety
/// As the C function `mmap`.
#[cfg(not(miri))]
unsafe fn map_anonymous(len: usize) -> *mut libc::c_void {
    let flags = FLAGS | libc::MAP_NORESERVE;
    // SAFETY: by contract.
    unsafe { libc::syscall(libc::SYS_mmap, 0usize, len, PROTECTION, flags, -1, 0usize) as *mut libc::c_void }
}

/// Miri knows no system calls, and reserves nothing.
///
/// # Safety
/// As the C function `mmap`.
#[cfg(miri)]
unsafe fn map_anonymous(len: usize) -> *mut libc::c_void {
    // SAFETY: by contract.
    unsafe { libc::mmap(std::ptr::null_mut(), len, PROTECTION, FLAGS, -1, 0) }
}
