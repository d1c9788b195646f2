//! What the allocator in use says of itself. Its functions are looked up where tracing begins; all of them may take its
//! locks, and are called on the thread of vitals only, and once by the constructor.

use super::{Reading, glibc};
use crate::lookup;
use prof::record::Vital;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::*};

const NONE: u8 = 0;
const GLIBC: u8 = 1;
const JEMALLOC: u8 = 2;
const TCMALLOC: u8 = 3;
const MIMALLOC: u8 = 4;

/// Which one it is, and the function that it is asked through.
static KIND: AtomicU8 = AtomicU8::new(NONE);
static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Functions by which allocators are known.
const KNOWN: [(u8, &CStr); 4] = [
    (JEMALLOC, c"mallctl"),
    (TCMALLOC, c"MallocExtension_GetNumericProperty"),
    (MIMALLOC, c"mi_process_info"),
    (GLIBC, c"malloc_info"),
];

type Control = unsafe extern "C" fn(*const i8, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;
type Property = unsafe extern "C" fn(*const i8, *mut usize) -> c_int;
type ProcessInfo = unsafe extern "C" fn(
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
);

/// Finds out which one it is; for the constructor.
pub fn find() {
    let known = KNOWN.iter().find_map(|&(kind, name)| Some((kind, lookup::allocators(name)?)));
    if let Some((kind, function)) = known {
        if kind == GLIBC {
            glibc::open();
        }
        FUNCTION.store(function, Release);
        KIND.store(kind, Release);
    }
}

/// The allocator in use.
#[derive(Clone, Copy)]
pub enum Allocator {
    /// Nothing is known of it.
    Unknown,
    /// The C library's.
    Glibc,
    /// jemalloc.
    Jemalloc(Control),
    /// gperftools' tcmalloc.
    Tcmalloc(Property),
    /// mimalloc.
    Mimalloc(ProcessInfo),
}

impl Allocator {
    /// As [`find`] has found it.
    pub fn get() -> Allocator {
        let kind = KIND.load(Acquire);
        let function = FUNCTION.load(Acquire);
        // SAFETY: the function is the one of that allocator's name, whose type this is.
        unsafe {
            match kind {
                GLIBC => Allocator::Glibc,
                JEMALLOC => Allocator::Jemalloc(std::mem::transmute::<*mut c_void, Control>(function)),
                TCMALLOC => Allocator::Tcmalloc(std::mem::transmute::<*mut c_void, Property>(function)),
                MIMALLOC => Allocator::Mimalloc(std::mem::transmute::<*mut c_void, ProcessInfo>(function)),
                _ => Allocator::Unknown,
            }
        }
    }

    /// Asks it.
    pub fn read(&mut self, reading: &mut Reading) {
        match *self {
            Allocator::Unknown => {}
            Allocator::Glibc => glibc::read(reading),
            Allocator::Jemalloc(control) => reading.values = jemalloc(control),
            Allocator::Tcmalloc(property) => reading.values = tcmalloc(property),
            Allocator::Mimalloc(info) => reading.values = mimalloc(info),
        }
    }
}

/// What is mapped, with what was given back and kept as addresses; of that, what is not in RAM.
fn jemalloc(control: Control) -> Vec<(Vital, u64)> {
    let mut epoch = 1u64;
    // SAFETY: the name is a C string, and the place is of the value's type, which is read and written.
    unsafe {
        let mut len = size_of::<u64>();
        let place = (&raw mut epoch).cast();
        control(c"epoch".as_ptr().cast(), place, &mut len, place, len);
    }
    let size = |name: &CStr| {
        let (mut value, mut len) = (0usize, size_of::<usize>());
        // SAFETY: as above.
        let status = unsafe {
            control(name.as_ptr().cast(), (&raw mut value).cast(), &mut len, std::ptr::null_mut(), 0)
        };
        (status == 0).then_some(value as u64)
    };
    let Some((allocated, mapped)) = size(c"stats.allocated").zip(size(c"stats.mapped")) else {
        return Vec::new();
    };
    let system = mapped + size(c"stats.retained").unwrap_or(0);
    let mut values = vec![(Vital::AllocatorSystem, system), (Vital::AllocatorInUse, allocated)];
    let released = size(c"stats.resident").map(|resident| system.saturating_sub(resident));
    values.extend(released.map(|bytes| (Vital::AllocatorReleased, bytes)));
    let mut arenas = 0u32;
    // SAFETY: as above.
    let status = unsafe {
        let mut len = size_of::<u32>();
        let place = (&raw mut arenas).cast();
        control(c"arenas.narenas".as_ptr().cast(), place, &mut len, std::ptr::null_mut(), 0)
    };
    values.extend((status == 0).then_some((Vital::Arenas, arenas.into())));
    values
}

fn tcmalloc(property: Property) -> Vec<(Vital, u64)> {
    let size = |name: &CStr| {
        let mut value = 0usize;
        // SAFETY: the name is a C string, and the place is of the value's type.
        (unsafe { property(name.as_ptr().cast(), &mut value) } != 0).then_some(value as u64)
    };
    let values = [
        (Vital::AllocatorSystem, size(c"generic.heap_size")),
        (Vital::AllocatorInUse, size(c"generic.current_allocated_bytes")),
        (Vital::AllocatorReleased, size(c"tcmalloc.pageheap_unmapped_bytes")),
    ];
    values.into_iter().filter_map(|(vital, value)| Some((vital, value?))).collect()
}

/// It tells what it has, and not what of it is in use.
fn mimalloc(info: ProcessInfo) -> Vec<(Vital, u64)> {
    let mut places = [0usize; 8];
    let [elapsed, user, system, rss, peak_rss, commit, peak_commit, faults] = &mut places;
    // SAFETY: eight places of the values' type.
    unsafe { info(elapsed, user, system, rss, peak_rss, commit, peak_commit, faults) };
    vec![(Vital::AllocatorSystem, *commit as u64)]
}
