//! The shapes of hooks. Each is a naked function: the fast path is a countdown or a filter look-up and a jump to the
//! real function; the slow path calls the real function, then hands the block, the caller's stack pointer and frame
//! pointer to the recorder. So frames of this library are never on a recorded stack, and an exception thrown by a real
//! `operator new` passes through frames that have unwind information and nothing to clean up.
//!
//! `sub` leaves "below or equal" when the countdown does not exceed the size: unsigned, so that absurd sizes take the
//! slow path too, and with equality, so that a countdown of zero catches every call, `malloc(0)` included.

/// Any entry point.
pub type Function = unsafe extern "C" fn();

/// The register of an argument.
macro_rules! argument {
    (first) => {
        "rdi"
    };
    (second) => {
        "rsi"
    };
}

/// `$symbol(…)` returns a block of as many bytes as the argument `$size` says.
macro_rules! allocate {
    ($symbol:ident, $real:expr, $size:ident, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $symbol() {
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov rax, qword ptr [rip + libtrace_local@GOTTPOFF]",
                concat!("sub qword ptr fs:[rax], ", $crate::arch::hooks::argument!($size)),
                "jbe 2f",
                "jmp qword ptr [rip + {real}]",
                "2:",
                concat!("add qword ptr fs:[rax], ", $crate::arch::hooks::argument!($size)),
                concat!("push ", $crate::arch::hooks::argument!($size)),
                ".cfi_adjust_cfa_offset 8",
                "call qword ptr [rip + {real}]",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "mov rdi, rax",
                "lea rdx, [rsp + 8]",
                "mov rcx, rbp",
                "jmp {record}",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov rax, rdi",
                "mul rsi",
                "jo 3f",
                "mov rdx, qword ptr [rip + libtrace_local@GOTTPOFF]",
                "sub qword ptr fs:[rdx], rax",
                "jbe 2f",
                "3:",
                "jmp qword ptr [rip + {real}]",
                "2:",
                "add qword ptr fs:[rdx], rax",
                "push rax",
                ".cfi_adjust_cfa_offset 8",
                "call qword ptr [rip + {real}]",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "mov rdi, rax",
                "lea rdx, [rsp + 8]",
                "mov rcx, rbp",
                "jmp {record}",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov rax, qword ptr [rip + libtrace_local@GOTTPOFF]",
                "sub qword ptr fs:[rax], rdx",
                "jbe 2f",
                "jmp qword ptr [rip + {real}]",
                "2:",
                "add qword ptr fs:[rax], rdx",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rdx",
                ".cfi_adjust_cfa_offset 8",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "call qword ptr [rip + {real}]",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "lea rdx, [rsp + 8]",
                "mov rcx, rbp",
                "mov r8d, eax",
                "jmp {record}",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov eax, edi",
                "lea rdx, [rip + {filter}]",
                "shr eax, 12",
                "cmp byte ptr [rdx + rax], 0",
                "jne 3f",
                "mov rax, qword ptr [rip + libtrace_local@GOTTPOFF]",
                "sub qword ptr fs:[rax], rsi",
                "jbe 2f",
                "jmp qword ptr [rip + {real}]",
                "2:",
                "add qword ptr fs:[rax], rsi",
                "3:",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "call {begin}",
                "cmp rax, {early}",
                "je 4f",
                "mov qword ptr [rsp], rax",
                "mov rsi, qword ptr [rsp + 8]",
                "mov rdi, qword ptr [rsp + 16]",
                "call qword ptr [rip + {real}]",
                "pop r9",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop r8",
                ".cfi_adjust_cfa_offset -8",
                "mov rdi, rax",
                "lea rdx, [rsp + 8]",
                "mov rcx, rbp",
                "jmp {record}",
                "4:",
                ".cfi_adjust_cfa_offset 24",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "jmp {early_realloc}",
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
                "mov rax, rsi",
                "mul rdx",
                "jo 2f",
                "mov rsi, rax",
                "jmp {realloc}",
                "2:",
                "jmp {overflow}",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "mov eax, edi",
                "lea rcx, [rip + {filter}]",
                "shr eax, 12",
                "cmp byte ptr [rcx + rax], 0",
                "jne 2f",
                "jmp qword ptr [rip + {real}]",
                "2:",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "push rdx",
                ".cfi_adjust_cfa_offset 8",
                "call {record}",
                "pop rdx",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test eax, eax",
                "jne 3f",
                "jmp qword ptr [rip + {real}]",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "push rdx",
                ".cfi_adjust_cfa_offset 8",
                "mov edi, {index}",
                "call {find}",
                "pop rdx",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test eax, eax",
                "je 2f",
                "jmp qword ptr [rip + {real}]",
                "2:",
                "jmp {early}",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "cmp rdi, 1",
                "adc rdi, 0",
                "call {allocate}",
                "xor edx, edx",
                "test rax, rax",
                "jne 2f",
                "mov edi, {index}",
                "mov rsi, qword ptr [rsp + 24]",
                "call {find}",
                "2:",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test edx, edx",
                "jne 3f",
                "ret",
                "3:",
                "jmp rax",
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "jmp qword ptr [rip + {target}]",
                ".cfi_endproc",
                target = sym $target,
            )
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
            std::arch::naked_asm!(
                ".cfi_startproc",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                "push rsi",
                ".cfi_adjust_cfa_offset 8",
                "push rdx",
                ".cfi_adjust_cfa_offset 8",
                "push rcx",
                ".cfi_adjust_cfa_offset 8",
                "push r8",
                ".cfi_adjust_cfa_offset 8",
                "push r9",
                ".cfi_adjust_cfa_offset 8",
                "push rax",
                ".cfi_adjust_cfa_offset 8",
                "call {before}",
                "pop rax",
                ".cfi_adjust_cfa_offset -8",
                "pop r9",
                ".cfi_adjust_cfa_offset -8",
                "pop r8",
                ".cfi_adjust_cfa_offset -8",
                "pop rcx",
                ".cfi_adjust_cfa_offset -8",
                "pop rdx",
                ".cfi_adjust_cfa_offset -8",
                "pop rsi",
                ".cfi_adjust_cfa_offset -8",
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "jmp qword ptr [rip + {real}]",
                ".cfi_endproc",
                before = sym $before,
                real = sym $real,
            )
        }
    };
}

pub(crate) use {
    allocate, allocate_aligned, allocate_zeroed, announce, argument, find_first, forward, own_new,
    reallocate, reallocate_array, release,
};

/// The first code of a thread made through our `pthread_create`: notes its stack, then becomes the program's function,
/// so that the thread's stack looks as it does without us.
#[unsafe(naked)]
pub unsafe extern "C" fn thread_start() {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {begin}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "mov rdi, rdx",
        "jmp rax",
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
        "lea rdx, [rsp + 8]",
        "mov rcx, rbp",
        "jmp {walk}",
        ".cfi_endproc",
        walk = sym crate::unwind::tests::walk_from,
    )
}
