//! The walk itself.

use super::cfi::{self, Cfa, Place};
use super::objects;
use super::rules;
use super::stack::Window;
use crate::arch::frame::{Registers, address};
use crate::arch::step::step;

/// No code lies below.
const LOWEST_CODE: u64 = 4096;

/// Walks from a frame outwards and writes return addresses, leaf first, to `out`. Returns how many there are, and
/// whether `out` ended the walk.
pub fn walk(mut at: Registers, window: &mut Window, out: &mut [u64]) -> (usize, bool) {
    let mut depth = 0;
    loop {
        let Some(slot) = out.get_mut(depth) else { return (depth, true) };
        *slot = at.return_address;
        depth += 1;
        match step(at, rules::find(at.return_address), window) {
            Some(next) if next.return_address >= LOWEST_CODE => at = next,
            _ => return (depth, false),
        }
    }
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
