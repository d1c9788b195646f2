//! A hook that is written in Rust and wants to know who called it.

/// `$symbol` calls `$function` with its first six arguments, whatever they are, and its caller, and returns what that
/// returns.
macro_rules! with_caller {
    ($symbol:ident, $function:path, $($export:meta)?) => {
        $(#[$export])?
        #[unsafe(naked)]
        pub unsafe extern "C" fn $symbol() {
            use $crate::arch::hooks::{enter, leave};
            // The caller is the seventh argument, by the address of a copy.
            std::arch::naked_asm!(
                ".cfi_startproc",
                enter!(),
                "mov x6, sp",
                "bl {function}",
                leave!(),
                "ret",
                ".cfi_endproc",
                function = sym $function,
            )
        }
    };
}

pub(crate) use with_caller;
