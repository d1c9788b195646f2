//! A hook that wants to know who called it: here it does not matter how it is written.

/// `$symbol` calls `$function` with its first six arguments, whatever they are, and its caller, and returns what that
/// returns.
macro_rules! with_caller {
    ($symbol:ident, $function:path, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::call_with_caller($function as *const std::ffi::c_void, arguments));
    };
}

pub(crate) use with_caller;
