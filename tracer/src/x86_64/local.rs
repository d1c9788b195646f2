//! The one block of initial-exec thread-local storage.
//!
//! `thread_local!` in a shared library goes through `__tls_get_addr`, inside which glibc may allocate; a block of the
//! static TLS area is one `fs`-relative access. It is zero when a thread starts and has no destructor.

use crate::stream::Stream;
use std::arch::{asm, global_asm};
use std::cell::Cell;

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 8",
    ".globl libtrace_local",
    ".hidden libtrace_local",
    ".type libtrace_local,@object",
    ".size libtrace_local,64",
    "libtrace_local: .zero 64",
    ".popsection",
);

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

/// A thread's block. The layout is known to `hooks`: the countdown stands first.
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
}

const _: () = assert!(std::mem::size_of::<Local>() == 64 && std::mem::offset_of!(Local, countdown) == 0);

/// The calling thread's block.
#[inline(always)]
pub fn local() -> &'static Local {
    let at: *const Local;
    // SAFETY: the two instructions compute the address of `libtrace_local` in the calling thread and touch nothing.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:[0]",
            "add {0}, qword ptr [rip + libtrace_local@GOTTPOFF]",
            out(reg) at, options(nostack, pure, readonly)
        );
    }
    // SAFETY: the block is as large as `Local` (asserted above), zero bytes are a valid one, it lives as long as the
    // thread and, being made of cells of plain numbers, may be seen through shared references by it and its signal
    // handlers. The reference is not sent to other threads: nothing here is `Sync`.
    unsafe { &*at }
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

/// The thread pointer: for threads made by `pthread_create` it lies at the high end of their stack's mapping.
#[inline]
pub fn thread_pointer() -> u64 {
    let at: u64;
    // SAFETY: reads the word that the x86-64 ABI defines at fs:0.
    unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) at, options(nostack, pure, readonly)) };
    at
}
