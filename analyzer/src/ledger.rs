//! What each stack and thread allocates in a span, what of it dies young, and how old and how large its live blocks are.
//!
//! Kept beside the live set where it is asked for. A block dies young within the settle time, one second by default; samples
//! that the tracer settles itself are known by stack only, as sums.

use crate::estimate::{Estimate, Sum};
use crate::live::Live;
use crate::stacks::Stack;
use crate::stream::{Birth, Change, Origins};
use crate::survey::Survey;
use prof::{Nanos, ThreadIndex};
use rustc_hash::FxHashMap;
use std::ops::AddAssign;

/// The thread of samples that the tracer has settled itself.
pub const SETTLED: ThreadIndex = ThreadIndex(u32::MAX);

/// What is known at the end, by stack and thread.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// What went through.
    pub flows: FxHashMap<(Stack, ThreadIndex), Flow>,
    /// Of the blocks that are live at the span's end.
    pub ages: FxHashMap<(Stack, ThreadIndex), Ages>,
}

/// What went through one stack and thread. There are many of them: most stacks allocate and have nothing live.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// In the span.
    pub allocated: Estimate,
    /// Bytes of that which died young.
    pub temporary: Sum,
}

impl AddAssign for Flow {
    fn add_assign(&mut self, other: Flow) {
        self.allocated = self.allocated.plus(other.allocated);
        self.temporary = self.temporary.plus(other.temporary);
    }
}

/// Ages of live blocks, and the largest of them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Ages {
    /// Σ bytes · seconds.
    pub sum: f64,
    /// Covariance of that with the bytes: Σ v · seconds, where v is a block's share of the bytes' variance.
    pub covariance: f64,
    /// Its variance: Σ v · seconds².
    pub variance: f64,
    /// Bytes of the largest recorded block.
    pub largest: u64,
}

impl Ages {
    fn add(&mut self, size: u64, interval: u64, seconds: f64) {
        let mut block = Sum::default();
        block.add_block(size, interval);
        self.sum += block.value * seconds;
        self.covariance += block.variance * seconds;
        self.variance += block.variance * seconds * seconds;
        self.largest = self.largest.max(size);
    }

    /// Of both.
    pub fn plus(self, other: Ages) -> Ages {
        Ages {
            sum: self.sum + other.sum,
            covariance: self.covariance + other.covariance,
            variance: self.variance + other.variance,
            largest: self.largest.max(other.largest),
        }
    }
}

/// A young block.
#[derive(Clone, Copy, Debug)]
struct Young {
    born: Nanos,
    birth: Birth,
}

/// Young blocks by key, in two halves by age: what has become old goes with its half.
#[derive(Debug, Default)]
struct Nursery {
    recent: FxHashMap<u64, Young>,
    older: FxHashMap<u64, Young>,
    since: Nanos,
}

impl Nursery {
    fn add(&mut self, key: u64, young: Young, settle: u64) {
        if young.born.0 > self.since.0.saturating_add(settle) {
            self.older = std::mem::take(&mut self.recent);
            self.since = young.born;
        }
        self.recent.insert(key, young);
    }

    fn remove(&mut self, key: u64) -> Option<Young> {
        self.recent.remove(&key).or_else(|| self.older.remove(&key))
    }
}

/// Keeps the accounts while changes come in.
#[derive(Debug)]
pub struct Ledger {
    span: (Nanos, Nanos),
    settle: u64,
    nursery: Nursery,
    flows: FxHashMap<(Stack, ThreadIndex), Flow>,
}

/// Ages are told apart by so many steps of the span.
const STEPS: u64 = 4096;

impl Ledger {
    /// Of what is allocated after the first instant, up to the second.
    pub fn new(span: (Nanos, Nanos), survey: &Survey) -> Ledger {
        Ledger {
            span,
            settle: survey.settle_time().0,
            nursery: Nursery::default(),
            flows: FxHashMap::default(),
        }
    }

    /// At which instants the live set is to tell births apart, up to `end`.
    pub fn steps(end: Nanos) -> impl Iterator<Item = Nanos> {
        (0..STEPS).map(move |step| Nanos((u128::from(end.0) * u128::from(step) / u128::from(STEPS)) as u64))
    }

    /// Takes in the next changes.
    pub fn apply(&mut self, changes: &[Change], origins: &Origins) {
        for change in changes {
            match change.birth {
                Some(birth) if change.time > self.span.0 => {
                    let (thread, interval) = origins.get(birth.origin);
                    let flow = self.flows.entry((birth.stack, thread)).or_default();
                    flow.allocated.add(birth.size, interval);
                    self.nursery.add(change.key, Young { born: change.time, birth }, self.settle);
                }
                Some(_) => {}
                None => {
                    let Some(Young { born, birth }) = self.nursery.remove(change.key) else { continue };
                    if change.time.0.saturating_sub(born.0) <= self.settle {
                        let (thread, interval) = origins.get(birth.origin);
                        let flow = self.flows.entry((birth.stack, thread)).or_default();
                        flow.temporary.add_block(birth.size, interval);
                    }
                }
            }
        }
    }

    /// Samples that died before the tracer wrote them, in the round that ends at `time`.
    pub fn settle(&mut self, time: Option<Nanos>, stack: Stack, samples: Estimate) {
        if time.is_none_or(|time| time > self.span.0) {
            *self.flows.entry((stack, SETTLED)).or_default() +=
                Flow { allocated: samples, temporary: samples.bytes };
        }
    }

    /// The accounts, with the ages of what is live now.
    pub fn close(&mut self, live: &Live, origins: &Origins) -> Accounts {
        let mut ages = FxHashMap::<_, Ages>::default();
        let end = self.span.1;
        live.each(end, |block, born| {
            let (thread, interval) = origins.get(block.origin);
            let seconds = Nanos(end.0.saturating_sub(born.0)).seconds();
            ages.entry((block.stack, thread)).or_default().add(block.size, interval, seconds);
        });
        Accounts { flows: std::mem::take(&mut self.flows), ages }
    }
}

#[cfg(test)]
mod tests {
    use crate::estimate::Estimated;
    use crate::figures::Figures;
    use crate::uniform::Uniform;

    #[test]
    fn intervals_of_mean_ages_contain_the_truth_in_at_least_93_of_100_runs() {
        const INTERVAL: u64 = 64 << 10;
        const RUNS: u32 = 300;
        let mut uniform = Uniform(7);
        // Large blocks are old, small ones young: size / 100 seconds.
        let blocks: Vec<u64> = (0..4000).map(|i| 100 + i * i % 9000).collect();
        let bytes: u64 = blocks.iter().sum();
        let truth = blocks.iter().map(|size| size * size / 100).sum::<u64>() as f64 / bytes as f64;
        let mut contained = 0;
        for _ in 0..RUNS {
            let mut figures = Figures::default();
            for size in &blocks {
                if uniform.next() < 1.0 - (-(*size as f64) / INTERVAL as f64).exp() {
                    figures.standing.cells.after.add(*size, INTERVAL);
                    figures.standing.ages.add(*size, INTERVAL, *size as f64 / 100.0);
                }
            }
            let Estimated { value: mean, ci95: (low, high) } = figures.mean_age().unwrap();
            assert!(low <= mean && mean <= high);
            contained += u32::from(low <= truth && truth <= high);
        }
        assert!(contained * 100 >= 93 * RUNS, "{contained} of {RUNS}");
    }
}
