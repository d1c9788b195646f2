//! The shapes of hooks. Each is a function of one type, which says what is different and leaves the rest to `calls`.

pub use super::calls;
pub use super::calls::Function;
use crate::loader;
use std::ffi::c_void;

/// Defines the function `$symbol`, whose body has its arguments under the name `$arguments`.
macro_rules! function {
    ($symbol:ident, $($export:meta)?, $arguments:ident => $body:expr) => {
        $(#[$export])?
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $symbol(
            a: usize, b: usize, c: usize, d: usize, e: usize, f: usize,
        ) -> usize {
            let $arguments: $crate::arch::hooks::calls::Arguments = [a, b, c, d, e, f];
            // SAFETY: the arguments are those that the caller has for the C function of that name, which the real one is.
            unsafe { $body }
        }
    };
}

/// The place of an argument.
macro_rules! argument {
    (first) => {
        0
    };
    (second) => {
        1
    };
}

/// `$symbol(…)` returns a block of as many bytes as the argument `$size` says.
macro_rules! allocate {
    ($symbol:ident, $real:expr, $size:ident, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::allocate(&$real, Some(arguments[$crate::arch::hooks::argument!($size)]), arguments));
    };
}

/// `calloc(count, size)`.
macro_rules! allocate_zeroed {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::allocate(&$real, arguments[0].checked_mul(arguments[1]), arguments));
    };
}

/// `posix_memalign(place, alignment, size)`.
macro_rules! allocate_aligned {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::allocate_aligned(&$real, arguments));
    };
}

/// `realloc(block, size)`: slow when either the old block may be recorded or the new one will be.
macro_rules! reallocate {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::reallocate(&$real, arguments));
    };
}

/// `reallocarray(block, count, size)` is `realloc` of the product.
macro_rules! reallocate_array {
    ($symbol:ident, $realloc:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            match arguments[1].checked_mul(arguments[2]) {
                Some(size) => $realloc(arguments[0], size, 0, 0, 0, 0),
                None => $crate::entry::out_of_memory() as usize,
            });
    };
}

/// `$symbol(block, …)` frees: the death is recorded before the real call.
macro_rules! release {
    ($symbol:ident, $real:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::release(&$real, arguments));
    };
}

/// Stands where the real function will be: finds it and goes on to it, or, while it is being looked for, to `$early`.
macro_rules! find_first {
    ($symbol:ident, $find:expr, $index:expr, $real:expr, $early:expr) => {
        $crate::arch::hooks::function!($symbol, , arguments => match $find($index) {
            0 => $crate::arch::hooks::calls::call($early as *const std::ffi::c_void, arguments),
            _ => $crate::arch::hooks::calls::call($real.get(), arguments),
        });
    };
}

/// `operator new` where no allocator and no C++ runtime defines one for all: memory from `$allocate`, and where that
/// fails, the caller's own operator, which knows how to call the handler and to throw.
macro_rules! own_new {
    ($symbol:ident, $index:expr, $allocate:expr) => {
        $crate::arch::hooks::function!($symbol, , arguments =>
            $crate::arch::hooks::calls::own_new($index, $allocate as *const std::ffi::c_void, arguments));
    };
}

/// Goes wherever `$target` points.
macro_rules! forward {
    ($symbol:ident, $target:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments =>
            $crate::arch::hooks::calls::call($target.get(), arguments));
    };
}

/// Calls `$before`, which takes and returns nothing, and goes on to the real function.
macro_rules! announce {
    ($symbol:ident, $real:expr, $before:expr, $($export:meta)?) => {
        $crate::arch::hooks::function!($symbol, $($export)?, arguments => {
            $before();
            $crate::arch::hooks::calls::call($real.get(), arguments)
        });
    };
}

pub(crate) use {
    allocate, allocate_aligned, allocate_zeroed, announce, argument, find_first, forward, function, own_new,
    reallocate, reallocate_array, release,
};

/// The first code of a thread made through our `pthread_create`: goes on to the program's function.
///
/// # Safety
/// `slot` is what `pthread_create` passes.
pub unsafe extern "C-unwind" fn thread_start(
    slot: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
) -> usize {
    // SAFETY: by contract.
    let run = unsafe { loader::thread_begins(slot as *const loader::Slot) };
    // SAFETY: the program's function, and its argument.
    unsafe { calls::call(run.function as *const c_void, [run.argument, 0, 0, 0, 0, 0]) }
}
