//! Which loaded ELF image an address belongs to, through glibc's `_dl_find_object`: lock-free, and usable in a hook.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// A loaded image, in the process's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// First mapped byte.
    pub start: u64,
    /// One past the last mapped byte.
    pub end: u64,
    /// The loader's entry.
    pub link_map: *const LinkMap,
    /// `.eh_frame_hdr`, or 0.
    pub unwind_table: u64,
}

/// The public head of glibc's `struct link_map`.
#[repr(C)]
#[derive(Debug)]
pub struct LinkMap {
    /// Address in the process minus address in the ELF.
    pub bias: u64,
    /// The path; empty for the main program.
    pub name: *const libc::c_char,
}

/// glibc's `struct dl_find_object`, which has the same fields on x86-64 and AArch64.
#[repr(C)]
struct Found {
    flags: u64,
    map_start: *mut c_void,
    map_end: *mut c_void,
    link_map: *const LinkMap,
    eh_frame: *mut c_void,
    reserved: [u64; 7],
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut Found) -> c_int;

static FIND_OBJECT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Looks the function up; false where glibc, before 2.35, has none.
pub fn init() -> bool {
    const NAME: &CStr = c"_dl_find_object";
    // SAFETY: the name is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, NAME.as_ptr()) };
    FIND_OBJECT.store(function, Release);
    !function.is_null()
}

/// The image that the code before `return_address` belongs to.
pub fn find(return_address: u64) -> Option<Object> {
    let function = FIND_OBJECT.load(Acquire);
    if function.is_null() {
        return None;
    }
    let mut found = Found {
        flags: 0,
        map_start: std::ptr::null_mut(),
        map_end: std::ptr::null_mut(),
        link_map: std::ptr::null(),
        eh_frame: std::ptr::null_mut(),
        reserved: [0; 7],
    };
    // SAFETY: the function is glibc's, whose type this is; it takes any address, and the result is a valid place.
    let status = unsafe {
        let function: FindObject = std::mem::transmute(function);
        function(return_address.wrapping_sub(1) as *mut c_void, &mut found)
    };
    (status == 0 && !found.link_map.is_null()).then_some(Object {
        start: found.map_start as u64,
        end: found.map_end as u64,
        link_map: found.link_map,
        unwind_table: found.eh_frame as u64,
    })
}

impl Object {
    /// Reads `N` mapped bytes of the image; `None` outside it.
    #[inline]
    pub fn read<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        if at < self.start || at.checked_add(N as u64)? > self.end {
            return None;
        }
        // SAFETY: the bytes lie inside the image, which stays mapped while this thread has a frame in it; callers ask
        // for its headers and unwind tables, which are readable. Alignment is not assumed.
        Some(unsafe { (at as *const [u8; N]).read_unaligned() })
    }
}
