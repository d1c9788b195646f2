//! What the allocator in use offers beside the functions of the C standard. Looked up once, by the constructor, where the
//! loader may be called.

use crate::lookup;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};

/// An allocator that is known, by a function of its library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocator {
    /// The C library's.
    Glibc,
    /// jemalloc, from version 4 on.
    Jemalloc,
    /// gperftools' tcmalloc.
    Tcmalloc,
    /// mimalloc.
    Mimalloc,
}

/// Each with the function by which it is known, which here also gives freed memory back.
const KNOWN: [(Allocator, &CStr); 4] = [
    (Allocator::Jemalloc, c"mallctl"),
    (Allocator::Tcmalloc, c"MallocExtension_ReleaseFreeMemory"),
    (Allocator::Mimalloc, c"mi_collect"),
    (Allocator::Glibc, c"malloc_trim"),
];

/// Which of [`KNOWN`] is in use, plus 1; 0: none of them.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Looks which one is in use: the function has to be of the library whose `malloc` is called. Calls the loader.
pub fn find() {
    for (index, (_, name)) in KNOWN.iter().enumerate() {
        if let Some(function) = lookup::allocators(name) {
            FUNCTION.store(function, Release);
            IN_USE.store(index + 1, Release);
            return;
        }
    }
}

/// The allocator in use, where it is a known one, and the function by which it is known.
pub fn in_use() -> Option<(Allocator, *mut c_void)> {
    let (allocator, _) = KNOWN.get(IN_USE.load(Acquire).checked_sub(1)?)?;
    Some((*allocator, FUNCTION.load(Acquire)))
}

/// Has the allocator give the memory that it holds back to the system. It takes the allocator's locks and may take long: for
/// a thread that nobody waits for. What was called, or why nothing was.
///
/// # Errors
/// A text, where the allocator is not known or refuses.
pub fn trim() -> Result<&'static str, String> {
    type MallocTrim = unsafe extern "C" fn(usize) -> c_int;
    type Release = unsafe extern "C" fn();
    type Collect = unsafe extern "C" fn(bool);
    let Some((allocator, function)) = in_use() else {
        let name = lookup::allocator().unwrap_or_else(|| "unknown".to_owned());
        return Err(format!("the allocator has no function for it that is known here: {name}"));
    };
    match allocator {
        Allocator::Glibc => {
            // SAFETY: `function` is glibc's `malloc_trim`, by its name and library.
            unsafe { std::mem::transmute::<*mut c_void, MallocTrim>(function)(0) };
            Ok("malloc_trim")
        }
        Allocator::Jemalloc => purge(function),
        Allocator::Tcmalloc => {
            // SAFETY: as above, for tcmalloc's function without arguments.
            unsafe { std::mem::transmute::<*mut c_void, Release>(function)() };
            Ok("MallocExtension_ReleaseFreeMemory")
        }
        Allocator::Mimalloc => {
            // SAFETY: as above, for mimalloc's `mi_collect(bool force)`.
            unsafe { std::mem::transmute::<*mut c_void, Collect>(function)(true) };
            Ok("mi_collect")
        }
    }
}

/// Purges all of jemalloc's arenas.
fn purge(function: *mut c_void) -> Result<&'static str, String> {
    type Mallctl = unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;
    // `MALLCTL_ARENAS_ALL`, from version 5 on; before, the number of arenas stood for all of them.
    const ALL: u32 = 4096;
    // SAFETY: `function` is jemalloc's `mallctl`, by its name and library.
    let mallctl = unsafe { std::mem::transmute::<*mut c_void, Mallctl>(function) };
    let purge = |arena: u32| {
        let name = format!("arena.{arena}.purge\0");
        // SAFETY: a C string, and neither a place for an old value nor a new value, as this name wants.
        unsafe {
            mallctl(name.as_ptr().cast(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0)
        }
    };
    let mut status = purge(ALL);
    if status != 0 {
        let (mut arenas, mut len) = (0u32, size_of::<u32>());
        // SAFETY: a C string, and a place of as many bytes as it says.
        unsafe {
            let place = (&raw mut arenas).cast();
            mallctl(c"arenas.narenas".as_ptr(), place, &mut len, std::ptr::null_mut(), 0)
        };
        status = purge(arenas);
    }
    if status == 0 {
        Ok("mallctl arena.<all>.purge")
    } else {
        Err(format!("mallctl failed with error {status}"))
    }
}
