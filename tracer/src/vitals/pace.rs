//! How often a source is looked at.

use crate::clock;
use prof::Nanos;

/// CPU time after which a source is given up.
const MOST: Nanos = Nanos(50_000_000);

/// A look that costs less than this may be made out of turn.
const QUICK: Nanos = Nanos(10_000_000);

/// When to look next.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    shortest: Nanos,
    /// A look may cost this part of the time until the next.
    share: u64,
    next: Nanos,
    cost: Nanos,
}

impl Pace {
    /// At once, and from then on at most once in `shortest`, and so that looks take no more than one part in `share` of the
    /// time.
    pub fn new(shortest: Nanos, share: u64) -> Pace {
        Pace { shortest, share, next: Nanos(0), cost: Nanos(0) }
    }

    /// Whether it is time for a look.
    pub fn is_due(&self, now: Nanos) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Whether a look out of turn does no harm.
    pub fn is_quick(&self) -> bool {
        self.cost < QUICK
    }

    /// When it is time; never, where the source has been given up.
    pub fn next(&self) -> Option<Nanos> {
        (self.cost < MOST).then_some(self.next)
    }

    /// Looks, and takes note of the CPU time that it costs the thread.
    pub fn measure(&mut self, look: impl FnOnce()) {
        let cpu = || clock::cpu(libc::CLOCK_THREAD_CPUTIME_ID).0;
        let (begin, before) = (clock::now(), cpu());
        look();
        self.costs(begin, Nanos(cpu().saturating_sub(before)));
    }

    fn costs(&mut self, begin: Nanos, cost: Nanos) {
        self.cost = cost;
        self.next = Nanos(begin.0 + self.shortest.0.max(cost.0 * self.share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dear_looks_are_rare_and_too_dear_ones_end() {
        let mut pace = Pace::new(Nanos::SECOND, 1000);
        assert!(pace.is_due(Nanos(0)));
        pace.costs(Nanos(5), Nanos(999_999));
        assert_eq!(pace.next(), Some(Nanos(1_000_000_005)));
        pace.costs(Nanos(5), Nanos(7_000_000));
        assert_eq!(pace.next(), Some(Nanos(7_000_000_005)));
        assert!(pace.is_quick() && !pace.is_due(Nanos(7_000_000_004)) && pace.is_due(Nanos(7_000_000_005)));
        pace.costs(Nanos(5), Nanos(10_000_000));
        assert!(!pace.is_quick());
        pace.costs(Nanos(5), MOST);
        assert_eq!(pace.next(), None);
        assert!(!pace.is_due(Nanos(u64::MAX)));
    }
}
