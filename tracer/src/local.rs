//! The one block of initial-exec thread-local storage.
//!
//! `thread_local!` in a shared library goes through `__tls_get_addr`, inside which glibc may allocate; a block of the
//! static TLS area is at a fixed distance from the thread pointer. It is zero when a thread starts and has no destructor.

use crate::arch::thread;
use crate::stream::Stream;
use std::cell::Cell;

/// What a thread may not do at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Guard {
    /// Nothing: its allocations are recorded.
    Open = 0,
    /// It is recording; an allocation now comes from a signal handler, and is lost.
    Recording = 1,
    /// It does the library's own work; its allocations are not the program's.
    Own = 2,
}

/// A thread's block. The layout is known to `arch::hooks`: the countdown stands first.
#[repr(C)]
pub struct Local {
    /// Bytes left until the recorder is to be asked. Zero at first, which sends the first allocation there.
    pub countdown: Cell<u64>,
    /// The thread's stream, once it has recorded something.
    pub stream: Cell<*mut Stream>,
    guard: Cell<u64>,
    /// Bytes left beyond the countdown until the next sample.
    pub rest: Cell<u64>,
    /// The interval that the gap to the next sample was drawn for; 0: none has been drawn.
    pub interval: Cell<u64>,
    /// The thread's number plus 1, once it has one.
    pub thread: Cell<u64>,
    /// The thread's own stack, where known; else 0.
    pub stack_low: Cell<u64>,
    /// One past the highest byte of its own stack.
    pub stack_high: Cell<u64>,
    /// The number of the holder that created the thread, plus 1, while it is counted there; else 0.
    pub creator: Cell<u64>,
    /// Bytes of its stack, as asked for.
    pub stack_bytes: Cell<u64>,
}

/// Bytes of a block.
pub const SIZE: usize = size_of::<Local>();

const _: () = assert!(std::mem::offset_of!(Local, countdown) == 0 && align_of::<Local>() == 8);

/// The calling thread's block.
#[inline(always)]
pub fn local() -> &'static Local {
    // SAFETY: the block is as large and aligned as `Local`, zero bytes are a valid one, it lives as long as the
    // thread and, being made of cells of plain numbers, may be seen through shared references by it and its signal
    // handlers. The reference is not sent to other threads: nothing here is `Sync`.
    unsafe { &*thread::block().cast() }
}

impl Local {
    /// The present guard.
    #[inline]
    pub fn guard(&self) -> Guard {
        match self.guard.get() {
            0 => Guard::Open,
            1 => Guard::Recording,
            _ => Guard::Own,
        }
    }

    /// Sets the guard, and keeps the compiler from moving the guarded work across.
    #[inline]
    pub fn set_guard(&self, guard: Guard) {
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.guard.set(guard as u64);
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// Runs `work` with the guard at [`Guard::Own`], and restores it.
pub fn as_own<T>(work: impl FnOnce() -> T) -> T {
    let local = local();
    let before = local.guard();
    local.set_guard(Guard::Own);
    let result = work();
    local.set_guard(before);
    result
}
