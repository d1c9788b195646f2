//! What is kept of a return address: only that its image has been noted. The way to the caller is the unwinder's to find.

use crate::unwind::objects::Object;

/// A rule of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule(u32);

impl Rule {
    /// For code without unwind information.
    pub const UNKNOWN: Rule = Rule(0);

    /// For code that the unwinder can follow.
    const FOLLOWED: Rule = Rule(1);

    /// The rule for a return address into `object`.
    pub fn read(object: &Object, _return_address: u64) -> Rule {
        if object.unwind_table == 0 { Rule::UNKNOWN } else { Rule::FOLLOWED }
    }

    /// The 32 bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From [`Rule::bits`].
    pub fn from_bits(bits: u32) -> Rule {
        Rule(bits)
    }
}

/// The place of a return address in a table of `1 << bits` entries, and what tells it from others of that place:
/// addresses have 47 bits.
pub fn place(return_address: u64, bits: u32) -> (usize, u64) {
    (return_address as usize & ((1 << bits) - 1), return_address >> bits)
}
