//! The live set: blocks allocated and not yet freed.
//!
//! Its memory is in proportion to live blocks, not to events. The changes come in order; what disorder remains is
//! mended here: a death whose birth is missing waits for it one round long, and a birth at a key that is still
//! live replaces the older block and is counted.

use crate::estimate::{Estimate, Weight};
use crate::stacks::Stack;
use crate::stream::{Change, Origin, Origins};
use prof::{Nanos, ThreadIndex};
use rustc_hash::FxHashMap;

#[derive(Clone, Copy, Debug)]
struct Block {
    size: u64,
    born: Nanos,
    stack: Stack,
    origin: Origin,
}

/// Cumulative since the start: estimated bytes and blocks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Allocated {
    /// Requested bytes.
    pub bytes: f64,
    /// How many blocks.
    pub blocks: f64,
}

impl Allocated {
    /// Adds bytes and blocks.
    pub fn add(&mut self, bytes: f64, blocks: f64) {
        self.bytes += bytes;
        self.blocks += blocks;
    }
}

/// When most bytes were live, and how many.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Peak {
    /// When.
    pub time: Nanos,
    /// Estimated bytes.
    pub bytes: f64,
}

/// Blocks by key, and running sums.
#[derive(Clone, Debug, Default)]
pub struct Live {
    blocks: FxHashMap<u64, Block>,
    /// Deaths whose births have not been seen, with their times.
    orphans: FxHashMap<u64, Nanos>,
    last_round: Nanos,
    bytes: f64,
    /// The largest sum of live bytes so far.
    pub peak: Peak,
    /// Since the start.
    pub allocated: Allocated,
    /// Births at keys that were still live.
    pub replaced: u64,
}

/// Sums over live blocks of one stack and thread.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sums {
    /// All of them.
    pub live: Estimate,
    /// Those allocated after the other instant.
    pub young: Estimate,
}

impl Live {
    /// Applies the next change; returns the weight of what was born.
    #[inline]
    pub fn apply(&mut self, change: &Change, origins: &Origins) -> Option<Weight> {
        let Some(birth) = change.birth else {
            match self.blocks.remove(&change.key) {
                Some(block) => self.bytes -= weight(&block, origins).bytes,
                None => self.forget(change),
            }
            return None;
        };
        let block = Block { size: birth.size, born: change.time, stack: birth.stack, origin: birth.origin };
        let weight = weight(&block, origins);
        self.allocated.add(weight.bytes, weight.blocks);
        let dead = !self.orphans.is_empty()
            && self.orphans.remove(&change.key).is_some_and(|death| death >= change.time);
        if !dead {
            if let Some(old) = self.blocks.insert(change.key, block) {
                self.replace(&old, origins);
            }
            self.bytes += weight.bytes;
            if self.bytes > self.peak.bytes {
                self.peak = Peak { time: change.time, bytes: self.bytes };
            }
        }
        Some(weight)
    }

    #[cold]
    fn forget(&mut self, change: &Change) {
        self.orphans.insert(change.key, change.time);
    }

    #[cold]
    fn replace(&mut self, old: &Block, origins: &Origins) {
        self.bytes -= weight(old, origins).bytes;
        self.replaced += 1;
    }

    /// A round has ended: everything before `time` has been applied.
    pub fn end_round(&mut self, time: Nanos) {
        let last = std::mem::replace(&mut self.last_round, time);
        self.orphans.retain(|_, death| *death >= last);
    }

    /// Number of recorded blocks that are live.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether nothing is live.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Sums by stack and thread; blocks that were allocated after `since` are young.
    pub fn sums(&self, since: Nanos, origins: &Origins) -> FxHashMap<(Stack, ThreadIndex), Sums> {
        let mut sums = FxHashMap::<_, Sums>::default();
        for block in self.blocks.values() {
            let (thread, interval) = origins.get(block.origin);
            let sum = sums.entry((block.stack, thread)).or_default();
            sum.live.add(block.size, interval);
            if block.born > since {
                sum.young.add(block.size, interval);
            }
        }
        sums
    }
}

#[inline]
fn weight(block: &Block, origins: &Origins) -> Weight {
    Weight::of(block.size, origins.get(block.origin).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Birth;

    /// Applies (time, key, size), `None` where a block dies; `u64::MAX` as a key ends a round.
    fn applied(changes: &[(u64, u64, Option<u64>)]) -> Live {
        let mut origins = Origins::default();
        let origin = origins.intern(ThreadIndex(0), 1);
        let mut live = Live::default();
        for &(time, key, size) in changes {
            if key == u64::MAX {
                live.end_round(Nanos(time));
                continue;
            }
            let birth = size.map(|size| Birth { size, stack: Stack::EMPTY, origin });
            live.apply(&Change { time: Nanos(time), key, birth }, &origins);
        }
        let sum: f64 = live.sums(Nanos(0), &origins).values().map(|sums| sums.live.bytes.value).sum();
        assert_eq!(sum, live.bytes);
        live
    }

    #[test]
    fn a_death_waits_for_its_birth() {
        let same_instant = applied(&[(7, 1, None), (7, 1, Some(5))]);
        assert!(same_instant.is_empty());
        assert_eq!(same_instant.allocated, Allocated { bytes: 5.0, blocks: 1.0 });
        assert!(applied(&[(7, 1, None), (6, 1, Some(5))]).is_empty());
    }

    #[test]
    fn a_death_of_an_older_block_is_not_the_next_ones() {
        assert_eq!(applied(&[(7, 1, None), (8, 1, Some(5))]).len(), 1);
        let rounds = [(7, 1, None), (10, u64::MAX, None), (20, u64::MAX, None), (7, 1, Some(5))];
        assert_eq!(applied(&rounds).len(), 1);
    }

    #[test]
    fn a_birth_at_a_live_key_replaces_it_and_is_counted() {
        let live = applied(&[(1, 1, Some(5)), (2, 1, Some(6))]);
        assert_eq!((live.len(), live.replaced, live.bytes), (1, 1, 6.0));
    }

    #[test]
    fn the_peak_is_the_first_time_of_the_most_bytes() {
        let live = applied(&[(1, 1, Some(5)), (2, 2, Some(6)), (3, 1, None), (4, 3, Some(5))]);
        assert_eq!(live.peak, Peak { time: Nanos(2), bytes: 11.0 });
    }
}
