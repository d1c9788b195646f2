//! What a hook says of its caller, which is nothing: the unwinder finds it.

use crate::local::Local;
use crate::unwind::objects;

/// The caller of a hook.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Caller(u8);

impl Caller {
    /// The calling hook's.
    pub const UNKNOWN: Caller = Caller(0);

    /// Its registers.
    pub fn registers(&self, _local: &Local) -> Option<Registers> {
        Registers::find()
    }
}

/// The innermost frame that is not this library's.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// A return address into the frame's function.
    pub return_address: u64,
}

impl Registers {
    /// The innermost frame from here; the caller is guarded as for [`each`](Registers::each).
    pub fn find() -> Option<Registers> {
        let mut found = None;
        walk(|return_address| {
            found = Some(Registers { return_address });
            false
        });
        found
    }

    /// Visits the return addresses from here outwards, without those in this library, until `visit` returns false. The
    /// unwinder may allocate: the caller is guarded.
    pub fn each(self, visit: impl FnMut(u64) -> bool) {
        walk(visit);
    }
}

fn walk(mut visit: impl FnMut(u64) -> bool) {
    let own = objects::find(Caller::registers as *const () as u64 + 1);
    let is_own = |address: u64| own.is_some_and(|own| own.start < address && address <= own.end);
    // SAFETY: nothing that the function shares between threads is used on Linux: it is `_Unwind_Backtrace` there.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip() as u64;
            address != 0 && (is_own(address) || visit(address))
        });
    }
}
