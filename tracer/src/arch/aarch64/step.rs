//! How to get from a frame to its caller's: a rule of 32 bits.
//!
//! ```text
//!  31 … 17 CFA offset / 8, signed (15)  │  16 … 3 slot offset / 8, signed (14)  │  2 … 0 kind
//! ```

use super::frame::{FRAME_POINTER, Registers, STACK_POINTER, address};
use crate::unwind::cfi::{self, Cfa, Place, Row};
use crate::unwind::objects::{self, Object};
use crate::unwind::rules;
use crate::unwind::stack::readable;
use crate::unwind::walk::{Links, evaluated};
use crate::unwind::window::Window;

/// A packed rule. The CFA (canonical frame address) is the stack pointer before the call. Where a function saves both x29
/// and x30 it does so side by side, as a frame record, so one slot tells both places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule(u32);

/// Where the CFA is, and where the return address and the caller's x29.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Kind {
    /// CFA = sp + offset; return address = \[CFA + slot\]; x29 is unchanged.
    Sp = 0,
    /// CFA = sp + offset; x29, return address = \[CFA + slot\].
    SpRecord = 1,
    /// CFA = x29 + offset; x29, return address = \[CFA + slot\].
    FpRecord = 2,
    /// To be evaluated anew each time: expressions, functions that have not saved x30, offsets that do not fit.
    Evaluate = 3,
    /// The outermost frame.
    End = 4,
    /// No unwind information: the kernel's return from a signal handler, or code made at run time.
    Unknown = 5,
}

impl Rule {
    /// For code without unwind information.
    pub const UNKNOWN: Rule = Rule(Kind::Unknown as u32);

    /// The rule for a return address into `object`.
    pub fn read(object: &Object, return_address: u64) -> Rule {
        cfi::row(object, return_address.wrapping_sub(1)).map_or(Rule::UNKNOWN, |row| Rule::of(&row))
    }

    /// The rule that says what `row` does.
    fn of(row: &Row) -> Rule {
        let evaluate = Rule(Kind::Evaluate as u32);
        let return_slot = match (row.signal, row.return_address) {
            (true, _) => return evaluate,
            (_, Place::Undefined) => return Rule(Kind::End as u32),
            (_, Place::Offset(slot)) => slot,
            _ => return evaluate,
        };
        let (kind, cfa, slot) = match (row.cfa, row.fp) {
            (Cfa::Register(STACK_POINTER, cfa), Place::Same | Place::Undefined) => {
                (Kind::Sp, cfa, return_slot)
            }
            (Cfa::Register(STACK_POINTER, cfa), Place::Offset(record)) if return_slot == record + 8 => {
                (Kind::SpRecord, cfa, record)
            }
            (Cfa::Register(FRAME_POINTER, cfa), Place::Offset(record)) if return_slot == record + 8 => {
                (Kind::FpRecord, cfa, record)
            }
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
        let fits = cfa % 8 == 0 && slot % 8 == 0 && (-(1 << 17)..1 << 17).contains(&cfa);
        (fits && (-(1 << 16)..1 << 16).contains(&slot))
            .then_some(Rule(((cfa / 8) as u32) << 17 | (((slot / 8) as u32) & 0x3fff) << 3 | kind as u32))
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.0 & 7 {
            0 => Kind::Sp,
            1 => Kind::SpRecord,
            2 => Kind::FpRecord,
            3 => Kind::Evaluate,
            4 => Kind::End,
            _ => Kind::Unknown,
        }
    }

    /// Offset of the CFA in bytes.
    #[inline]
    fn cfa(self) -> i64 {
        i64::from(self.0 as i32 >> 17) * 8
    }

    /// Offset of the slot from the CFA in bytes.
    #[inline]
    fn slot(self) -> i64 {
        i64::from((self.0 << 15) as i32 >> 18) * 8
    }
}

/// The place of a return address in a table of `1 << bits` entries, and what tells it from others of that place:
/// addresses have 48 bits. Instructions are aligned to four bytes; the lowest bit is set where a signal interrupted.
#[inline]
pub fn place(return_address: u64, bits: u32) -> (usize, u64) {
    let tag = if return_address & 2 == 0 {
        return_address >> (bits + 2) << 1 | return_address & 1
    } else {
        u64::MAX
    };
    ((return_address >> 2) as usize & ((1 << bits) - 1), tag)
}

impl Rule {
    /// Where a frame of this rule, `at`, has what leads to its caller; `None` where there is more to it.
    #[inline(always)]
    pub fn links(self, at: &Registers) -> Option<Links> {
        let base = match self.kind() {
            Kind::Sp | Kind::SpRecord => at.sp,
            Kind::FpRecord => at.fp,
            _ => return None,
        };
        let cfa = base.wrapping_add(self.cfa() as u64);
        let slot = cfa.wrapping_add(self.slot() as u64);
        let return_slot = if self.kind() == Kind::Sp { slot } else { slot.wrapping_add(8) };
        Some(Links { cfa, return_slot, fp_slot: slot })
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
        return Some(Registers::new(address(window.load(return_slot)?), cfa, fp));
    }
    match rule.kind() {
        Kind::Evaluate => evaluated(at, window),
        Kind::Unknown => interrupted(at, window).or_else(|| by_frame_pointer(at, window)),
        _ => None,
    }
}

/// The function that a signal interrupted, where `at` is the kernel's return from its handler: two instructions that
/// have no unwind information, with the interrupted registers on the stack.
#[cold]
fn interrupted(at: Registers, window: &mut Window) -> Option<Registers> {
    // A `siginfo_t`, then `uc_mcontext` of a `ucontext_t`: the kernel's ABI.
    const REGISTERS: u64 = 128 + std::mem::offset_of!(libc::ucontext_t, uc_mcontext) as u64 + 8;
    let mut saved = |register: u64| window.load(at.sp.checked_add(REGISTERS + register * 8)?);
    let (fp, x30, sp, pc) = (saved(29)?, saved(30)?, saved(31)?, saved(32)?);
    // The kernel links the handler to the interrupted function by a frame record.
    let linked = (window.load(at.fp)?, window.load(at.fp.checked_add(8)?)?) == (fp, x30);
    if !linked || !returns_from_handler(at.return_address) {
        return None;
    }
    // The interrupted function may have been on another stack, and its address is exact.
    window.enter(sp);
    Some(Registers { return_address: pc.wrapping_add(1), sp, fp, x30: Some(x30) })
}

/// Whether the code at `at` is `mov x8, #139; svc #0`: the system call `rt_sigreturn`.
fn returns_from_handler(at: u64) -> bool {
    const CODE: [u32; 2] = [0xd280_1168, 0xd400_0001];
    if !at.is_multiple_of(4) || !readable(at) {
        return false;
    }
    // SAFETY: aligned, and the kernel has just read these eight bytes: what a handler returns to stays where it is.
    unsafe { *(at as *const [u32; 2]) == CODE }
}

/// The caller of code without unwind information, if that code keeps a frame pointer: x29 then points at a frame record,
/// the caller's x29 and above it the return address. Believed only where what comes next makes sense too.
#[cold]
fn by_frame_pointer(at: Registers, window: &mut Window) -> Option<Registers> {
    if at.fp < at.sp || !at.fp.is_multiple_of(8) {
        return None;
    }
    let fp = window.load(at.fp)?;
    let return_address = address(window.load(at.fp.checked_add(8)?)?);
    let sensible = fp > at.fp && window.covers(fp) || objects::find(return_address).is_some();
    let sp = stack_pointer(return_address, at.fp.checked_add(16)?, fp, window);
    sensible.then_some(Registers::new(return_address, sp, fp))
}

/// The stack pointer of a frame of which only a return address and x29 are known. Code made at run time keeps its frame
/// record at the high end of its frame, so that the caller's stack pointer lies just above it, at `least`; but compilers
/// keep theirs at the low end. Where the caller has a frame record itself, x29 points at it and its rule says the rest.
fn stack_pointer(return_address: u64, least: u64, fp: u64, window: &mut Window) -> u64 {
    let rule = rules::find(return_address);
    if rule.kind() != Kind::SpRecord {
        return least;
    }
    let sp = fp.wrapping_sub(rule.slot() as u64).wrapping_sub(rule.cfa() as u64);
    let outer = fp.checked_add(8).and_then(|at| window.load(at)).map(address);
    let sensible = sp >= least && outer.is_some_and(|outer| objects::find(outer).is_some());
    if sensible { sp } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packs_without_loss(cfa in -(1i64 << 14)..1 << 14, slot in -(1i64 << 13)..1 << 13, kind in 0u32..3) {
            let kind = [Kind::Sp, Kind::SpRecord, Kind::FpRecord][kind as usize];
            let rule = Rule::new(kind, cfa * 8, slot * 8).unwrap();
            prop_assert_eq!((rule.kind(), rule.cfa(), rule.slot()), (kind, cfa * 8, slot * 8));
        }

        #[test]
        fn tells_addresses_apart(one in 0u64..1 << 46, other in 0u64..1 << 46, exact in 0u64..2) {
            let (one, other) = (one * 4, other * 4 + exact);
            prop_assert_eq!(place(one, 15) == place(other, 15), one == other);
            prop_assert!(place(one, 15).1 <= u64::from(u32::MAX) && place(one, 15).0 < 1 << 15);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(Rule::new(Kind::Sp, 12, 0), None);
        assert_eq!(Rule::new(Kind::Sp, 1 << 17, 0), None);
        assert_eq!(Rule::new(Kind::Sp, 16, -(1 << 16) - 8), None);
    }
}
