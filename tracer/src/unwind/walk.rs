//! The walk itself.

use super::cfi::{self, Cfa, Place, Registers};
use super::objects;
use super::rules::{self, Kind};
use super::stack::Window;

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
        let rule = rules::find(at.return_address);
        let next = match rule.kind() {
            Kind::Rsp => frame(at, at.rsp.wrapping_add(rule.cfa() as u64), None, window),
            Kind::Rbp => frame(at, at.rbp.wrapping_add(rule.cfa() as u64), None, window),
            Kind::RspSaved => frame(at, at.rsp.wrapping_add(rule.cfa() as u64), Some(rule.slot()), window),
            Kind::RbpSaved => frame(at, at.rbp.wrapping_add(rule.cfa() as u64), Some(rule.slot()), window),
            Kind::Evaluate => evaluated(at, window),
            Kind::Unknown => by_frame_pointer(at, window),
            Kind::End => None,
        };
        match next {
            Some(next) if next.return_address >= LOWEST_CODE => at = next,
            _ => return (depth, false),
        }
    }
}

/// The caller of a frame of common shape: stacks grow down, so its frame lies above.
#[inline]
fn frame(at: Registers, cfa: u64, slot: Option<i64>, window: &mut Window) -> Option<Registers> {
    if cfa <= at.rsp {
        return None;
    }
    let rbp = match slot {
        Some(offset) => window.load(cfa.wrapping_add(offset as u64))?,
        None => at.rbp,
    };
    Some(Registers { return_address: window.load(cfa.wrapping_sub(8))?, rsp: cfa, rbp })
}

/// The caller of a frame of rare shape.
#[cold]
fn evaluated(at: Registers, window: &mut Window) -> Option<Registers> {
    let object = objects::find(at.return_address)?;
    let row = cfi::row(&object, at.return_address.wrapping_sub(1))?;
    // An expression that names the instruction pointer means the exact address.
    let exact = Registers { return_address: at.return_address.wrapping_sub(1), ..at };
    let cfa = match row.cfa {
        Cfa::Register(7, offset) => at.rsp.wrapping_add(offset as u64),
        Cfa::Register(6, offset) => at.rbp.wrapping_add(offset as u64),
        Cfa::Expression(code) => cfi::evaluate(&object, code, None, &exact, |at| window.load(at))?,
        _ => return None,
    };
    let mut value = |place: Place, same: Option<u64>| match place {
        Place::Same => same,
        Place::Undefined | Place::Elsewhere => None,
        Place::Offset(offset) => window.load(cfa.wrapping_add(offset as u64)),
        Place::ValueOffset(offset) => Some(cfa.wrapping_add(offset as u64)),
        Place::Expression(code) => {
            let at = cfi::evaluate(&object, code, Some(cfa), &exact, |at| window.load(at))?;
            window.load(at)
        }
        Place::ValueExpression(code) => cfi::evaluate(&object, code, Some(cfa), &exact, |at| window.load(at)),
    };
    let return_address = value(row.return_address, None)?;
    let rbp = value(row.rbp, Some(at.rbp)).unwrap_or(0);
    if row.signal {
        // The interrupted function may have been on another stack, and its address is exact.
        window.enter(cfa);
        return Some(Registers { return_address: return_address.wrapping_add(1), rsp: cfa, rbp });
    }
    (cfa > at.rsp).then_some(Registers { return_address, rsp: cfa, rbp })
}

/// The caller of code without unwind information, if that code keeps a frame pointer: rbp then points at the caller's
/// rbp, above which lies the return address. Believed only where what comes next makes sense too.
#[cold]
fn by_frame_pointer(at: Registers, window: &mut Window) -> Option<Registers> {
    if at.rbp < at.rsp || !at.rbp.is_multiple_of(8) {
        return None;
    }
    let rbp = window.load(at.rbp)?;
    let return_address = window.load(at.rbp.checked_add(8)?)?;
    let sensible = rbp > at.rbp && window.covers(rbp) || objects::find(return_address).is_some();
    sensible.then_some(Registers { return_address, rsp: at.rbp.checked_add(16)?, rbp })
}
