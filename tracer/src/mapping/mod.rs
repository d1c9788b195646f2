//! Hooks of what changes the program's address space: `mmap`, `munmap`, `mremap`, `mprotect`. What they see goes to the
//! writer through a queue, in the order in which it happened to an address: a mapping is entered after the call that made
//! it, and taken out before the call that ends it.
//!
//! Counted are anonymous mappings. Those of the allocator in use, which it makes with calls of these functions unless it is
//! the C library's, are not: they are what the program's blocks lie in. Files that are mapped only end what was there
//! before. What programs map by system calls of their own, as Go does, is not seen.
//!
//! These hooks look up nothing: an allocator ahead of us calls them while it holds its locks, and the loader calls that
//! allocator for the message about a function that is not there. Until others have looked, they make the system call.
//!
//! A full queue loses changes, which are counted like lost events. A mapping whose end was lost stays until its addresses
//! are mapped again.

mod queue;

use crate::arch::frame::Caller;
use crate::entry::{entries_are_found, real};
use crate::errno::Errno;
use crate::holders::HolderIndex;
use crate::local::{Local, local};
use crate::lookup;
use crate::phase::{self, Phase};
use crate::{buffer, clock, record, stream};
use prof::Nanos;
use prof::record::Lost;
use queue::{Queue, Words};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// What happened to the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A stack has mapped memory.
    Map {
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The stack.
        holder: HolderIndex,
        /// Whether it can be accessed at all.
        is_accessible: bool,
    },
    /// What lies there is unmapped.
    Unmap {
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
    },
    /// What lies there can be accessed from now on, or not any more.
    Protect {
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// Whether it can be accessed at all.
        is_accessible: bool,
    },
    /// A thread is about to move, grow or shrink what lies there.
    Take {
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The thread.
        thread: u64,
    },
    /// What the thread has taken is here now, and this stack's.
    Put {
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The stack.
        holder: HolderIndex,
        /// The thread.
        thread: u64,
    },
    /// What the thread has taken is where it was.
    PutBack {
        /// The thread.
        thread: u64,
    },
}

const ACCESSIBLE: u64 = 1 << 8;

impl Change {
    /// Its kind, whether memory is accessible, and the holder; start; end; thread.
    fn to_words(self) -> Words {
        let accessible = |is: bool| if is { ACCESSIBLE } else { 0 };
        let of = |holder: HolderIndex| u64::from(holder.number()) << 32;
        match self {
            Change::Map { start, end, holder, is_accessible } => {
                [1 | of(holder) | accessible(is_accessible), start, end, 0]
            }
            Change::Unmap { start, end } => [2, start, end, 0],
            Change::Protect { start, end, is_accessible } => [3 | accessible(is_accessible), start, end, 0],
            Change::Take { start, end, thread } => [4, start, end, thread],
            Change::Put { start, end, holder, thread } => [5 | of(holder), start, end, thread],
            Change::PutBack { thread } => [6, 0, 0, thread],
        }
    }

    fn from_words([head, start, end, thread]: Words) -> Option<Change> {
        let is_accessible = head & ACCESSIBLE != 0;
        let holder = HolderIndex::from_number((head >> 32) as u32);
        Some(match head as u8 {
            1 => Change::Map { start, end, holder, is_accessible },
            2 => Change::Unmap { start, end },
            3 => Change::Protect { start, end, is_accessible },
            4 => Change::Take { start, end, thread },
            5 => Change::Put { start, end, holder, thread },
            6 => Change::PutBack { thread },
            _ => return None,
        })
    }
}

static QUEUE: Queue = Queue::new();

/// In a forked child, before any thread but the forking one: nobody is halfway through entering a change.
pub fn forked() {
    QUEUE.forked();
}

/// For the writer: hands every change to `take`, in order.
pub fn collect(mut take: impl FnMut(Change)) {
    while let Some(words) = QUEUE.pop() {
        Change::from_words(words).into_iter().for_each(&mut take);
    }
}

/// In a forked child: as [`collect`], up to its first event.
pub fn collect_inherited(mut take: impl FnMut(Change)) {
    while let Some(words) = QUEUE.pop_inherited() {
        Change::from_words(words).into_iter().for_each(&mut take);
    }
}

fn enter(local: &Local, change: Change) {
    const PAUSE: Nanos = Nanos(100_000);
    let wake = || buffer::exchange().into_iter().for_each(buffer::Exchange::wake_writer);
    while !QUEUE.push(change.to_words()) {
        if !record::may_wait() {
            return stream::lose(local, Lost::BackPressure);
        }
        wake();
        clock::sleep(PAUSE);
    }
    if QUEUE.is_half_full() {
        wake();
    }
}

/// Bytes of a page; addresses and lengths are multiples of it.
static PAGE: AtomicU64 = AtomicU64::new(4096);

/// Whether anything has ever been mapped that cannot be accessed: until then no `mprotect` is of interest.
static ANY_INACCESSIBLE: AtomicBool = AtomicBool::new(false);

/// Before anything is recorded.
pub fn begin() {
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if let Some(page) = u64::try_from(page).ok().filter(|page| page.is_power_of_two()) {
        PAGE.store(page, Relaxed);
    }
}

/// First byte and end of whole pages; none where the kernel would refuse them.
fn range(start: *mut c_void, len: usize) -> Option<(u64, u64)> {
    let mask = PAGE.load(Relaxed) - 1;
    let end = (start as u64).checked_add(len as u64)?.checked_add(mask)? & !mask;
    (len > 0 && start as u64 & mask == 0).then_some((start as u64, end))
}

fn is_tracing() -> bool {
    phase::now() == Phase::Tracing
}

/// As the C function `mmap`, called by `caller`.
///
/// # Safety
/// As the C function.
pub unsafe extern "C" fn map(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
    caller: Caller,
) -> *mut c_void {
    type Map = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;
    // SAFETY: the caller's own arguments, for the function of that name, or for the system call until that is known.
    let mapped = unsafe {
        if !entries_are_found() {
            libc::syscall(libc::SYS_mmap, at, len, protection, flags, descriptor, offset) as *mut c_void
        } else {
            std::mem::transmute::<*mut c_void, Map>(real::mmap.get())(
                at, len, protection, flags, descriptor, offset,
            )
        }
    };
    if mapped != libc::MAP_FAILED && is_tracing() {
        let _errno = Errno::save();
        has_mapped(mapped, len, protection, flags, caller);
    }
    mapped
}

/// After a call of `mmap`.
#[inline(never)]
fn has_mapped(at: *mut c_void, len: usize, protection: c_int, flags: c_int, caller: Caller) {
    let Some((start, end)) = range(at, len) else { return };
    record::record(local(), |local| {
        let is_counted = flags & libc::MAP_ANONYMOUS != 0
            && caller.registers(local).is_none_or(|at| !lookup::is_allocators(at.return_address));
        if !is_counted {
            return enter(local, Change::Unmap { start, end });
        }
        let is_accessible = protection != libc::PROT_NONE;
        if !is_accessible {
            ANY_INACCESSIBLE.store(true, Relaxed);
        }
        let holder = record::holder(local, caller);
        enter(local, Change::Map { start, end, holder, is_accessible });
    });
}

/// As the C function `munmap`.
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if is_tracing() {
        let _errno = Errno::save();
        will_unmap(at, len);
    }
    // SAFETY: the caller's own arguments, for the function of that name, or for the system call until that is known.
    unsafe {
        if !entries_are_found() {
            return libc::syscall(libc::SYS_munmap, at, len) as c_int;
        }
        let real: unsafe extern "C" fn(*mut c_void, usize) -> c_int = std::mem::transmute(real::munmap.get());
        real(at, len)
    }
}

/// Before a call of `munmap`: afterwards the addresses may be another thread's. Whole pages at a page's address are only
/// refused where the kernel has no room to cut a mapping in two.
#[inline(never)]
fn will_unmap(at: *mut c_void, len: usize) {
    if let Some((start, end)) = range(at, len) {
        record::record(local(), |local| enter(local, Change::Unmap { start, end }));
    }
}

/// As the C function `mprotect`.
///
/// # Safety
/// As the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int {
    // SAFETY: the caller's own arguments, for the function of that name, or for the system call until that is known.
    let status = unsafe {
        if !entries_are_found() {
            libc::syscall(libc::SYS_mprotect, at, len, protection) as c_int
        } else {
            let real: unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int =
                std::mem::transmute(real::mprotect.get());
            real(at, len, protection)
        }
    };
    if status == 0 && is_tracing() {
        let _errno = Errno::save();
        has_protected(at, len, protection != libc::PROT_NONE);
    }
    status
}

/// After a call of `mprotect`.
#[inline(never)]
fn has_protected(at: *mut c_void, len: usize, is_accessible: bool) {
    if !is_accessible {
        ANY_INACCESSIBLE.store(true, Relaxed);
    }
    if let (Some((start, end)), true) = (range(at, len), ANY_INACCESSIBLE.load(Relaxed)) {
        record::record(local(), |local| enter(local, Change::Protect { start, end, is_accessible }));
    }
}

/// As the C function `mremap`, called by `caller`; `place` is only meant with `MREMAP_FIXED` or `MREMAP_DONTUNMAP`.
///
/// # Safety
/// As the C function.
pub unsafe extern "C" fn remap(
    at: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    place: *mut c_void,
    _: u64,
    caller: Caller,
) -> *mut c_void {
    type Remap = unsafe extern "C" fn(*mut c_void, usize, usize, c_int, ...) -> *mut c_void;
    // What stays where it was, beside the new mapping, is left alone.
    let moves = is_tracing() && flags & libc::MREMAP_DONTUNMAP == 0;
    if moves {
        let _errno = Errno::save();
        will_remap(at, old_len);
    }
    // SAFETY: the caller's own arguments, for the function of that name, or for the system call until that is known.
    let mapped = unsafe {
        if !entries_are_found() {
            libc::syscall(libc::SYS_mremap, at, old_len, new_len, flags, place) as *mut c_void
        } else {
            std::mem::transmute::<*mut c_void, Remap>(real::mremap.get())(at, old_len, new_len, flags, place)
        }
    };
    if moves {
        let _errno = Errno::save();
        has_remapped(mapped, new_len, caller);
    }
    mapped
}

/// The thread, as [`Change`] names it.
fn name(local: &Local) -> u64 {
    std::ptr::from_ref(local) as u64
}

/// Before a call of `mremap`.
#[inline(never)]
fn will_remap(at: *mut c_void, len: usize) {
    if let Some((start, end)) = range(at, len) {
        record::record(local(), |local| enter(local, Change::Take { start, end, thread: name(local) }));
    }
}

/// After a call of `mremap`.
#[inline(never)]
fn has_remapped(at: *mut c_void, len: usize, caller: Caller) {
    let range = if at == libc::MAP_FAILED { None } else { range(at, len) };
    record::record(local(), |local| {
        let thread = name(local);
        enter(
            local,
            match range {
                Some((start, end)) => {
                    Change::Put { start, end, holder: record::holder(local, caller), thread }
                }
                None => Change::PutBack { thread },
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_words_and_back() {
        let holder = HolderIndex::from_number(77);
        let (start, end, thread) = (4096, 8192, 9);
        for is_accessible in [false, true] {
            for change in [
                Change::Map { start, end, holder, is_accessible },
                Change::Unmap { start, end },
                Change::Protect { start, end, is_accessible },
                Change::Take { start, end, thread },
                Change::Put { start, end, holder, thread },
                Change::PutBack { thread },
            ] {
                assert_eq!(Change::from_words(change.to_words()), Some(change));
            }
        }
        assert_eq!(Change::from_words([0; 4]), None);
    }
}
