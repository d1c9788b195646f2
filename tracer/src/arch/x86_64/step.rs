//! How to get from a frame to its caller's: a rule of 32 bits.
//!
//! ```text
//!  31 … 13 CFA offset / 8, signed (19)  │  12 … 3 rbp slot offset / 8, signed (10)  │  2 … 0 kind
//! ```

use super::frame::{FRAME_POINTER, Registers, STACK_POINTER};
use crate::unwind::cfi::{Cfa, Place, Row};
use crate::unwind::objects;
use crate::unwind::stack::Window;
use crate::unwind::walk::{Links, evaluated};
use std::hint::select_unpredictable;

/// A packed rule. The CFA (canonical frame address) is the stack pointer before the call, and the return address
/// always lies at CFA − 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule(u32);

/// Where the CFA is, and where the caller's rbp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Kind {
    /// CFA = rsp + offset; rbp is unchanged.
    Rsp = 0,
    /// CFA = rbp + offset; rbp is unchanged.
    Rbp = 1,
    /// CFA = rsp + offset; rbp = \[CFA + slot\].
    RspSaved = 2,
    /// CFA = rbp + offset; rbp = \[CFA + slot\].
    RbpSaved = 3,
    /// To be evaluated anew each time: expressions, signal frames, offsets that do not fit.
    Evaluate = 4,
    /// The outermost frame.
    End = 5,
    /// No unwind information: code made at run time, perhaps.
    Unknown = 6,
}

impl Rule {
    /// For code without unwind information.
    pub const UNKNOWN: Rule = Rule(Kind::Unknown as u32);

    /// The rule that says what `row` does.
    pub fn of(row: &Row) -> Rule {
        let evaluate = Rule(Kind::Evaluate as u32);
        match (row.signal, row.return_address) {
            (true, _) => return evaluate,
            (_, Place::Undefined) => return Rule(Kind::End as u32),
            (_, Place::Offset(-8)) => {}
            _ => return evaluate,
        }
        let (kind, cfa, slot) = match (row.cfa, row.fp) {
            (Cfa::Register(STACK_POINTER, cfa), Place::Same | Place::Undefined) => (Kind::Rsp, cfa, 0),
            (Cfa::Register(STACK_POINTER, cfa), Place::Offset(slot)) => (Kind::RspSaved, cfa, slot),
            (Cfa::Register(FRAME_POINTER, cfa), Place::Same) => (Kind::Rbp, cfa, 0),
            (Cfa::Register(FRAME_POINTER, cfa), Place::Offset(slot)) => (Kind::RbpSaved, cfa, slot),
            _ => return evaluate,
        };
        Rule::new(kind, cfa, slot).unwrap_or(evaluate)
    }

    /// Whether it is the outermost frame's.
    #[inline]
    pub fn ends(self) -> bool {
        self.kind() == Kind::End
    }

    /// The 32 bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From [`Rule::bits`].
    #[inline]
    pub fn from_bits(bits: u32) -> Rule {
        Rule(bits)
    }

    /// `None` where the offsets, in bytes, do not fit.
    fn new(kind: Kind, cfa: i64, slot: i64) -> Option<Rule> {
        let fits = cfa % 8 == 0 && slot % 8 == 0 && (-(1 << 21)..1 << 21).contains(&cfa);
        (fits && (-(1 << 12)..1 << 12).contains(&slot))
            .then_some(Rule(((cfa / 8) as u32) << 13 | (((slot / 8) as u32) & 0x3ff) << 3 | kind as u32))
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.0 & 7 {
            0 => Kind::Rsp,
            1 => Kind::Rbp,
            2 => Kind::RspSaved,
            3 => Kind::RbpSaved,
            4 => Kind::Evaluate,
            5 => Kind::End,
            _ => Kind::Unknown,
        }
    }

    /// Offset of the CFA in bytes.
    #[inline]
    fn cfa(self) -> i64 {
        i64::from(self.0 as i32 >> 13) * 8
    }

    /// Offset of rbp's slot from the CFA in bytes.
    #[inline]
    fn slot(self) -> i64 {
        i64::from((self.0 << 19) as i32 >> 22) * 8
    }
}

/// The place of a return address in a table of `1 << bits` entries, and what tells it from others of that place:
/// addresses have 47 bits.
#[inline]
pub fn place(return_address: u64, bits: u32) -> (usize, u64) {
    (return_address as usize & ((1 << bits) - 1), return_address >> bits)
}

impl Rule {
    /// Where a frame of this rule, `at`, has what leads to its caller; `None` where there is more to it.
    #[inline(always)]
    pub fn links(self, at: &Registers) -> Option<Links> {
        const OTHER: u32 = Kind::Evaluate as u32;
        const FROM_RBP: u32 = Kind::Rbp as u32;
        const SAVED: u32 = Kind::RspSaved as u32;
        if self.0 & OTHER != 0 {
            return None;
        }
        let base = select_unpredictable(self.0 & FROM_RBP != 0, at.fp, at.sp);
        let cfa = base.wrapping_add(self.cfa() as u64);
        let return_slot = cfa.wrapping_sub(8);
        let fp_slot =
            select_unpredictable(self.0 & SAVED != 0, cfa.wrapping_add(self.slot() as u64), return_slot);
        Some(Links { cfa, return_slot, fp_slot })
    }
}

/// The caller of `at`, which `rule` is for.
pub fn step(at: Registers, rule: Rule, window: &mut Window) -> Option<Registers> {
    if let Some(Links { cfa, return_slot, fp_slot }) = rule.links(&at) {
        // Stacks grow down, so the caller's frame lies above.
        if cfa <= at.sp {
            return None;
        }
        let fp = if fp_slot == return_slot { at.fp } else { window.load(fp_slot)? };
        return Some(Registers::new(window.load(return_slot)?, cfa, fp));
    }
    match rule.kind() {
        Kind::Evaluate => evaluated(at, window),
        Kind::Unknown => by_frame_pointer(at, window),
        _ => None,
    }
}

/// The caller of code without unwind information, if that code keeps a frame pointer: rbp then points at the caller's
/// rbp, above which lies the return address. Believed only where what comes next makes sense too.
#[cold]
fn by_frame_pointer(at: Registers, window: &mut Window) -> Option<Registers> {
    if at.fp < at.sp || !at.fp.is_multiple_of(8) {
        return None;
    }
    let fp = window.load(at.fp)?;
    let return_address = window.load(at.fp.checked_add(8)?)?;
    let sensible = fp > at.fp && window.covers(fp) || objects::find(return_address).is_some();
    sensible.then_some(Registers::new(return_address, at.fp.checked_add(16)?, fp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packs_without_loss(cfa in -(1i64 << 18)..1 << 18, slot in -512i64..512, kind in 0u32..4) {
            let kind = [Kind::Rsp, Kind::Rbp, Kind::RspSaved, Kind::RbpSaved][kind as usize];
            let rule = Rule::new(kind, cfa * 8, slot * 8).unwrap();
            prop_assert_eq!((rule.kind(), rule.cfa(), rule.slot()), (kind, cfa * 8, slot * 8));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(Rule::new(Kind::Rsp, 12, 0), None);
        assert_eq!(Rule::new(Kind::Rsp, 1 << 21, 0), None);
        assert_eq!(Rule::new(Kind::Rsp, 16, -(1 << 12) - 8), None);
    }
}
