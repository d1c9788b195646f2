//! A hook that is written in Rust and wants to know who called it.

/// `$symbol` calls `$function` with its first six arguments, whatever they are, and its caller, and returns what that
/// returns.
macro_rules! with_caller {
    ($symbol:ident, $function:path, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            // The caller is the first argument that finds no register, which is on the stack.
            std::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "push rbp",
                ".cfi_adjust_cfa_offset 8",
                "lea rax, [rsp + 24]",
                "push rax",
                ".cfi_adjust_cfa_offset 8",
                "call {function}",
                "add rsp, 24",
                ".cfi_adjust_cfa_offset -24",
                "ret",
                ".cfi_endproc",
                function = sym $function,
            )
        }
    };
}

pub(crate) use with_caller;
