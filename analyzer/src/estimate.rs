//! From sampled blocks to what they stand for.
//!
//! With a mean of `interval` bytes between the points of a Poisson process, a block of `size` bytes is sampled
//! with probability p = 1 − exp(−size / interval). Each sampled block stands for 1/p blocks and size/p bytes:
//!
//! ```text
//! estimate    X = Σ size/p                 Horvitz & Thompson 1952: unbiased
//! variance    V = Σ (size/p)² (1 − p)      over the sampled blocks: unbiased for X's variance
//! ```
//!
//! The 95 % interval treats X as V/X times a Poisson count of X²/V events and takes that count's exact interval
//! (Garwood 1936), with χ² quantiles after Wilson & Hilferty 1931:
//!
//! ```text
//! k = X²/V    low = X · q(k, 0.025) / k    high = X · q(k + 1, 0.975) / k
//! q(k, P) = ν (1 − 2/9ν + z(P) √(2/9ν))³ / 2,  ν = 2k
//! ```
//!
//! Where every allocation is recorded (interval 1), p = 1, V = 0, and the interval is the value itself. The lower
//! end is never below what was observed: sampled blocks are there.

use prof::weight;
use std::ops::AddAssign;

/// An estimated sum.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sum {
    /// Horvitz–Thompson estimate.
    pub value: f64,
    /// Estimated variance of `value`.
    pub variance: f64,
    /// What the sampled blocks themselves amount to.
    pub observed: f64,
}

/// A figure with both ends of its 95 % interval.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Estimated {
    /// The estimate.
    pub value: f64,
    /// The interval.
    pub ci95: (f64, f64),
}

impl Estimated {
    /// Of what is known.
    pub fn exact(value: f64) -> Estimated {
        Estimated { value, ci95: (value, value) }
    }

    /// So many times as much.
    pub fn times(self, factor: f64) -> Estimated {
        Estimated { value: self.value * factor, ci95: (self.ci95.0 * factor, self.ci95.1 * factor) }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        *self = self.plus(other);
    }
}

impl From<Sum> for Estimated {
    fn from(sum: Sum) -> Estimated {
        Estimated { value: sum.value, ci95: sum.ci95() }
    }
}

/// Bytes and number of some blocks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Estimate {
    /// Requested bytes.
    pub bytes: Sum,
    /// How many blocks.
    pub blocks: Sum,
}

/// Bytes and blocks that one sampled block stands for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Weight {
    /// Bytes.
    pub bytes: f64,
    /// Blocks.
    pub blocks: f64,
    /// Share of such blocks that is not sampled.
    pub missed: f64,
}

impl Weight {
    /// Of a block of `size` bytes that was recorded at a mean of `interval` bytes between samples.
    #[inline]
    pub fn of(size: u64, interval: u64) -> Weight {
        if interval <= weight::EVERY {
            return Weight { bytes: size as f64, blocks: 1.0, missed: 0.0 };
        }
        let blocks = weight::blocks(size, interval);
        Weight { bytes: size as f64 * blocks, blocks, missed: 1.0 - 1.0 / blocks }
    }
}

impl Sum {
    #[inline]
    fn add(&mut self, weight: f64, observed: f64, missed: f64) {
        self.value += weight;
        self.variance += weight * weight * missed;
        self.observed += observed;
    }

    /// Adds the bytes of a recorded block.
    #[inline]
    pub fn add_block(&mut self, size: u64, interval: u64) {
        self.add_bytes(size, &Weight::of(size, interval));
    }

    /// Adds the bytes of a recorded block of this weight.
    #[inline]
    pub fn add_bytes(&mut self, size: u64, weight: &Weight) {
        self.add(weight.bytes, size as f64, weight.missed);
    }

    /// Takes away the bytes of a recorded block that were added.
    #[inline]
    pub fn remove_bytes(&mut self, size: u64, weight: &Weight) {
        self.value -= weight.bytes;
        self.variance -= weight.bytes * weight.bytes * weight.missed;
        self.observed -= size as f64;
    }

    /// The sum of two independent estimates.
    pub fn plus(self, other: Sum) -> Sum {
        Sum {
            value: self.value + other.value,
            variance: self.variance + other.variance,
            observed: self.observed + other.observed,
        }
    }

    /// Without a part of it, which was summed from some of the same blocks.
    pub fn without(self, part: Sum) -> Sum {
        Sum {
            value: (self.value - part.value).max(0.0),
            variance: (self.variance - part.variance).max(0.0),
            observed: (self.observed - part.observed).max(0.0),
        }
    }

    /// Both ends of the 95 % interval of `self` − `other`, independent estimates, from those of each: Zou & Donner 2008.
    pub fn difference_ci95(&self, other: &Sum) -> (f64, f64) {
        let ((low, high), (other_low, other_high)) = (self.ci95(), other.ci95());
        let difference = self.value - other.value;
        let below = (self.value - low).hypot(other_high - other.value);
        let above = (high - self.value).hypot(other.value - other_low);
        (difference - below, difference + above)
    }

    /// Its share of a sum over blocks that are all of its own and others. The interval is the wider of two at each end: that of
    /// the delta method, taken as normal, and Wilson's (1927), which is right for shares near 0 and 1, of as many samples as
    /// the whole sum has.
    pub fn share_of(&self, all: &Sum) -> Estimated {
        if all.value <= 0.0 {
            return Estimated::default();
        }
        let share = (self.value / all.value).clamp(0.0, 1.0);
        let rest = (all.variance - self.variance).max(0.0);
        let delta = Z * ((1.0 - share).powi(2) * self.variance + share * share * rest).sqrt() / all.value;
        let z2 = Z * Z * all.variance / (all.value * all.value);
        let middle = (share + z2 / 2.0) / (1.0 + z2);
        let wilson = (z2 * share * (1.0 - share) + z2 * z2 / 4.0).sqrt() / (1.0 + z2);
        let (low, high) = ((share - delta).min(middle - wilson), (share + delta).max(middle + wilson));
        Estimated { value: share, ci95: (low.clamp(0.0, share), high.clamp(share, 1.0)) }
    }

    /// Both ends of the 95 % interval.
    pub fn ci95(&self) -> (f64, f64) {
        if self.variance <= 0.0 || self.value <= 0.0 {
            return (self.value, self.value);
        }
        let k = self.value * self.value / self.variance;
        let low = self.value * gamma_quantile(k, -Z) / k;
        let high = self.value * gamma_quantile(k + 1.0, Z) / k;
        (low.max(self.observed).min(self.value), high.max(self.value))
    }
}

/// The upper end of the 95 % interval of a weighted sum of Poisson counts, where no count has a larger weight than `unseen`:
/// Fay & Feuer 1997, with the quantile of [`Sum::ci95`].
pub(crate) fn weighted_poisson_high(value: f64, variance: f64, unseen: f64) -> f64 {
    let (value, variance) = (value.max(0.0) + unseen, variance + unseen * unseen);
    if variance <= 0.0 {
        return value;
    }
    let k = value * value / variance;
    value * gamma_quantile(k, Z) / k
}

/// 97.5 % of the standard normal distribution lie below it.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// 97.5 % of Student's distribution with so many degrees of freedom lie below it: the first ones from a table, the others by
/// the expansion around the normal quantile (Abramowitz & Stegun 26.7.5).
pub(crate) fn student_quantile(freedom: usize) -> f64 {
    const FIRST: [f64; 9] = [f64::INFINITY, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306];
    let n = freedom as f64;
    let (third, fifth) = (Z.powi(3) + Z, 5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z);
    FIRST.get(freedom).copied().unwrap_or(Z + third / (4.0 * n) + fifth / (96.0 * n * n))
}

/// Quantile of the Gamma distribution with shape `k` and scale 1, given the normal quantile of its probability.
fn gamma_quantile(k: f64, z: f64) -> f64 {
    let c = 2.0 / (9.0 * 2.0 * k);
    k * (1.0 - c + z * c.sqrt()).max(0.0).powi(3)
}

impl Estimate {
    /// Adds a recorded block.
    #[inline]
    pub fn add(&mut self, size: u64, interval: u64) {
        self.add_weighted(size, &Weight::of(size, interval));
    }

    /// Adds a recorded block of this weight.
    #[inline]
    pub fn add_weighted(&mut self, size: u64, weight: &Weight) {
        self.bytes.add_bytes(size, weight);
        self.blocks.add(weight.blocks, 1.0, weight.missed);
    }

    /// Of samples that are known as sums only, taken at `interval` or less. A sample of `size` bytes adds size/p · size (1 − p)/p
    /// to the variance of the bytes, which is less than its bytes times the interval, whatever its size; and 1/p · (1 − p)/p to
    /// that of the blocks, which is less than its blocks times interval/size: the mean size is taken for all sizes.
    pub fn of_sums(bytes: f64, blocks: f64, interval: u64) -> Estimate {
        let interval = if interval <= weight::EVERY { 0.0 } else { interval as f64 };
        let variance = if bytes > 0.0 { blocks * blocks / bytes * interval } else { 0.0 };
        Estimate {
            bytes: Sum { value: bytes, variance: bytes * interval, observed: 0.0 },
            blocks: Sum { value: blocks, variance, observed: 0.0 },
        }
    }

    /// The sum of two independent estimates.
    pub fn plus(self, other: Estimate) -> Estimate {
        Estimate { bytes: self.bytes.plus(other.bytes), blocks: self.blocks.plus(other.blocks) }
    }

    /// As [`Sum::without`].
    pub fn without(self, part: Estimate) -> Estimate {
        Estimate { bytes: self.bytes.without(part.bytes), blocks: self.blocks.without(part.blocks) }
    }

    /// Whether it is of no blocks at all.
    pub fn is_zero(&self) -> bool {
        self.blocks.value == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uniform::Uniform;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_allocation_is_exact(sizes in prop::collection::vec(0..1u64 << 40, 0..50)) {
            let mut sum = Estimate::default();
            sizes.iter().for_each(|&size| sum.add(size, 1));
            let truth = sizes.iter().sum::<u64>() as f64;
            prop_assert_eq!(sum.bytes.value, truth);
            prop_assert_eq!(sum.bytes.ci95(), (truth, truth));
            prop_assert_eq!(sum.blocks.value, sizes.len() as f64);
        }

        #[test]
        fn the_interval_contains_estimate_and_never_less_than_was_seen(
            blocks in prop::collection::vec((0..1u64 << 32, 1..1u64 << 30), 1..50)
        ) {
            let mut sum = Estimate::default();
            blocks.iter().for_each(|&(size, interval)| sum.add(size, interval));
            for sum in [sum.bytes, sum.blocks] {
                let (low, high) = sum.ci95();
                prop_assert!(low <= sum.value && sum.value <= high, "{low} {sum:?} {high}");
                prop_assert!(low >= sum.observed * (1.0 - 1e-9), "{low} {sum:?}");
            }
        }

        #[test]
        fn a_weight_is_at_least_the_block_itself(size in 0..1u64 << 40, interval in 1..1u64 << 30) {
            let weight = Weight::of(size, interval);
            prop_assert!(weight.bytes >= size as f64 && weight.blocks >= 1.0);
        }
    }

    const INTERVAL: u64 = 512 * 1024;

    /// Samples of a mix: sizes, and how many blocks there are of each.
    fn sample(mix: &[(u64, u32)], uniform: &mut Uniform) -> Estimate {
        let mut sum = Estimate::default();
        for &(size, n) in mix {
            // Skips over the blocks that are not sampled, instead of tossing for each.
            let miss = (-(size as f64) / INTERVAL as f64).exp();
            let mut at = (uniform.next().ln() / miss.ln()).floor();
            while at < f64::from(n) {
                sum.add(size, INTERVAL);
                at += 1.0 + (uniform.next().ln() / miss.ln()).floor();
            }
        }
        sum
    }

    #[test]
    fn differences_and_shares_contain_the_truth_in_at_least_93_of_100_runs() {
        let mixes: [[&[(u64, u32)]; 2]; 4] = [
            [&[(64, 400_000)], &[(64, 100_000)]],
            [&[(181, 60_000), (1 << 20, 20)], &[(4096, 10_000)]],
            [&[(4096, 5_000)], &[(4096, 5_000)]],
            [&[(16, 500_000)], &[(2 << 20, 10)]],
        ];
        for (number, [one, other]) in mixes.iter().enumerate() {
            let mut uniform = Uniform(70 + number as u64);
            let bytes =
                |mix: &[(u64, u32)]| mix.iter().map(|&(size, n)| size as f64 * f64::from(n)).sum::<f64>();
            let (difference, share) = (bytes(one) - bytes(other), bytes(one) / (bytes(one) + bytes(other)));
            let (mut differences, mut shares) = (0, 0);
            const RUNS: u32 = 300;
            for _ in 0..RUNS {
                let (one, other) = (sample(one, &mut uniform).bytes, sample(other, &mut uniform).bytes);
                let holds = |(low, high): (f64, f64), truth: f64| u32::from(low <= truth && truth <= high);
                differences += holds(one.difference_ci95(&other), difference);
                shares += holds(one.share_of(&one.plus(other)).ci95, share);
            }
            assert!(differences * 100 >= 93 * RUNS, "differences of mix {number}: {differences} of {RUNS}");
            assert!(shares * 100 >= 93 * RUNS, "shares of mix {number}: {shares} of {RUNS}");
        }
    }

    #[test]
    fn intervals_contain_the_truth_in_at_least_93_of_100_runs() {
        // (size, how many of them are live), several mixes of about 20 to 400 MiB
        let mixes: [&[(u64, u32)]; 5] = [
            &[(16, 4_000_000)],
            &[(181, 300_000), (40, 300_000)],
            &[(1 << 20, 60)],
            &[(16, 200_000), (4096, 10_000), (1 << 20, 30)],
            &[(64 << 10, 500), (3 << 20, 10)],
        ];
        for (number, mix) in mixes.iter().enumerate() {
            let mut uniform = Uniform(20 + number as u64);
            let truth = mix.iter().map(|&(size, n)| size as f64 * f64::from(n)).sum::<f64>();
            let count = mix.iter().map(|&(_, n)| f64::from(n)).sum::<f64>();
            let (mut bytes_in, mut count_in) = (0, 0);
            for _ in 0..100 {
                let sum = sample(mix, &mut uniform);
                let holds = |(low, high): (f64, f64), truth: f64| u32::from(low <= truth && truth <= high);
                bytes_in += holds(sum.bytes.ci95(), truth);
                count_in += holds(sum.blocks.ci95(), count);
            }
            assert!(bytes_in >= 93, "bytes of mix {number}: {bytes_in} of 100");
            assert!(count_in >= 93, "count of mix {number}: {count_in} of 100");
        }
    }

    #[test]
    fn quantiles_are_those_of_garwood() {
        // Exact intervals of Poisson counts.
        let exact = [(4.0, 1.0899, 10.2416), (10.0, 4.7954, 18.3904), (100.0, 81.3639, 121.6269)];
        for (count, low, high) in exact {
            let sum = Sum { value: count, variance: count, observed: 0.0 };
            let (from, to) = sum.ci95();
            assert!(
                (from / low - 1.0).abs() < 0.02 && (to / high - 1.0).abs() < 0.002,
                "{count}: {from} {to}"
            );
        }
        let one = Sum { value: 1.0, variance: 1.0, observed: 0.0 };
        assert!(one.ci95().0 < 0.0253 && (one.ci95().1 / 5.5716 - 1.0).abs() < 0.005, "{:?}", one.ci95());
    }

    #[test]
    fn an_interval_that_follows_the_samples_leaves_sums_unbiased() {
        let (runs, blocks, size) = (2000, 3000, 700);
        let truth = f64::from(blocks) * size as f64;
        let (mut sum, mut squares, mut variances) = (0.0, 0.0, 0.0);
        let mut uniform = Uniform(5);
        for _ in 0..runs {
            let mut estimate = Sum::default();
            let mut interval = 16_384;
            for _ in 0..blocks {
                let sampled = uniform.next() < weight::probability(size, interval);
                if sampled {
                    estimate.add_block(size, interval);
                }
                // As a budget does: denser after a long time without samples, sparser after one.
                interval = if sampled { interval * 2 } else { interval * 31 / 32 }.clamp(4096, 1 << 20);
            }
            sum += estimate.value;
            squares += (estimate.value - truth).powi(2);
            variances += estimate.variance;
        }
        let runs = f64::from(runs);
        let error = (squares / runs / runs).sqrt();
        assert!((sum / runs - truth).abs() < 4.0 * error, "{} of {truth} ± {error}", sum / runs);
        assert!((variances / squares - 1.0).abs() < 0.15, "the variance too: {}", variances / squares);
    }
}
