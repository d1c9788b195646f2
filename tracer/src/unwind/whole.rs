//! `trail` where there is no unwinder of our own: the last stack, of which the next one's addresses are only compared. Every
//! stack is walked all the way.

use super::rules;
use crate::arch::frame::Caller;
use crate::local::Local;
use prof::{MAX_DEPTH, TRUNCATED};

/// The last stack. All its bytes zero are an empty one.
pub struct Trail {
    depth: usize,
    /// Outermost first.
    addresses: [u64; MAX_DEPTH + 1],
    /// Innermost first; of use only during a capture.
    walked: [u64; MAX_DEPTH + 1],
}

impl Trail {
    /// Forgets the stack: the meaning of addresses has changed, or the thread.
    pub fn clear(&mut self) {
        self.depth = 0;
    }

    /// The stack's addresses without the `skipped` outermost ones, outermost first. The outermost is
    /// [`TRUNCATED`] where frames beyond [`MAX_DEPTH`] are missing.
    pub fn addresses(&self, skipped: usize) -> &[u64] {
        self.addresses.get(skipped..self.depth).unwrap_or(&[])
    }

    /// How many frames the stack has.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Makes the stack that of `caller`, of the calling thread, which is guarded; returns how many outermost addresses are as
    /// before.
    pub fn capture(&mut self, caller: Caller, local: &Local) -> usize {
        let Some(at) = caller.registers(local) else {
            self.clear();
            return 0;
        };
        let walked = &mut self.walked;
        let mut new = 0;
        at.each(|address| {
            walked[new] = if new < MAX_DEPTH { address } else { TRUNCATED };
            new += 1;
            new <= MAX_DEPTH
        });
        let before = std::mem::replace(&mut self.depth, new);
        let mut kept = 0;
        for (at, &address) in walked[..new].iter().rev().enumerate() {
            if address != TRUNCATED {
                // Notes the image.
                rules::find_settled(address);
            }
            if kept == at && at < before && self.addresses[at] == address {
                kept += 1;
            }
            self.addresses[at] = address;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::local;

    fn empty() -> Box<Trail> {
        // SAFETY: zero bytes are an empty trail.
        unsafe { Box::new_zeroed().assume_init() }
    }

    fn capture(trail: &mut Trail) -> usize {
        trail.capture(Caller::UNKNOWN, local())
    }

    #[test]
    fn a_stack_shares_with_the_last_one_what_is_outermost() {
        super::super::objects::init();
        let mut trail = empty();
        assert_eq!(capture(&mut trail), 0);
        // The test is the library itself, so its own frames are left out; the C library's are there.
        let first = trail.addresses(0).to_vec();
        assert!(!first.is_empty());
        assert_eq!(capture(&mut trail), first.len());
        assert_eq!(trail.addresses(0), first);
        trail.addresses[first.len() - 1] ^= 4;
        assert_eq!(capture(&mut trail), first.len() - 1);
        trail.clear();
        assert_eq!(capture(&mut trail), 0);
        assert_eq!((trail.addresses(0), trail.depth()), (&first[..], first.len()));
    }
}
