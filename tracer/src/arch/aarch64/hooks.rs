//! The shapes of hooks. Each is a naked function: the fast path is a countdown or a filter look-up and a jump to the
//! real function; the slow path calls the real function, then hands the block and the caller's registers to the recorder.
//! So frames of this library are never on a recorded stack, and an exception thrown by a real `operator new` passes
//! through frames that have unwind information and nothing to clean up.
//!
//! `subs` leaves "lower or same" when the countdown does not exceed the size: unsigned, so that absurd sizes take the
//! slow path too, and with equality, so that a countdown of zero catches every call, `malloc(0)` included. What a signal
//! handler counts down between the load and the store is not counted.
//!
//! Slow paths have a frame of 48 bytes, which begins with a `Caller`:
//! ```text
//!  sp + 0 the caller's sp │ 8 its x29 │ 16 its return address │ 24 size │ 32 block or place │ 40 token
//! ```
//! Jumps to other libraries go through x16, which code with branch target identification allows.

/// Any entry point.
pub type Function = unsafe extern "C" fn();

/// The register of an argument.
macro_rules! argument {
    (first) => {
        "x0"
    };
    (second) => {
        "x1"
    };
}

/// Counts the register `$size` down in x9, whose new value is to be stored with [`counted`]; the flags say whether there
/// is enough left. Changes x10 and x11 too.
macro_rules! count_down {
    ($size:expr) => {
        concat!(
            "adrp x10, :gottprel:libtrace_local\n",
            "ldr x10, [x10, :gottprel_lo12:libtrace_local]\n",
            "mrs x11, tpidr_el0\n",
            "ldr x9, [x11, x10]\n",
            "subs x9, x9, ",
            $size,
        )
    };
}

/// See [`count_down`].
macro_rules! counted {
    () => {
        "str x9, [x11, x10]"
    };
}

/// Leaves in w9 the byte of the free filter for the block in x0. Changes x10 too.
macro_rules! look_up {
    () => {
        concat!(
            "ubfx x9, x0, #12, #20\n",
            "adrp x10, {filter}\n",
            "add x10, x10, :lo12:{filter}\n",
            "ldrb w9, [x10, x9]",
        )
    };
}

/// Goes on to the real function with `$branch`: `br` or `blr`.
macro_rules! real {
    ($branch:literal) => {
        concat!("adrp x16, {real}\n", "ldr x16, [x16, :lo12:{real}]\n", $branch, " x16")
    };
}

/// Makes the frame, with the caller in it. Changes x10.
macro_rules! enter {
    () => {
        concat!(
            "mov x10, sp\n",
            "sub sp, sp, #48\n",
            ".cfi_def_cfa_offset 48\n",
            "stp x10, x29, [sp]\n",
            "str x30, [sp, #16]\n",
            ".cfi_offset x30, -32",
        )
    };
}

/// Takes the frame away.
macro_rules! leave {
    () => {
        concat!("ldr x30, [sp, #16]\n", ".cfi_restore x30\n", "add sp, sp, #48\n", ".cfi_def_cfa_offset 0",)
    };
}

/// `$symbol(…)` returns a block of as many bytes as the argument `$size` says.
macro_rules! allocate {
    ($symbol:ident, $real:expr, $size:ident, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{argument, count_down, counted, enter, leave, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                count_down!(argument!($size)),
                "b.ls 2f",
                counted!(),
                real!("br"),
                "2:",
                enter!(),
                concat!("str ", argument!($size), ", [sp, #24]"),
                real!("blr"),
                "ldr x1, [sp, #24]",
                "mov x2, sp",
                "bl {record}",
                leave!(),
                "ret",
                ".cfi_endproc",
                real = sym $real,
                record = sym crate::record::alloc,
            )
        }
    };
}

/// `calloc(count, size)`.
macro_rules! allocate_zeroed {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{count_down, counted, enter, leave, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                "umulh x12, x0, x1",
                "cbnz x12, 3f",
                "mul x12, x0, x1",
                count_down!("x12"),
                "b.ls 2f",
                counted!(),
                "3:",
                real!("br"),
                "2:",
                enter!(),
                "str x12, [sp, #24]",
                real!("blr"),
                "ldr x1, [sp, #24]",
                "mov x2, sp",
                "bl {record}",
                leave!(),
                "ret",
                ".cfi_endproc",
                real = sym $real,
                record = sym crate::record::alloc,
            )
        }
    };
}

/// `posix_memalign(place, alignment, size)`.
macro_rules! allocate_aligned {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{count_down, counted, enter, leave, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                count_down!("x2"),
                "b.ls 2f",
                counted!(),
                real!("br"),
                "2:",
                enter!(),
                "stp x2, x0, [sp, #24]",
                real!("blr"),
                "mov w3, w0",
                "ldp x1, x0, [sp, #24]",
                "mov x2, sp",
                "bl {record}",
                leave!(),
                "ret",
                ".cfi_endproc",
                real = sym $real,
                record = sym crate::record::posix_memalign,
            )
        }
    };
}

/// `realloc(block, size)`: slow when either the old block may be recorded or the new one will be.
macro_rules! reallocate {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{count_down, counted, enter, leave, look_up, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                look_up!(),
                "cbnz w9, 2f",
                count_down!("x1"),
                "b.ls 2f",
                counted!(),
                real!("br"),
                "2:",
                enter!(),
                "stp x1, x0, [sp, #24]",
                "bl {begin}",
                "cmp x0, #{early}",
                "b.eq 4f",
                "str x0, [sp, #40]",
                "ldp x1, x0, [sp, #24]",
                real!("blr"),
                "ldp x1, x3, [sp, #24]",
                "ldr x4, [sp, #40]",
                "mov x2, sp",
                "bl {record}",
                ".cfi_remember_state",
                leave!(),
                "ret",
                "4:",
                ".cfi_restore_state",
                "ldp x1, x0, [sp, #24]",
                leave!(),
                "b {early_realloc}",
                ".cfi_endproc",
                real = sym $real,
                filter = sym crate::filter::PAGES,
                begin = sym crate::record::realloc_begin,
                early = const crate::record::EARLY_BLOCK,
                early_realloc = sym crate::early::realloc,
                record = sym crate::record::realloc,
            )
        }
    };
}

/// `reallocarray(block, count, size)` is `realloc` of the product.
macro_rules! reallocate_array {
    ($symbol:ident, $realloc:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            std::arch::naked_asm!(
                ".cfi_startproc",
                "umulh x9, x1, x2",
                "cbnz x9, 2f",
                "mul x1, x1, x2",
                "b {realloc}",
                "2:",
                "b {overflow}",
                ".cfi_endproc",
                realloc = sym $realloc,
                overflow = sym crate::entry::out_of_memory,
            )
        }
    };
}

/// `$symbol(block, …)` frees: the death is recorded before the real call.
macro_rules! release {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{enter, leave, look_up, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                look_up!(),
                "cbnz w9, 2f",
                real!("br"),
                "2:",
                enter!(),
                "stp x0, x1, [sp, #24]",
                "str x2, [sp, #40]",
                "bl {record}",
                "mov w9, w0",
                "ldp x0, x1, [sp, #24]",
                "ldr x2, [sp, #40]",
                leave!(),
                "cbnz w9, 3f",
                real!("br"),
                "3:",
                "ret",
                ".cfi_endproc",
                real = sym $real,
                filter = sym crate::filter::PAGES,
                record = sym crate::record::free,
            )
        }
    };
}

/// Stands where the real function will be: finds it and goes on to it, or, while it is being looked for, to `$early`.
macro_rules! find_first {
    ($symbol:ident, $find:expr, $index:expr, $real:expr, $early:expr) => {
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{enter, leave, real};
            std::arch::naked_asm!(
                ".cfi_startproc",
                enter!(),
                "stp x0, x1, [sp, #24]",
                "str x2, [sp, #40]",
                "mov w0, #{index}",
                "bl {find}",
                "mov w9, w0",
                "ldp x0, x1, [sp, #24]",
                "ldr x2, [sp, #40]",
                leave!(),
                "cbz w9, 2f",
                real!("br"),
                "2:",
                "b {early}",
                ".cfi_endproc",
                find = sym $find,
                index = const $index,
                real = sym $real,
                early = sym $early,
            )
        }
    };
}

/// `operator new` where no allocator and no C++ runtime defines one for all: memory from `$allocate`, and where that
/// fails, the caller's own operator, which knows how to call the handler and to throw.
macro_rules! own_new {
    ($symbol:ident, $index:expr, $allocate:expr) => {
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{enter, leave};
            std::arch::naked_asm!(
                ".cfi_startproc",
                enter!(),
                "stp x0, x1, [sp, #24]",
                "cmp x0, #0",
                "cinc x0, x0, eq",
                "bl {allocate}",
                "mov x1, #0",
                "cbnz x0, 2f",
                "mov w0, #{index}",
                "ldr x1, [sp, #16]",
                "bl {find}",
                "2:",
                "mov x16, x0",
                "mov x9, x1",
                "ldp x0, x1, [sp, #24]",
                leave!(),
                "cbnz x9, 3f",
                "mov x0, x16",
                "ret",
                "3:",
                "br x16",
                ".cfi_endproc",
                allocate = sym $allocate,
                index = const $index,
                find = sym crate::entry::find_callers_own,
            )
        }
    };
}

/// Goes wherever `$target` points.
macro_rules! forward {
    ($symbol:ident, $target:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::real;
            std::arch::naked_asm!(".cfi_startproc", real!("br"), ".cfi_endproc", real = sym $target)
        }
    };
}

/// Calls `$before`, which takes and returns nothing, and goes on to the real function with every argument as it was, those
/// of a variable list too.
macro_rules! announce {
    ($symbol:ident, $real:expr, $before:expr, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::real;
            std::arch::naked_asm!(
                ".cfi_startproc",
                "stp x29, x30, [sp, #-80]!",
                ".cfi_def_cfa_offset 80",
                ".cfi_offset x29, -80",
                ".cfi_offset x30, -72",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "bl {before}",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldp x29, x30, [sp], #80",
                ".cfi_restore x29",
                ".cfi_restore x30",
                ".cfi_def_cfa_offset 0",
                real!("br"),
                ".cfi_endproc",
                before = sym $before,
                real = sym $real,
            )
        }
    };
}

pub(crate) use {
    allocate, allocate_aligned, allocate_zeroed, announce, argument, count_down, counted, enter, find_first,
    forward, leave, look_up, own_new, real, reallocate, reallocate_array, release,
};

/// The first code of a thread made through our `pthread_create`: notes its stack, then becomes the program's function,
/// so that the thread's stack looks as it does without us.
#[unsafe(naked)]
pub unsafe extern "C" fn thread_start() {
    std::arch::naked_asm!(
        ".cfi_startproc",
        enter!(),
        "bl {begin}",
        leave!(),
        "mov x16, x0",
        "mov x0, x1",
        "br x16",
        ".cfi_endproc",
        begin = sym crate::loader::thread_begins,
    )
}

/// Hands its caller and its arguments to the test, as the hooks do to the recorder.
#[cfg(test)]
#[unsafe(naked)]
pub unsafe extern "C" fn called_with_caller(out: *mut u64, len: usize) -> usize {
    std::arch::naked_asm!(
        ".cfi_startproc",
        enter!(),
        "mov x2, sp",
        "bl {walk}",
        leave!(),
        "ret",
        ".cfi_endproc",
        walk = sym crate::unwind::tests::walk_from,
    )
}
