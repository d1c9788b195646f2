//! Every entry point: one table declares, defines and installs them.
//!
//! The next function in line is called through a pointer that starts at a stub (`find_first`) which looks it up; so a
//! call that comes before this library's constructor works too.
//!
//! C++'s operators are hooked only where the next allocator defines them itself (jemalloc, tcmalloc, mimalloc do). The
//! C++ runtime's own call `malloc` and `free`, and are forwarded to. A process without a C++ runtime at start may load
//! libraries later that bring their own, out of reach of `RTLD_NEXT`, and that may be unloaded again: for them the
//! operators here allocate with `malloc`, and only a failure is left to the caller's own operator.

use crate::arch::caller::with_caller;
use crate::arch::hooks::{
    Function, allocate, allocate_aligned, allocate_zeroed, announce, find_first, forward, own_new,
    reallocate, reallocate_array, release,
};
use crate::early;
use crate::local::{as_own, local};
use crate::lookup::{self, first, home, is_ours, next};
use crate::unwind::objects;
use crate::watch;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::*};

/// Where the next function in line is.
#[repr(transparent)]
pub struct Real(AtomicPtr<c_void>);

impl Real {
    const fn new(stub: Function) -> Real {
        Real(AtomicPtr::new(stub as *mut c_void))
    }

    /// The function, to be cast to its type.
    pub fn get(&self) -> *mut c_void {
        self.0.load(Acquire)
    }

    fn set(&self, function: *mut c_void) {
        self.0.store(function, Release);
    }
}

/// A C function.
struct Entry {
    name: &'static CStr,
    real: &'static Real,
    /// What is called where the C library does not have it.
    instead: Option<&'static CStr>,
}

/// A C++ operator: `target` is the real one where that goes on to `malloc`, else `hook`.
struct Operator {
    name: &'static CStr,
    target: &'static Real,
    real: &'static Real,
    hook: Function,
    /// What is called where nobody defines it for all.
    own: Function,
}

macro_rules! name {
    ($symbol:ident) => {
        match CStr::from_bytes_with_nul(concat!(stringify!($symbol), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!("a symbol has no inner zero byte"),
        }
    };
}

macro_rules! hook {
    (allocate $size:ident, $symbol:ident) => { allocate!($symbol, super::real::$symbol, $size, cfg_attr(not(test), unsafe(no_mangle))); };
    (zeroed, $symbol:ident) => { allocate_zeroed!($symbol, super::real::$symbol, cfg_attr(not(test), unsafe(no_mangle))); };
    (aligned, $symbol:ident) => { allocate_aligned!($symbol, super::real::$symbol, cfg_attr(not(test), unsafe(no_mangle))); };
    (reallocate, $symbol:ident) => { reallocate!($symbol, super::real::$symbol, cfg_attr(not(test), unsafe(no_mangle))); };
    (release, $symbol:ident) => { release!($symbol, super::real::$symbol, cfg_attr(not(test), unsafe(no_mangle))); };
    (after $before:ident, $symbol:ident) => { announce!($symbol, super::real::$symbol, crate::exits::$before, cfg_attr(not(test), unsafe(no_mangle))); };
    (with_caller $function:path, $symbol:ident) => { with_caller!($symbol, $function, cfg_attr(not(test), unsafe(no_mangle))); };
    (elsewhere, $symbol:ident) => { #[cfg(test)] pub use super::elsewhere::$symbol; };
}

macro_rules! entries {
    ($($(#[$condition:meta])? $symbol:ident: [$($shape:tt)+], $early:path $(, or $instead:ident)?;)+) => {
        /// The next functions in line.
        #[allow(non_upper_case_globals)]
        pub mod real {
            $($(#[$condition])? pub static $symbol: super::Real = super::Real::new(super::stub::$symbol);)+
        }
        mod stub {
            use super::*;
            $($(#[$condition])? find_first!($symbol, find_entries, 0, super::real::$symbol, $early);)+
        }
        /// The exported functions.
        pub mod exported {
            use super::*;
            $($(#[$condition])? hook!($($shape)+, $symbol);)+
            reallocate_array!(reallocarray, realloc, cfg_attr(not(test), unsafe(no_mangle)));
        }
        #[cfg(test)]
        const EXPORTED: &[(&str, *const ())] = &[$($(#[$condition])? (stringify!($symbol), exported::$symbol as *const ())),+];
        static ENTRIES: &[Entry] = &[$($(#[$condition])? Entry {
            name: const { name!($symbol) },
            real: &real::$symbol,
            instead: entries!(@instead $($instead)?),
        }),+];
    };
    (@instead) => { None };
    (@instead $instead:ident) => { Some(const { name!($instead) }) };
}

entries! {
    malloc:             [allocate first],  early::malloc;
    calloc:             [zeroed],          early::calloc;
    realloc:            [reallocate],      early::realloc;
    posix_memalign:     [aligned],         early::posix_memalign;
    aligned_alloc:      [allocate second], early::memalign, or memalign;
    memalign:           [allocate second], early::memalign;
    valloc:             [allocate first],  early::valloc;
    pvalloc:            [allocate first],  early::valloc, or valloc;
    free:               [release],         early::free;
    cfree:              [release],         early::free, or free;
    free_sized:         [release],         early::free, or free;
    free_aligned_sized: [release],         early::free, or free;
    malloc_usable_size: [elsewhere],       early::usable_size;
    pthread_create:     [with_caller crate::loader::create_thread], early::unavailable;
    dlclose:            [elsewhere],       early::unavailable;
    mmap:               [with_caller crate::mapping::map],   early::unavailable;
    mmap64:             [with_caller crate::mapping::map],   early::unavailable;
    mremap:             [with_caller crate::mapping::remap], early::unavailable;
    munmap:             [elsewhere],       early::unavailable;
    mprotect:           [elsewhere],       early::unavailable;
    _exit:              [after before_exit], early::unavailable;
    _Exit:              [after before_exit], early::unavailable;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    execl:              [after before_exec], early::unavailable;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    execle:             [after before_exec], early::unavailable;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    execlp:             [after before_exec], early::unavailable;
    execv:              [after before_exec], early::unavailable;
    execve:             [after before_exec], early::unavailable;
    execvp:             [after before_exec], early::unavailable;
    execvpe:            [after before_exec], early::unavailable;
    fexecve:            [after before_exec], early::unavailable;
}

/// Written out where they belong.
#[cfg(test)]
mod elsewhere {
    pub use super::malloc_usable_size;
    pub use crate::loader::dlclose;
    pub use crate::mapping::{mprotect, munmap};
}

macro_rules! operator_hook {
    (delete, $symbol:ident) => {
        release!($symbol, super::real_operator::$symbol,);
    };
    ($new:ident, $symbol:ident) => {
        allocate!($symbol, super::real_operator::$symbol, first,);
    };
}

macro_rules! own_operator {
    (new, $index:literal, $symbol:ident) => {
        own_new!($symbol, $index, exported::malloc);
    };
    (new_aligned, $index:literal, $symbol:ident) => {
        own_new!($symbol, $index, early::operator_new_aligned);
    };
    (delete, $index:literal, $symbol:ident) => {
        pub use super::exported::free as $symbol;
    };
}

macro_rules! operators {
    ($($index:literal $symbol:ident: $kind:ident;)+) => {
        #[allow(non_upper_case_globals)]
        mod target_operator {
            $(pub static $symbol: super::Real = super::Real::new(super::operator_stub::$symbol);)+
        }
        #[allow(non_upper_case_globals)]
        mod real_operator {
            $(pub static $symbol: super::Real = super::Real::new(super::operator_stub::$symbol);)+
        }
        mod operator_stub {
            use super::*;
            $(find_first!($symbol, find_operator, $index, super::target_operator::$symbol, super::own::$symbol);)+
        }
        mod operator_hook {
            use super::*;
            $(operator_hook!($kind, $symbol);)+
        }
        mod own {
            use super::*;
            $(own_operator!($kind, $index, $symbol);)+
        }
        mod exported_operator {
            use super::*;
            $(forward!($symbol, super::target_operator::$symbol, cfg_attr(not(test), unsafe(no_mangle)));)+
        }
        #[cfg(test)]
        const EXPORTED_OPERATORS: &[(&str, *const ())] =
            &[$((stringify!($symbol), exported_operator::$symbol as *const ())),+];
        static OPERATORS: &[Operator] = &[$(Operator {
            name: const { name!($symbol) },
            target: &target_operator::$symbol,
            real: &real_operator::$symbol,
            hook: operator_hook::$symbol,
            own: own::$symbol,
        }),+];
    };
}

operators! {
     0 _Znwm: new;
     1 _Znam: new;
     2 _ZnwmRKSt9nothrow_t: new;
     3 _ZnamRKSt9nothrow_t: new;
     4 _ZnwmSt11align_val_t: new_aligned;
     5 _ZnamSt11align_val_t: new_aligned;
     6 _ZnwmSt11align_val_tRKSt9nothrow_t: new_aligned;
     7 _ZnamSt11align_val_tRKSt9nothrow_t: new_aligned;
     8 _ZdlPv: delete;
     9 _ZdaPv: delete;
    10 _ZdlPvm: delete;
    11 _ZdaPvm: delete;
    12 _ZdlPvRKSt9nothrow_t: delete;
    13 _ZdaPvRKSt9nothrow_t: delete;
    14 _ZdlPvSt11align_val_t: delete;
    15 _ZdaPvSt11align_val_t: delete;
    16 _ZdlPvmSt11align_val_t: delete;
    17 _ZdaPvmSt11align_val_t: delete;
    18 _ZdlPvSt11align_val_tRKSt9nothrow_t: delete;
    19 _ZdaPvSt11align_val_tRKSt9nothrow_t: delete;
}

const UNKNOWN: u8 = 0;
const LOOKING: u8 = 1;
const FOUND: u8 = 2;
static ENTRIES_STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Looks up every C function, once. Returns 0 while another call, perhaps one further up this thread's stack, is at it.
pub extern "C" fn find_entries(_index: u32) -> u32 {
    match ENTRIES_STATE.compare_exchange(UNKNOWN, LOOKING, AcqRel, Acquire) {
        Ok(_) => {}
        Err(state) => return u32::from(state == FOUND),
    }
    as_own(|| {
        for entry in ENTRIES {
            let function = match (next(entry.name), entry.instead) {
                (found, Some(instead)) if found.is_null() => first(instead).unwrap_or_else(|| next(instead)),
                (found, _) => found,
            };
            if !function.is_null() {
                entry.real.set(function);
            }
        }
    });
    ENTRIES_STATE.store(FOUND, Release);
    1
}

/// Whether every C function has been looked up.
pub fn entries_are_found() -> bool {
    ENTRIES_STATE.load(Acquire) == FOUND
}

/// Finds every C function, and waits out another thread that is at it, which takes microseconds.
pub fn wait_for_entries() {
    while find_entries(0) == 0 {
        // SAFETY: has no arguments and cannot fail.
        unsafe { libc::sched_yield() };
    }
}

/// Looks one operator up, once. Returns 0 while the C functions are being looked up further up this thread's stack.
extern "C" fn find_operator(index: u32) -> u32 {
    let Some(operator) = OPERATORS.get(index as usize) else { return 0 };
    if find_entries(0) == 0 {
        return 0;
    }
    as_own(|| {
        let function = next(operator.name);
        operator.target.set(if function.is_null() {
            operator.own as *mut c_void
        } else if home(function).is_some()
            && home(function) == home(real::malloc.get())
            && !allocates_through_hooks(index, function)
        {
            operator.real.set(function);
            operator.hook as *mut c_void
        } else {
            function
        });
        1
    })
}

/// Whether an `operator new` of the next allocator's asks for its memory through one of our hooks, as jemalloc's aligned ones
/// do: then that hook counts the block, and the operator must not. Tried with one small block, of which nothing is recorded.
fn allocates_through_hooks(index: u32, function: *mut c_void) -> bool {
    const SIZE: usize = 64;
    // The forms of new, each with the form of delete that belongs to it.
    const DELETES: [usize; 8] = [8, 9, 8, 9, 14, 15, 14, 15];
    let Some(delete) = DELETES.get(index as usize).and_then(|&delete| OPERATORS.get(delete)) else {
        return false;
    };
    let delete = next(delete.name);
    if delete.is_null() {
        return false;
    }
    let local = local();
    let before = local.countdown.replace(u64::MAX >> 1);
    // SAFETY: the functions are the operators of these names. One that does not take an alignment, or the tag that says it
    // does not throw, ignores further arguments; where it takes only the tag, it does not look at it.
    unsafe {
        let new: unsafe extern "C" fn(usize, usize, *const u8) -> *mut c_void = std::mem::transmute(function);
        let delete: unsafe extern "C" fn(*mut c_void, usize) = std::mem::transmute(delete);
        delete(new(SIZE, SIZE, &0), SIZE);
    }
    local.countdown.replace(before) != u64::MAX >> 1
}

/// Two registers' worth: the function, and whether there is one.
#[repr(C)]
pub struct Found {
    /// The function.
    pub function: *mut c_void,
    /// 1 where there is one.
    pub is_found: u64,
}

/// An operator as the caller's library, or one that it depends on, defines it: what would have been called without us.
/// `return_address` is of the call.
pub extern "C" fn find_callers_own(index: u32, return_address: u64) -> Found {
    let function = as_own(|| {
        let operator = OPERATORS.get(index as usize)?;
        let object = objects::find(return_address).or_else(|| {
            watch::look();
            objects::find(return_address)
        })?;
        // SAFETY: the caller's image is loaded as long as it has a frame on this stack, and so is its name, a C string.
        // RTLD_NOLOAD loads nothing; the handle is given back to the loader's own function, not to our hook.
        let function = unsafe {
            let handle = libc::dlopen(object.name().as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                return None;
            }
            let function = libc::dlsym(handle, operator.name.as_ptr());
            let close: unsafe extern "C" fn(*mut c_void) -> c_int = std::mem::transmute(real::dlclose.get());
            close(handle);
            function
        };
        (!function.is_null() && !is_ours(function)).then_some(function)
    });
    Found { function: function.unwrap_or(std::ptr::null_mut()), is_found: u64::from(function.is_some()) }
}

/// Finds everything now, on a thread that may call the loader, so that hooks need not.
pub fn install() {
    find_entries(0);
    for index in 0..OPERATORS.len() {
        find_operator(index as u32);
    }
    lookup::note_allocator();
}

/// `reallocarray` whose product exceeds the address space.
pub unsafe extern "C" fn out_of_memory() -> *mut c_void {
    // SAFETY: errno is the calling thread's own.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
    std::ptr::null_mut()
}

/// Not an allocation, but it must know the blocks that were given out before `malloc` was found.
///
/// # Safety
/// As the C function: `block` is null or a live block.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    if early::owns(block) || find_entries(0) == 0 {
        // SAFETY: the block is one of the early ones.
        return unsafe { early::usable_size(block) };
    }
    // SAFETY: this is the next `malloc_usable_size` in line, and `block` the caller's.
    unsafe {
        let real: unsafe extern "C" fn(*mut c_void) -> usize =
            std::mem::transmute(real::malloc_usable_size.get());
        real(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_what_the_library_exports() {
        let array = ("reallocarray", exported::reallocarray as *const ());
        let mut all: Vec<_> = EXPORTED.iter().chain(EXPORTED_OPERATORS).copied().chain([array]).collect();
        all.sort_unstable();
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        let has_lists = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
        let listed = include_str!("../tests/preload/exported.txt").lines();
        let listed = listed.filter(|name| has_lists || !["execl", "execle", "execlp"].contains(name));
        assert_eq!(names, listed.collect::<Vec<_>>());
        all.dedup_by_key(|(_, function)| *function);
        assert_eq!(all.len(), names.len(), "each has a function of its own");
    }
}
