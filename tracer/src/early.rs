//! Memory for the moments in which the real allocator is being looked up: `dlsym` itself may allocate. Blocks come off
//! a small static arena and are never reused; their pages are marked in the free filter, so that every later `free` of
//! one is recognised and goes nowhere else.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

const SIZE: usize = 64 << 10;
/// Before each block stands its size.
const HEADER: usize = 16;

#[repr(C, align(4096))]
struct Arena([AtomicU64; SIZE / 8]);

static ARENA: Arena = Arena([const { AtomicU64::new(0) }; SIZE / 8]);
static USED: AtomicUsize = AtomicUsize::new(0);

/// Whether `block` is one of the arena's.
pub fn owns(block: *mut c_void) -> bool {
    (block as usize).wrapping_sub(ARENA.0.as_ptr() as usize) < SIZE
}

fn give(size: usize, alignment: usize) -> *mut c_void {
    let base = ARENA.0.as_ptr() as usize;
    let place = |used: usize| {
        let at = (base + used + HEADER).checked_next_multiple_of(alignment.max(16))? - base;
        let end = at.checked_add(size)?.checked_next_multiple_of(16)?;
        (end <= SIZE).then_some((at, end))
    };
    let Ok(used) = USED.fetch_update(Relaxed, Relaxed, |used| place(used).map(|(_, end)| end)) else {
        return std::ptr::null_mut();
    };
    let Some((at, _)) = place(used) else { return std::ptr::null_mut() };
    crate::filter::mark_for_ever((base + at) as u64);
    if let Some(header) = ARENA.0.get((at - HEADER) / 8) {
        header.store(size as u64, Relaxed);
    }
    (base + at) as *mut c_void
}

/// As the C function, from the arena.
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    give(size, 16)
}

/// As the C function, from the arena; its bytes are zero and used once.
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    count.checked_mul(size).map_or(std::ptr::null_mut(), |size| give(size, 16))
}

/// Moves an early block, or any block while the real allocator is not known, to the real allocator where it is known.
///
/// # Safety
/// `block` is null or a block of the arena.
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    let new = if crate::entry::find_entries(0) == 1 {
        // SAFETY: this is the next `malloc` in line.
        unsafe {
            let real: unsafe extern "C" fn(usize) -> *mut c_void =
                std::mem::transmute(crate::entry::real::malloc.get());
            real(size)
        }
    } else {
        give(size, 16)
    };
    if !new.is_null() && owns(block) {
        // SAFETY: the old block has `usable_size` bytes, the new one `size`, and they are different blocks.
        unsafe {
            std::ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), usable_size(block).min(size))
        };
    }
    new
}

/// As the C function, from the arena.
///
/// # Safety
/// `place` is where the block's address is to be stored.
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || alignment < size_of::<usize>() {
        return libc::EINVAL;
    }
    let block = give(size, alignment);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller passes a valid place.
    unsafe { *place = block };
    0
}

/// As the C function, from the arena.
pub unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    if alignment.is_power_of_two() { give(size, alignment) } else { std::ptr::null_mut() }
}

/// As the C function, from the arena.
pub unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    give(size, page as usize)
}

/// Early blocks are not reused.
pub unsafe extern "C" fn free(_block: *mut c_void) {}

/// The size that was asked for.
///
/// # Safety
/// None: a block that is not the arena's has no size here.
pub unsafe extern "C" fn usable_size(block: *mut c_void) -> usize {
    let at = (block as usize).wrapping_sub(ARENA.0.as_ptr() as usize);
    if at >= SIZE {
        return 0;
    }
    ARENA.0.get((at.wrapping_sub(HEADER)) / 8).map_or(0, |header| header.load(Relaxed) as usize)
}

/// What cannot be done while the real function is being looked up.
pub unsafe extern "C" fn unavailable() -> c_int {
    libc::EAGAIN
}

/// `operator new(size, alignment)` where nobody defines it for all; null where there is no memory.
///
/// # Safety
/// As the C++ function.
pub unsafe extern "C" fn operator_new_aligned(size: usize, alignment: usize) -> *mut c_void {
    let mut block = std::ptr::null_mut();
    let alignment = alignment.max(size_of::<usize>());
    // SAFETY: our own hook of posix_memalign, called as the C function is; `block` is a valid place.
    unsafe {
        let hook: unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int =
            std::mem::transmute(crate::entry::exported::posix_memalign as crate::arch::hooks::Function);
        hook(&mut block, alignment, size.max(1));
    }
    block
}
