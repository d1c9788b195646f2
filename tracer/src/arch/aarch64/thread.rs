//! The thread's block of static TLS, at a fixed distance from `tpidr_el0`, and the bounds of its own stack.

use std::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss,\"awT\",%nobits",
    ".balign 8",
    ".globl libtrace_local",
    ".hidden libtrace_local",
    ".type libtrace_local,%object",
    ".size libtrace_local,{size}",
    "libtrace_local: .zero {size}",
    ".popsection",
    size = const crate::local::SIZE,
);

/// The address of the calling thread's `libtrace_local`.
#[inline(always)]
pub fn block() -> *const u8 {
    let at;
    // SAFETY: the instructions compute the address of `libtrace_local` in the calling thread; what they read is its
    // distance from the thread pointer, which the loader has written before any of our code runs.
    unsafe {
        asm!(
            "adrp {at}, :gottprel:libtrace_local",
            "ldr {at}, [{at}, :gottprel_lo12:libtrace_local]",
            "mrs {tp}, tpidr_el0",
            "add {at}, {at}, {tp}",
            at = out(reg) at, tp = out(reg) _, options(nostack, pure, readonly)
        );
    }
    at
}

/// Low and high end of the calling thread's own stack, which `pthread_create` made with `size` bytes.
///
/// The thread pointer lies above the thread's descriptor, and that above every frame; above it, up to the end of the
/// stack's mapping, is static TLS. How large that is is not known here, so the lowest part is left out: a stack pointer
/// there is followed with the kernel's help, and one in another mapping just below is not taken for this stack's.
#[inline]
pub fn own_stack(size: u64) -> (u64, u64) {
    const STATIC_TLS: u64 = 256 << 10;
    let high: u64;
    // SAFETY: reads a register that the ABI gives to the thread pointer.
    unsafe { asm!("mrs {0}, tpidr_el0", out(reg) high, options(nomem, nostack, pure)) };
    (high.saturating_sub(size.saturating_sub(STATIC_TLS.min(size / 2))), high)
}
