//! What hooks do, as plain functions. They take and hand on as many arguments as any entry point has: the ABIs of processors
//! with 64 bits pass integers and pointers in registers, where more of them do no harm, and return them in one. Only functions
//! with variable lists of arguments cannot be handed on so; `execl` and its like are not hooked.
//!
//! A real `operator new` may throw an exception through a hook, which has nothing to clean up.

use crate::arch::frame::{Caller, Registers};
use crate::entry::{Real, find_callers_own};
use crate::local::{as_own, local};
use crate::{early, filter, record};
use std::ffi::c_void;
use std::sync::atomic::Ordering::Relaxed;

/// Any entry point.
pub type Function = unsafe extern "C-unwind" fn(usize, usize, usize, usize, usize, usize) -> usize;

/// What it is called with.
pub type Arguments = [usize; 6];

/// Calls a function.
///
/// # Safety
/// `function` is one that may be called with those of the arguments that it takes.
pub unsafe fn call(function: *const c_void, [a, b, c, d, e, f]: Arguments) -> usize {
    // SAFETY: by contract; see above for arguments that it does not take.
    unsafe { std::mem::transmute::<*const c_void, Function>(function)(a, b, c, d, e, f) }
}

/// Calls a function of ours that takes its caller as well.
///
/// # Safety
/// As of [`call`].
pub unsafe fn call_with_caller(function: *const c_void, [a, b, c, d, e, f]: Arguments) -> usize {
    type WithCaller = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, Caller) -> usize;
    // SAFETY: by contract.
    unsafe { std::mem::transmute::<*const c_void, WithCaller>(function)(a, b, c, d, e, f, Caller::UNKNOWN) }
}

/// Counts `size` bytes down; false where there is not enough left.
fn count_down(size: usize) -> bool {
    let countdown = &local().countdown;
    let left = countdown.get();
    let is_enough = (size as u64) < left;
    if is_enough {
        countdown.set(left - size as u64);
    }
    is_enough
}

/// Whether the free filter lets a block pass.
fn may_be_recorded(block: usize) -> bool {
    filter::PAGES[(block >> 12) & (filter::PAGES.len() - 1)].load(Relaxed) != 0
}

/// Allocates `size` bytes, `None` where that is more than there are addresses; returns the block.
///
/// # Safety
/// As of [`call`], for the real function.
pub unsafe fn allocate(real: &Real, size: Option<usize>, arguments: Arguments) -> usize {
    let counted = size.is_none_or(count_down);
    // SAFETY: by contract.
    let block = unsafe { call(real.get(), arguments) };
    match size {
        Some(size) if !counted => record::alloc(block as *mut c_void, size, Caller::UNKNOWN) as usize,
        _ => block,
    }
}

/// Allocates `size` bytes at an alignment; returns a status.
///
/// # Safety
/// As of [`call`], for the real function, which is `posix_memalign`.
pub unsafe fn allocate_aligned(real: &Real, arguments: Arguments) -> usize {
    let [place, _, size, ..] = arguments;
    let counted = count_down(size);
    // SAFETY: by contract.
    let status = unsafe { call(real.get(), arguments) };
    if !counted {
        // SAFETY: the caller's own place.
        unsafe { record::posix_memalign(place as *mut *mut c_void, size, Caller::UNKNOWN, status as i32) };
    }
    status
}

/// # Safety
/// As of [`call`], for the real function, which is `realloc`.
pub unsafe fn reallocate(real: &Real, arguments: Arguments) -> usize {
    let [old, size, ..] = arguments;
    if !may_be_recorded(old) && count_down(size) {
        // SAFETY: by contract.
        return unsafe { call(real.get(), arguments) };
    }
    let block = old as *mut c_void;
    let token = record::realloc_begin(block);
    if token == record::EARLY_BLOCK {
        // SAFETY: the block is one of the arena's.
        return unsafe { early::realloc(block, size) } as usize;
    }
    // SAFETY: by contract.
    let new = unsafe { call(real.get(), arguments) };
    record::realloc(new as *mut c_void, size, Caller::UNKNOWN, block, token) as usize
}

/// Frees; the death is recorded before the real call.
///
/// # Safety
/// As of [`call`], for the real function.
pub unsafe fn release(real: &Real, arguments: Arguments) -> usize {
    let block = arguments[0];
    if may_be_recorded(block) && record::free(block as *mut c_void) != 0 {
        return 0;
    }
    // SAFETY: by contract.
    unsafe { call(real.get(), arguments) }
}

/// `operator new` where nobody defines it for all; see `own_new` of other architectures.
///
/// # Safety
/// As of [`call`], for `allocate` with the first argument not zero, and for the operator.
pub unsafe fn own_new(index: u32, allocate: *const c_void, arguments: Arguments) -> usize {
    let [size, alignment, ..] = arguments;
    // SAFETY: by contract.
    let block = unsafe { call(allocate, [size.max(1), alignment, 0, 0, 0, 0]) };
    if block != 0 {
        return block;
    }
    let Some(caller) = as_own(Registers::find) else { return 0 };
    let found = find_callers_own(index, caller.return_address);
    match found.is_found {
        0 => 0,
        // SAFETY: by contract: it is the operator as the caller's library has it.
        _ => unsafe { call(found.function, arguments) },
    }
}
