//! Whose functions are called: what a name means to the program, and what comes after this library.
//!
//! ```text
//! the program's calls ─▶ first in line ─▶ … ─▶ this library ─▶ next in line ─▶ …
//!                        ours, or `preempted_by`               `allocator`: its malloc is called
//! ```
//! All but [`is_allocators`] call the loader.

use crate::entry::real;
use crate::unwind::objects;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// First byte and end of the library whose `malloc` is called.
static ALLOCATOR: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// Takes note of where that library is.
pub fn note_allocator() {
    if let Some(object) = objects::find(real::malloc.get() as u64) {
        ALLOCATOR.0.store(object.start, Relaxed);
        ALLOCATOR.1.store(object.end, Relaxed);
    }
}

/// Whether an address is of that library.
pub fn is_allocators(address: u64) -> bool {
    (ALLOCATOR.0.load(Relaxed)..ALLOCATOR.1.load(Relaxed)).contains(&address)
}

/// Where the real functions that allocate are: the next ones in line, and the C library's.
pub fn real_addresses() -> Vec<u64> {
    const ALLOCATING: [&CStr; 8] = [
        c"malloc",
        c"calloc",
        c"realloc",
        c"posix_memalign",
        c"aligned_alloc",
        c"memalign",
        c"valloc",
        c"pvalloc",
    ];
    // SAFETY: the name is a C string, and nothing is loaded that is not there already. The library is never unloaded, so that
    // its handle need not be given back.
    let library = unsafe { libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    let of_library = |name: &&CStr| match library.is_null() {
        true => std::ptr::null_mut(),
        // SAFETY: a handle, and a C string.
        false => unsafe { libc::dlsym(library, name.as_ptr()) },
    };
    let both = ALLOCATING.iter().flat_map(|name| [next(name), of_library(name)]);
    both.filter(|function| !function.is_null()).map(|function| function as u64).collect()
}

/// The path of the library whose `malloc` is called.
pub fn allocator() -> Option<String> {
    let mut info = empty_info();
    // SAFETY: `info` is a valid place; the address need not be one of a function.
    let found = unsafe { libc::dladdr(real::malloc.get(), &mut info) } != 0 && !info.dli_fname.is_null();
    // SAFETY: dladdr found the object, whose name is a C string that lives while the object is loaded; the object of
    // the process's malloc is never unloaded.
    found.then(|| unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned())
}

/// A function that the library defines whose `malloc` is called.
pub fn allocators(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!function.is_null() && home(function) == home(real::malloc.get())).then_some(function)
}

/// The path of the program or library that brings a `malloc` of its own ahead of ours, as a program does that has an
/// allocator linked in: what it gives out is never seen here.
pub fn preempted_by() -> Option<String> {
    // A program that takes the address of malloc hides who is ahead of us there.
    let function = first(c"malloc").or_else(|| first(c"posix_memalign"))?;
    let mut info = empty_info();
    // SAFETY: as in `allocator`.
    let found = unsafe { libc::dladdr(function, &mut info) } != 0 && !info.dli_fname.is_null();
    // SAFETY: as in `allocator`.
    found.then(|| unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned())
}

/// The function that everybody's calls go to, where that is not ours.
pub fn first(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!function.is_null() && !is_ours(function) && is_definition(function)).then_some(function)
}

/// Whether `function` is where a symbol is defined, and not the entry of a program's procedure linkage table that stands for a
/// function of another object whose address the program takes.
fn is_definition(function: *mut c_void) -> bool {
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            extra: *mut *const libc::Elf64_Sym,
            flags: c_int,
        ) -> c_int;
    }
    const RTLD_DL_SYMENT: c_int = 1;
    let (mut info, mut symbol) = (empty_info(), std::ptr::null::<libc::Elf64_Sym>());
    // SAFETY: valid places; with this flag the second one is for a symbol, which stays loaded as its object does, or for null.
    unsafe {
        dladdr1(function, &mut info, &mut symbol, RTLD_DL_SYMENT) != 0
            && symbol.as_ref().is_some_and(|symbol| symbol.st_shndx != 0)
    }
}

/// The next function in line; null where there is none.
pub fn next(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string. The result is used below, so this is no tail call: RTLD_NEXT is relative to the
    // object that contains the return address, which must be ours.
    std::hint::black_box(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) })
}

/// The base address of the object that contains `function`.
pub fn home(function: *mut c_void) -> Option<usize> {
    let mut info = empty_info();
    // SAFETY: `info` is a valid place; the address need not be one of a function.
    (unsafe { libc::dladdr(function, &mut info) } != 0).then_some(info.dli_fbase as usize)
}

/// Whether `function` is of this library.
pub fn is_ours(function: *mut c_void) -> bool {
    home(function) == home(is_ours as *mut c_void)
}

/// To be filled in by `dladdr`.
pub fn empty_info() -> libc::Dl_info {
    libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    }
}
