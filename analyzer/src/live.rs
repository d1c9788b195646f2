//! The live set: blocks allocated and not yet freed.
//!
//! Its memory is in proportion to live blocks, not to events. The changes come in order; what disorder remains is
//! mended here: a death whose birth is missing waits one round long for that of another stream, and a birth at a key that
//! is still live replaces the older block and is counted.

use crate::blocks::{Block, Blocks, MAX_SIZE};
use crate::estimate::{Estimate, Sum, Weight};
use crate::shape::scan::Cell;
use crate::shape::tally::Tally;
use crate::stacks::Stack;
use crate::stream::{Birth, Change, Origin, Origins};
use prof::{Nanos, ThreadIndex};
use rustc_hash::FxHashMap;

/// When most bytes were live, and how many.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Peak {
    /// When.
    pub time: Nanos,
    /// Estimated bytes.
    pub bytes: Sum,
}

/// Blocks by key, and running sums.
#[derive(Clone, Debug, Default)]
pub struct Live {
    blocks: Blocks,
    cohorts: Cohorts,
    /// Deaths whose births have not been seen, with their times and streams.
    orphans: FxHashMap<u64, (Nanos, u32)>,
    last_round: Nanos,
    bytes: Sum,
    /// The largest sum of live bytes so far.
    pub peak: Peak,
    /// The same since [`crest`](Self::crest) was last asked.
    crest: Peak,
    /// Since the start.
    pub allocated: Estimate,
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

/// Sums by stack and thread, in their order.
pub type SumsByStack = Vec<((Stack, ThreadIndex), Sums)>;

/// So many changes have their places in the table read ahead: two cache lines each, which the innermost cache holds.
const TOGETHER: usize = 64;

impl Live {
    /// Nothing is live yet; after which instants blocks were born will be asked of `sinces` only.
    pub fn new(sinces: impl Iterator<Item = Nanos>) -> Live {
        Live { cohorts: Cohorts::new(sinces.collect()), ..Live::default() }
    }

    /// Applies the next changes.
    pub fn apply(&mut self, changes: &[Change], origins: &Origins) {
        for some in changes.chunks(TOGETHER) {
            self.blocks.touch(some.iter().map(|change| change.key));
            for change in some {
                match change.birth {
                    Some(birth) => self.bear(change, &birth, origins),
                    None => match self.blocks.remove(change.key) {
                        Some(block) => self.remove(&block, origins),
                        None => self.forget(change),
                    },
                }
            }
        }
    }

    #[inline(always)]
    fn bear(&mut self, change: &Change, birth: &Birth, origins: &Origins) {
        let cohort = self.cohorts.of(change.time);
        let block =
            Block { size: birth.size.min(MAX_SIZE), cohort, stack: birth.stack, origin: birth.origin };
        let weight = weight(birth.size, birth.origin, origins);
        self.allocated.add_weighted(block.size, &weight);
        let dead = !self.orphans.is_empty()
            && self.orphans.remove(&change.key).is_some_and(|(death, stream)| {
                death > change.time || death == change.time && stream != change.stream
            });
        if dead {
            return;
        }
        if let Some(old) = self.blocks.insert(change.key, block) {
            self.replace(&old, origins);
        }
        self.bytes.add_bytes(block.size, &weight);
        if self.bytes.value > self.crest.bytes.value {
            self.crest = Peak { time: change.time, bytes: self.bytes };
            if self.bytes.value > self.peak.bytes.value {
                self.peak = self.crest;
            }
        }
    }

    #[cold]
    fn forget(&mut self, change: &Change) {
        self.orphans.insert(change.key, (change.time, change.stream));
    }

    #[cold]
    fn replace(&mut self, old: &Block, origins: &Origins) {
        self.remove(old, origins);
        self.replaced += 1;
    }

    #[inline(always)]
    fn remove(&mut self, block: &Block, origins: &Origins) {
        self.bytes.remove_bytes(block.size, &weight(block.size, block.origin, origins));
    }

    /// What is live was there before: sums begin here, with what had been `allocated`.
    pub fn inherit(&mut self, time: Nanos, allocated: Estimate) {
        self.allocated = allocated;
        self.peak = Peak { time, bytes: self.bytes };
        self.crest = self.peak;
        self.replaced = 0;
        self.orphans.clear();
    }

    /// A round has ended: everything before `time` has been applied.
    pub fn end_round(&mut self, time: Nanos) {
        let last = std::mem::replace(&mut self.last_round, time);
        self.orphans.retain(|_, (death, _)| *death >= last);
    }

    /// Estimated bytes that are live.
    pub fn bytes(&self) -> Sum {
        self.bytes
    }

    /// The largest sum of live bytes since this was last asked, the one at that instant included. The next begins at `now`.
    pub fn crest(&mut self, now: Nanos) -> Peak {
        std::mem::replace(&mut self.crest, Peak { time: now, bytes: self.bytes })
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
    pub fn sums(&self, since: Nanos, origins: &Origins) -> SumsByStack {
        const NONE: u32 = u32::MAX;
        let young = self.cohorts.after(since);
        // Stacks are numbered: of each the place of its last row, of each row that of the stack's row before.
        let mut last_of = Vec::<u32>::new();
        let mut before = Vec::<u32>::new();
        let mut sums = SumsByStack::new();
        self.blocks.each(|block| {
            let (thread, interval) = origins.get(block.origin);
            let stack = block.stack.number();
            if last_of.len() <= stack {
                last_of.resize(stack + 1, NONE);
            }
            let Some(last) = last_of.get_mut(stack) else { return };
            let mut at = *last;
            while sums.get(at as usize).is_some_and(|((_, other), _)| *other != thread) {
                at = before.get(at as usize).copied().unwrap_or(NONE);
            }
            if at == NONE {
                at = sums.len() as u32;
                sums.push(((block.stack, thread), Sums::default()));
                before.push(std::mem::replace(last, at));
            }
            let Some((_, sum)) = sums.get_mut(at as usize) else { return };
            sum.live.add(block.size, interval);
            if block.cohort >= young {
                sum.young.add(block.size, interval);
            }
        });
        sums.sort_unstable_by_key(|(key, _)| *key);
        sums
    }

    /// Each live block with the instant of its birth, as well as the instants up to `end` that births are told apart by say.
    pub fn each(&self, end: Nanos, mut take: impl FnMut(&Block, Nanos)) {
        self.blocks.each(|block| take(&block, self.cohorts.middle(block.cohort, end)));
    }

    /// Live blocks by stack and cohort, in their order.
    pub fn cells(&self, origins: &Origins, tally: &mut Tally) -> Vec<Cell> {
        self.blocks.each(|block| {
            tally.add(Cell::key_of(block.stack, block.cohort), block.size, origins.get(block.origin).1);
        });
        tally.take()
    }
}

/// What a block of `size` bytes and an origin stands for.
#[inline]
pub fn weight(size: u64, origin: Origin, origins: &Origins) -> Weight {
    Weight::of(size.min(MAX_SIZE), origins.get(origin).1)
}

/// Tells births apart by the instants that they are after.
#[derive(Clone, Debug, Default)]
struct Cohorts {
    /// In ascending order.
    starts: Vec<Nanos>,
    /// Of the last birth.
    present: u16,
    /// The first and the last instant of births of the present cohort.
    span: (Nanos, Nanos),
}

impl Cohorts {
    fn new(mut starts: Vec<Nanos>) -> Cohorts {
        starts.sort_unstable();
        starts.dedup();
        let first = starts.first().copied().unwrap_or(Nanos(u64::MAX));
        Cohorts { starts, present: 0, span: (Nanos(0), first) }
    }

    /// How many instants a birth is after.
    #[inline]
    fn of(&mut self, born: Nanos) -> u16 {
        if born < self.span.0 || self.span.1 < born {
            self.change(born);
        }
        self.present
    }

    #[cold]
    fn change(&mut self, born: Nanos) {
        let before = self.starts.partition_point(|start| *start < born);
        let (earlier, later) = self.starts.split_at(before);
        self.present = before as u16;
        self.span = (
            earlier.last().map_or(Nanos(0), |start| Nanos(start.0 + 1)),
            later.first().copied().unwrap_or(Nanos(u64::MAX)),
        );
    }

    /// The middle of a cohort's births.
    fn middle(&self, cohort: u16, end: Nanos) -> Nanos {
        let start = |at: usize| self.starts.get(at).copied();
        let from = usize::from(cohort).checked_sub(1).and_then(start).unwrap_or_default();
        let to = start(cohort.into()).unwrap_or(end).min(end).max(from);
        Nanos(from.0 + (to.0 - from.0) / 2)
    }

    /// The first cohort that was born after an instant.
    fn after(&self, since: Nanos) -> u16 {
        self.starts.partition_point(|start| *start <= since) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::Stacks;
    use prof::Generation;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Applies (time, key, size), `None` where a block dies; `u64::MAX` as a key ends a round. Births are of one stream and
    /// deaths of another.
    fn applied(changes: &[(u64, u64, Option<u64>)]) -> Live {
        applied_from(changes, [0, 1])
    }

    fn applied_from(changes: &[(u64, u64, Option<u64>)], [births, deaths]: [u32; 2]) -> Live {
        let mut origins = Origins::default();
        let origin = origins.intern(ThreadIndex(0), 1);
        let mut live = Live::new([].into_iter());
        for &(time, key, size) in changes {
            if key == u64::MAX {
                live.end_round(Nanos(time));
                continue;
            }
            let birth = size.map(|size| Birth { size, stack: Stack::EMPTY, origin });
            let stream = if birth.is_some() { births } else { deaths };
            live.apply(&[Change { time: Nanos(time), key, birth, stream }], &origins);
        }
        let sum: f64 = live.sums(Nanos(0), &origins).iter().map(|(_, sums)| sums.live.bytes.value).sum();
        assert_eq!(sum, live.bytes.value);
        live
    }

    proptest! {
        #[test]
        fn sums_are_of_the_blocks_of_a_stack_and_a_thread(
            births in prop::collection::vec((0..6u64, 0..4u32, 0..1000u64, 0..100u64), 0..200), since in 0..100u64
        ) {
            let (mut stacks, mut origins) = (Stacks::default(), Origins::default());
            let mut live = Live::new([Nanos(since), Nanos(50)].into_iter());
            let mut model = BTreeMap::<_, Sums>::new();
            for (key, &(address, thread, size, time)) in births.iter().enumerate() {
                let stack = stacks.push(Stack::EMPTY, address, Generation(0));
                let thread = ThreadIndex(thread);
                let birth = Some(Birth { size, stack, origin: origins.intern(thread, 1) });
                live.apply(&[Change { time: Nanos(time), key: key as u64, birth, stream: 0 }], &origins);
                let sums = model.entry((stack, thread)).or_default();
                sums.live.add(size, 1);
                if time > since {
                    sums.young.add(size, 1);
                }
            }
            prop_assert_eq!(live.sums(Nanos(since), &origins), Vec::from_iter(model));
        }
    }

    #[test]
    fn a_death_waits_for_its_birth() {
        let same_instant = applied(&[(7, 1, None), (7, 1, Some(5))]);
        assert!(same_instant.is_empty());
        let allocated = same_instant.allocated;
        assert_eq!((allocated.bytes.value, allocated.blocks.value), (5.0, 1.0));
        assert!(applied(&[(7, 1, None), (6, 1, Some(5))]).is_empty());
    }

    #[test]
    fn a_death_does_not_wait_for_a_birth_of_its_own_stream() {
        assert_eq!(applied_from(&[(7, 1, None), (7, 1, Some(5))], [3, 3]).len(), 1);
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
        assert_eq!((live.len(), live.replaced, live.bytes.value), (1, 1, 6.0));
    }

    #[test]
    fn the_peak_is_the_first_time_of_the_most_bytes() {
        let live = applied(&[(1, 1, Some(5)), (2, 2, Some(6)), (3, 1, None), (4, 3, Some(5))]);
        assert_eq!((live.peak.time, live.peak.bytes.value), (Nanos(2), 11.0));
    }
}
