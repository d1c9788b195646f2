//! How to get from a frame to its caller's: a rule of 32 bits.
//!
//! ```text
//!  31 … 13 CFA offset / 8, signed (19)  │  12 … 3 rbp slot offset / 8, signed (10)  │  2 … 0 kind
//! ```

use super::frame::{FRAME_POINTER, Registers, STACK_POINTER};
use crate::unwind::cfi::{self, Cfa, Expression, Place, Row};
use crate::unwind::objects::{self, Object};
use crate::unwind::walk::{Links, evaluated};
use crate::unwind::window::Window;
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
    /// GCC has realigned the stack: CFA = \[rbp + offset\]; rbp = \[rbp + slot\].
    Realigned = 7,
}

impl Rule {
    /// For code without unwind information.
    pub const UNKNOWN: Rule = Rule(Kind::Unknown as u32);

    /// The rule for a return address into `object`.
    pub fn read(object: &Object, return_address: u64) -> Rule {
        cfi::row(object, return_address.wrapping_sub(1)).map_or(Rule::UNKNOWN, |row| Rule::of(object, &row))
    }

    /// The rule that says what `row` does.
    fn of(object: &Object, row: &Row) -> Rule {
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
            (Cfa::Expression(cfa), Place::Expression(fp)) => match realigned(object, cfa, fp) {
                Some((cfa, slot)) => (Kind::Realigned, cfa, slot),
                None => return evaluate,
            },
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
            6 => Kind::Unknown,
            _ => Kind::Realigned,
        }
    }

    /// Offset of the CFA, or of its slot, in bytes.
    #[inline]
    fn cfa(self) -> i64 {
        i64::from(self.0 as i32 >> 13) * 8
    }

    /// Offset of rbp's slot from the CFA, or from rbp, in bytes.
    #[inline]
    fn slot(self) -> i64 {
        i64::from((self.0 << 19) as i32 >> 22) * 8
    }
}

/// The offsets of the two expressions that GCC writes for a function that realigns its stack: the CFA is what lies at rbp + the
/// one (DW_OP_breg6, DW_OP_deref), the caller's rbp lies at rbp + the other (DW_OP_breg6). They are small, of one byte each.
fn realigned(object: &Object, cfa: Expression, fp: Expression) -> Option<(i64, i64)> {
    const FROM_RBP: u8 = 0x70 + FRAME_POINTER as u8;
    const DEREFERENCED: u8 = 0x06;
    let offset = |byte: u8| (byte < 0x80).then_some(i64::from((byte << 1) as i8 >> 1));
    if (cfa.end.wrapping_sub(cfa.start), fp.end.wrapping_sub(fp.start)) != (3, 2) {
        return None;
    }
    match (object.read(cfa.start)?, object.read(fp.start)?) {
        ([FROM_RBP, cfa, DEREFERENCED], [FROM_RBP, slot]) => Some((offset(cfa)?, offset(slot)?)),
        _ => None,
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
        Kind::Realigned => {
            let cfa = window.load(at.fp.wrapping_add(rule.cfa() as u64))?;
            let fp = window.load(at.fp.wrapping_add(rule.slot() as u64))?;
            (cfa > at.sp).then_some(Registers::new(window.load(cfa.wrapping_sub(8))?, cfa, fp))
        }
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
    use crate::unwind::objects::Loaded;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packs_without_loss(cfa in -(1i64 << 18)..1 << 18, slot in -512i64..512, kind in 0u32..4) {
            let kind = [Kind::Rsp, Kind::Rbp, Kind::RspSaved, Kind::RbpSaved][kind as usize];
            let rule = Rule::new(kind, cfa * 8, slot * 8).unwrap();
            prop_assert_eq!((rule.kind(), rule.cfa(), rule.slot()), (kind, cfa * 8, slot * 8));
        }
    }

    /// The rule of a row with these expressions for CFA and rbp.
    fn of_expressions(cfa: &[u8], fp: &[u8]) -> Rule {
        let code = [cfa, fp].concat();
        let start = code.as_ptr() as u64;
        let (middle, end) = (start + cfa.len() as u64, start + code.len() as u64);
        let object = Object { start, end, unwind_table: 0, loaded: Loaded::Copied(0, c"") };
        let row = Row {
            cfa: Cfa::Expression(Expression { start, end: middle }),
            fp: Place::Expression(Expression { start: middle, end }),
            return_address: Place::Offset(-8),
            signal: false,
        };
        Rule::of(&object, &row)
    }

    #[test]
    fn a_realigned_stack_has_a_rule_of_its_own() {
        let rule = of_expressions(&[0x76, 0x68, 0x06], &[0x76, 0x00]);
        assert_eq!((rule.kind(), rule.cfa(), rule.slot()), (Kind::Realigned, -24, 0));
        for (cfa, fp) in [
            (&[0x7a, 0x68, 0x06][..], &[0x76, 0x00][..]),
            (&[0x76, 0x68, 0x23], &[0x76, 0x00]),
            (&[0x76, 0x68, 0x06], &[0x77, 0x00]),
            (&[0x76, 0xe8, 0x06], &[0x76, 0x00]),
            (&[0x76, 0x64, 0x06], &[0x76, 0x00]),
            (&[0x76, 0xe8, 0x7e, 0x06], &[0x76, 0x00]),
        ] {
            assert_eq!(of_expressions(cfa, fp).kind(), Kind::Evaluate, "{cfa:x?} {fp:x?}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(Rule::new(Kind::Rsp, 12, 0), None);
        assert_eq!(Rule::new(Kind::Rsp, 1 << 21, 0), None);
        assert_eq!(Rule::new(Kind::Rsp, 16, -(1 << 12) - 8), None);
    }
}
