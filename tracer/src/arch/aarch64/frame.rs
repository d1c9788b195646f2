//! Registers and their DWARF numbers; what a hook says of its caller.

use crate::local::Local;
use crate::unwind::cfi::Place;
use crate::unwind::window::is_on_own_stack;
use std::arch::asm;

/// DWARF's number of x29.
pub const FRAME_POINTER: u64 = 29;
/// DWARF's number of sp.
pub const STACK_POINTER: u64 = 31;
/// DWARF's number of x30, which a call leaves the return address in.
pub const RETURN_ADDRESS: u64 = 30;

/// The return address's place where none is stated: still in x30.
pub const RETURN_ADDRESS_UNSTATED: Place = Place::Same;

/// Whether an instruction that only this processor has says nothing about the frame, and has no operands.
/// DW_CFA_AARCH64_negate_ra_state is such a one: [`address`] takes signed and unsigned return addresses alike.
pub fn says_nothing(instruction: u8) -> bool {
    instruction == 0x2d
}

/// A return address, from the word that holds it: without its signature, where it has one.
#[inline(always)]
pub fn address(word: u64) -> u64 {
    let mut address = word;
    // SAFETY: `xpaclri` takes the signature off the address in x30, leaves an address without one as it is, and does
    // nothing on processors that do not sign. It touches no other register and no memory.
    unsafe { asm!("hint #7", inout("x30") address, options(nomem, nostack, pure, preserves_flags)) };
    address
}

/// The caller of a hook, after its return. Passed, like any structure of its size, by the address of a copy on the
/// hook's stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Caller {
    sp: u64,
    fp: u64,
    return_address: u64,
}

const _: () = assert!(size_of::<Caller>() == 24);

impl Caller {
    /// Its registers.
    #[inline]
    pub fn registers(&self, _local: &Local) -> Option<Registers> {
        Some(Registers::new(address(self.return_address), self.sp, self.fp))
    }

    /// Its registers, where it is on the calling thread's own stack.
    #[inline(always)]
    pub fn own_registers(&self, local: &Local) -> Option<Registers> {
        self.registers(local).filter(|at| is_on_own_stack(local, at.sp))
    }
}

/// A frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// A return address into the frame's function.
    pub return_address: u64,
    /// sp.
    pub sp: u64,
    /// x29.
    pub fp: u64,
    /// x30 of a function that a signal interrupted; of one that has made a call it is not known.
    pub x30: Option<u64>,
}

impl Registers {
    /// A frame that has made a call.
    #[inline]
    pub fn new(return_address: u64, sp: u64, fp: u64) -> Registers {
        Registers { return_address, sp, fp, x30: None }
    }

    /// The register with a number of DWARF's.
    pub fn dwarf(&self, register: u64) -> Option<u64> {
        match register {
            FRAME_POINTER => Some(self.fp),
            STACK_POINTER => Some(self.sp),
            RETURN_ADDRESS => self.x30,
            _ => None,
        }
    }

    /// The return address where it is still in a register.
    pub fn link(&self) -> Option<u64> {
        self.x30
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_signatures_off() {
        let plain = takes_signatures_off as *const () as u64;
        let mut signed = plain;
        // SAFETY: `paciasp` signs x30, or does nothing, and touches nothing else.
        unsafe { asm!("hint #25", inout("x30") signed) };
        assert_eq!((address(signed), address(plain)), (plain, plain));
        assert_eq!(address(0), 0);
    }
}
