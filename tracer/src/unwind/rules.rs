//! How to get from a frame to its caller's: a rule of 32 bits, and the cache of rules by return address.
//!
//! ```text
//!  31 … 13 CFA offset / 8, signed (19)  │  12 … 3 rbp slot offset / 8, signed (10)  │  2 … 0 kind
//! ```

use super::{cfi, objects};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// A packed rule. The CFA (canonical frame address) is the stack pointer before the call, and the return address
/// always lies at CFA − 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule(u32);

/// Where the CFA is, and where the caller's rbp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
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
    /// A rule without offsets.
    pub const fn bare(kind: Kind) -> Rule {
        Rule(kind as u32)
    }

    /// `None` where the offsets, in bytes, do not fit.
    pub fn new(kind: Kind, cfa: i64, slot: i64) -> Option<Rule> {
        let fits = cfa % 8 == 0 && slot % 8 == 0 && (-(1 << 21)..1 << 21).contains(&cfa);
        (fits && (-(1 << 12)..1 << 12).contains(&slot))
            .then_some(Rule(((cfa / 8) as u32) << 13 | (((slot / 8) as u32) & 0x3ff) << 3 | kind as u32))
    }

    /// The kind.
    #[inline]
    pub fn kind(self) -> Kind {
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
    pub fn cfa(self) -> i64 {
        i64::from(self.0 as i32 >> 13) * 8
    }

    /// Offset of rbp's slot from the CFA in bytes.
    #[inline]
    pub fn slot(self) -> i64 {
        i64::from((self.0 << 19) as i32 >> 22) * 8
    }
}

const BITS: u32 = 15;

/// Direct-mapped by the low bits of the return address; an entry is the rule above the address's other bits, and zero
/// where there is none. 256 KiB, resident as far as it is used.
static CACHE: [AtomicU64; 1 << BITS] = [const { AtomicU64::new(0) }; 1 << BITS];

/// How many `dlclose` calls are under way: while there is one, addresses may change their meaning.
static UNLOADING: AtomicU32 = AtomicU32::new(0);

/// The rule for the frame that `return_address` belongs to.
#[inline]
pub fn find(return_address: u64) -> Rule {
    let tag = return_address >> BITS;
    if tag > u64::from(u32::MAX) {
        return Rule::bare(Kind::Unknown);
    }
    let Some(entry) = CACHE.get(return_address as usize & ((1 << BITS) - 1)) else {
        return Rule::bare(Kind::Unknown);
    };
    let cached = entry.load(Relaxed);
    if cached as u32 == tag as u32 && cached != 0 && UNLOADING.load(Relaxed) == 0 {
        return Rule((cached >> 32) as u32);
    }
    miss(return_address, entry, tag)
}

#[cold]
fn miss(return_address: u64, entry: &AtomicU64, tag: u64) -> Rule {
    let Some(object) = objects::find(return_address) else { return Rule::bare(Kind::Unknown) };
    crate::modules::sight(&object);
    let rule =
        cfi::row(&object, return_address.wrapping_sub(1)).map_or(Rule::bare(Kind::Unknown), |row| row.rule());
    entry.store(u64::from(rule.0) << 32 | tag, Relaxed);
    rule
}

/// Forgets every rule: an object was unloaded.
pub fn clear() {
    CACHE.iter().for_each(|entry| entry.store(0, Relaxed));
}

/// Runs `unload` with the cache out of use, and clears it.
pub fn unloading<T>(unload: impl FnOnce() -> T) -> T {
    UNLOADING.fetch_add(1, SeqCst);
    let result = unload();
    clear();
    UNLOADING.fetch_sub(1, SeqCst);
    result
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
