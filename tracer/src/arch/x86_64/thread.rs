//! The thread's block of static TLS, one `fs`-relative access away, and the bounds of its own stack.

use std::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 8",
    ".globl libtrace_local",
    ".hidden libtrace_local",
    ".type libtrace_local,@object",
    ".size libtrace_local,{size}",
    "libtrace_local: .zero {size}",
    ".popsection",
    size = const crate::local::SIZE,
);

/// The address of the calling thread's `libtrace_local`.
#[inline(always)]
pub fn block() -> *const u8 {
    let at;
    // SAFETY: the two instructions compute the address of `libtrace_local` in the calling thread and touch nothing.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:[0]",
            "add {0}, qword ptr [rip + libtrace_local@GOTTPOFF]",
            out(reg) at, options(nostack, pure, readonly)
        );
    }
    at
}

/// Low and high end of the calling thread's own stack, which `pthread_create` made with `size` bytes.
///
/// The thread pointer is the address of the thread's descriptor, which glibc puts at the high end of the stack's mapping,
/// above every frame.
#[inline]
pub fn own_stack(size: u64) -> (u64, u64) {
    let high: u64;
    // SAFETY: reads the word that the x86-64 ABI defines at fs:0.
    unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) high, options(nostack, pure, readonly)) };
    (high.saturating_sub(size), high)
}
