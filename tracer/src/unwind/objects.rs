//! Which loaded ELF image an address belongs to, in a hook: without a lock or an allocation. glibc's `_dl_find_object`
//! tells where there is one, which is so from 2.35 on; else our own [table](super::table) of images does.

use super::table::TABLE;
use crate::watch;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// A loaded image, in the process's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// First mapped byte.
    pub start: u64,
    /// One past the last mapped byte.
    pub end: u64,
    /// `.eh_frame_hdr`, or 0.
    pub unwind_table: u64,
    /// Where the rest is told.
    pub loaded: Loaded,
}

/// How the loader names an image, and by how much it has moved it.
#[derive(Clone, Copy, Debug)]
pub enum Loaded {
    /// Its own entry.
    Entry(*const LinkMap),
    /// A copy of what matters: address in the process minus address in the ELF; the path, which is kept for ever.
    Copied(u64, &'static CStr),
}

/// The public head of glibc's `struct link_map`.
#[repr(C)]
#[derive(Debug)]
pub struct LinkMap {
    /// Address in the process minus address in the ELF.
    bias: u64,
    /// The path; empty for the main program.
    name: *const c_char,
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

/// Looks glibc's function up. False: there is none, and the table has to be kept.
pub fn init() -> bool {
    const NAME: &CStr = c"_dl_find_object";
    // SAFETY: the name is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, NAME.as_ptr()) };
    FIND_OBJECT.store(function, Release);
    !function.is_null()
}

/// Whether images are found in our own table.
pub fn by_table() -> bool {
    FIND_OBJECT.load(Acquire).is_null()
}

/// The image that the code before `return_address` belongs to.
pub fn find(return_address: u64) -> Option<Object> {
    let address = return_address.wrapping_sub(1);
    let function = FIND_OBJECT.load(Acquire);
    if function.is_null() {
        let found = TABLE.find(address);
        if found.is_none() {
            // Loaded since, perhaps. Until the table has it, this is code that nothing is known of.
            watch::ask();
        }
        return found;
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
        function(address as *mut c_void, &mut found)
    };
    (status == 0 && !found.link_map.is_null()).then_some(Object {
        start: found.map_start as u64,
        end: found.map_end as u64,
        unwind_table: found.eh_frame as u64,
        loaded: Loaded::Entry(found.link_map),
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

    /// Address in the process minus address in the ELF.
    pub fn bias(&self) -> u64 {
        match self.loaded {
            // SAFETY: the loader's entry for an image that has a frame on this stack.
            Loaded::Entry(entry) => unsafe { (*entry).bias },
            Loaded::Copied(bias, _) => bias,
        }
    }

    /// The path; empty for the main program.
    pub fn name(&self) -> &CStr {
        match self.loaded {
            // SAFETY: as above; the name is null or a C string that the loader keeps as long as the image.
            Loaded::Entry(entry) => unsafe {
                let name = (*entry).name;
                if name.is_null() { c"" } else { CStr::from_ptr(name) }
            },
            Loaded::Copied(_, name) => name,
        }
    }
}
