//! What a step from a frame to its caller is, and steps of rare shape.

use super::cfi::{self, Cfa, Place};
use super::objects;
use super::window::Window;
use crate::arch::frame::{Registers, address};

/// No code lies below.
pub const LOWEST_CODE: u64 = 4096;

/// Where a frame of common shape has what leads to its caller.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    /// The caller's stack pointer.
    pub cfa: u64,
    /// Of the caller's return address.
    pub return_slot: u64,
    /// Of the caller's frame pointer; `return_slot` where it is the frame's own.
    pub fp_slot: u64,
}

/// The caller of a frame of rare shape.
#[cold]
pub fn evaluated(at: Registers, window: &mut Window) -> Option<Registers> {
    let object = objects::find(at.return_address)?;
    let row = cfi::row(&object, at.return_address.wrapping_sub(1))?;
    let cfa = match row.cfa {
        Cfa::Register(register, offset) => at.dwarf(register)?.wrapping_add(offset as u64),
        Cfa::Expression(code) => cfi::evaluate(&object, code, None, &at, |at| window.load(at))?,
        Cfa::Unset => return None,
    };
    let mut value = |place: Place, same: Option<u64>| match place {
        Place::Same => same,
        Place::Undefined | Place::Elsewhere => None,
        Place::Offset(offset) => window.load(cfa.wrapping_add(offset as u64)),
        Place::ValueOffset(offset) => Some(cfa.wrapping_add(offset as u64)),
        Place::Expression(code) => {
            let at = cfi::evaluate(&object, code, Some(cfa), &at, |at| window.load(at))?;
            window.load(at)
        }
        Place::ValueExpression(code) => cfi::evaluate(&object, code, Some(cfa), &at, |at| window.load(at)),
    };
    let return_address = address(value(row.return_address, at.link())?);
    let fp = value(row.fp, Some(at.fp)).unwrap_or(0);
    if row.signal {
        // The interrupted function may have been on another stack, and its address is exact.
        window.enter(cfa);
        return Some(Registers::new(return_address.wrapping_add(1), cfa, fp));
    }
    // Stacks grow down, so the caller's frame lies above; a function that has not saved its return address yet may not
    // have a frame at all.
    let frameless = row.return_address == Place::Same && cfa == at.sp;
    (cfa > at.sp || frameless).then_some(Registers::new(return_address, cfa, fp))
}
