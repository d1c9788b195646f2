//! Registers and their DWARF numbers; what a hook says of its caller.

use crate::local::Local;
use crate::unwind::cfi::Place;
use crate::unwind::window::{Window, is_on_own_stack};

/// DWARF's number of rbp.
pub const FRAME_POINTER: u64 = 6;
/// DWARF's number of rsp.
pub const STACK_POINTER: u64 = 7;
/// DWARF's number of the return address.
pub const RETURN_ADDRESS: u64 = 16;

/// The return address's place where none is stated: a call pushes it.
pub const RETURN_ADDRESS_UNSTATED: Place = Place::Offset(-8);

/// Whether an instruction that only this processor has says nothing about the frame, and has no operands. There is none.
pub fn says_nothing(_instruction: u8) -> bool {
    false
}

/// A return address, from the word that holds it.
#[inline(always)]
pub fn address(word: u64) -> u64 {
    word
}

/// The caller of a hook, after its return: the return address lies below its stack pointer. Passed in two registers.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Caller {
    sp: u64,
    fp: u64,
}

impl Caller {
    /// Its registers; `None` where its return address cannot be read.
    #[inline]
    pub fn registers(&self, local: &Local) -> Option<Registers> {
        self.own_registers(local).or_else(|| {
            let return_address = foreign(local, self.sp.wrapping_sub(8))?;
            Some(Registers::new(return_address, self.sp, self.fp))
        })
    }

    /// Its registers, where it is on the calling thread's own stack.
    #[inline(always)]
    pub fn own_registers(&self, local: &Local) -> Option<Registers> {
        if !is_on_own_stack(local, self.sp) {
            return None;
        }
        // SAFETY: the hook's return address, on the calling thread's own stack.
        let return_address = unsafe { (self.sp.wrapping_sub(8) as *const u64).read_unaligned() };
        Some(Registers::new(return_address, self.sp, self.fp))
    }
}

/// A return address on a stack that is not the thread's own.
#[cold]
#[inline(never)]
fn foreign(local: &Local, slot: u64) -> Option<u64> {
    Window::at(local, slot).load(slot)
}

/// A frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// A return address into the frame's function.
    pub return_address: u64,
    /// rsp.
    pub sp: u64,
    /// rbp.
    pub fp: u64,
}

impl Registers {
    /// A frame that has made a call.
    #[inline]
    pub fn new(return_address: u64, sp: u64, fp: u64) -> Registers {
        Registers { return_address, sp, fp }
    }

    /// The register with a number of DWARF's. The PLT's expressions ask for the instruction pointer, to know how far
    /// into an entry it is: they mean the exact one.
    pub fn dwarf(&self, register: u64) -> Option<u64> {
        match register {
            FRAME_POINTER => Some(self.fp),
            STACK_POINTER => Some(self.sp),
            RETURN_ADDRESS => Some(self.return_address.wrapping_sub(1)),
            _ => None,
        }
    }

    /// The return address where it is still in a register, which is never.
    pub fn link(&self) -> Option<u64> {
        None
    }
}
