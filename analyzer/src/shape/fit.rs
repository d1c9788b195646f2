//! The slope of a level over time, and how sure it is.
//!
//! Least squares, written as a sum over the level's increments: with w = (t − t̄) / Σ(t − t̄)² and c the sums of w from a
//! point to the end,
//!
//! ```text
//! slope b = Σ w x = Σ c Δx        residual of an increment u = c (Δx − b Δt)
//! V = Σ u² + 2 Σ (1 − l/(L+1)) Σ u(k) u(k−l)     l = 1 … L, L = n/8     Newey & West 1987
//! ```
//!
//! Increments, and not levels, since a level that adds up what was allocated wanders: its own residuals would look far too
//! even. A bandwidth in proportion to n needs wider quantiles than the normal ones (Kiefer & Vogelsang 2005). Where the level
//! is estimated from samples, the variance of the slope that comes from sampling is computed apart, and the larger of both
//! is used.

use crate::estimate::{Estimated, Sum, Z, weighted_poisson_high};
use std::ops::Range;

/// The 97.5 % quantile of Kiefer and Vogelsang for a Bartlett kernel over an eighth of the points.
const FIXED_B: f64 = 1.96 + 2.9694 / 8.0 + 0.4160 / 64.0 - 0.5324 / 512.0;

/// A level at some instants.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Level {
    /// In seconds, ascending.
    pub times: Vec<f64>,
    /// What it was.
    pub values: Vec<f64>,
}

/// A straight line through a level.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fit {
    /// Per second.
    pub slope: f64,
    /// Variance of `slope`, from scatter alone.
    pub variance: f64,
    /// Share of the level's variance that the line explains.
    pub r2: f64,
    /// By how much one more sampled block could raise `slope`.
    pub unseen: f64,
}

/// What sampling leaves uncertain of a slope.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sampling {
    /// Variance of the slope.
    pub variance: f64,
    /// By how much one more sampled block could raise it.
    pub unseen: f64,
}

impl Fit {
    /// The same, where sampling alone leaves this uncertain.
    pub fn with_sampling(self, sampling: Sampling) -> Fit {
        Fit { variance: self.variance.max(sampling.variance), unseen: sampling.unseen, ..self }
    }

    /// The slope with its interval.
    pub fn estimated(&self) -> Estimated {
        Estimated { value: self.slope, ci95: self.ci95() }
    }

    /// Both ends of the 95 % interval of the slope. It excludes zero only where the slope is more than 1.96 standard
    /// deviations away from it; then its lower end is that of a Poisson count, as for sums. Its upper end is at least the one
    /// of a sum of weighted Poisson counts, to which the block with the largest weight is added (Fay & Feuer 1997).
    pub fn ci95(&self) -> (f64, f64) {
        let margin = Z * self.variance.sqrt();
        let low = if self.slope > margin && self.variance > 0.0 {
            Sum { value: self.slope, variance: self.variance, observed: 0.0 }.ci95().0
        } else {
            self.slope - margin
        };
        let high = (self.slope + margin).max(weighted_poisson_high(self.slope, self.variance, self.unseen));
        (low, high)
    }

    /// Whether the level rises for certain.
    pub fn rises(&self) -> bool {
        self.ci95().0 > 0.0
    }
}

impl Level {
    /// How many instants there are.
    pub fn len(&self) -> usize {
        self.times.len().min(self.values.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The level between two of its instants, as one.
    pub fn part(&self, range: Range<usize>) -> Level {
        let part = |values: &[f64]| values.get(range.clone()).unwrap_or(&[]).to_vec();
        Level { times: part(&self.times), values: part(&self.values) }
    }

    /// The weight of each value in the slope.
    pub fn weights(&self) -> Vec<f64> {
        let n = self.len().max(1) as f64;
        let mean = self.times.iter().sum::<f64>() / n;
        let square: f64 = self.times.iter().map(|t| (t - mean).powi(2)).sum();
        self.times.iter().map(|t| if square > 0.0 { (t - mean) / square } else { 0.0 }).collect()
    }

    /// The straight line through it.
    pub fn fit(&self) -> Fit {
        let n = self.len();
        if n < 3 {
            return Fit::default();
        }
        let weights = self.weights();
        let first = self.values.first().copied().unwrap_or(0.0);
        let slope: f64 = weights.iter().zip(&self.values).map(|(w, x)| w * (x - first)).sum();
        let scale = self.values.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let mut tail = 0.0;
        let mut residuals = vec![0.0; n - 1];
        for (k, residual) in residuals.iter_mut().enumerate().rev() {
            let at = |values: &[f64], i: usize| values.get(i).copied().unwrap_or(0.0);
            tail += at(&weights, k + 1);
            let rise = at(&self.values, k + 1) - at(&self.values, k);
            let error = rise - slope * (at(&self.times, k + 1) - at(&self.times, k));
            // What is left of a straight line is rounding.
            *residual = if error.abs() > scale * 1e-9 { tail * error } else { 0.0 };
        }
        let mean = self.values.iter().sum::<f64>() / n as f64;
        let total: f64 = self.values.iter().map(|x| (x - mean).powi(2)).sum();
        let explained = slope * slope * self.times_square();
        Fit {
            slope,
            variance: long_run_variance(&residuals) * (FIXED_B / 1.96).powi(2),
            unseen: 0.0,
            r2: if total > 0.0 { (explained / total).min(1.0) } else { 0.0 },
        }
    }

    fn times_square(&self) -> f64 {
        let mean = self.times.iter().sum::<f64>() / self.len().max(1) as f64;
        self.times.iter().map(|t| (t - mean).powi(2)).sum()
    }

    /// From where on it can be taken for a straight line: the earliest of some fractions after which the slopes of both
    /// halves of the rest agree, within the second one's error or a quarter; as a place among its instants.
    pub fn settled(&self) -> usize {
        const EIGHTHS: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];
        let n = self.len();
        let agrees = |from: usize| {
            let middle = from + (n - from) / 2;
            let (first, second) = (self.part(from..middle + 1).fit(), self.part(middle..n).fit());
            let apart = (first.slope - second.slope).abs();
            let error = Z * (2.0 * second.variance).sqrt();
            apart <= error.max(first.slope.abs().max(second.slope.abs()) / 4.0)
        };
        let starts = EIGHTHS.map(|eighths| n * eighths / 8);
        let settled = starts.into_iter().find(|from| agrees(*from));
        settled.unwrap_or(n * 3 / 4)
    }
}

/// Newey and West's, of a sum of dependent terms.
fn long_run_variance(terms: &[f64]) -> f64 {
    let lags = (terms.len() / 8).max(1);
    let products = |lag: usize| -> f64 {
        terms.iter().zip(terms.get(lag..).unwrap_or(&[])).map(|(early, late)| early * late).sum()
    };
    let weighted = |lag: usize| (1.0 - lag as f64 / (lags + 1) as f64) * products(lag);
    (products(0) + 2.0 * (1..=lags).map(weighted).sum::<f64>()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(values: impl IntoIterator<Item = f64>) -> Level {
        let values: Vec<f64> = values.into_iter().collect();
        Level { times: (0..values.len()).map(|t| t as f64 * 2.0).collect(), values }
    }

    #[test]
    fn a_straight_line_is_exact() {
        let fit = level((0..100).map(|t| 5.0 + 8.0 * f64::from(t))).fit();
        assert!((fit.slope - 4.0).abs() < 1e-9 && fit.variance == 0.0, "{fit:?}");
        assert!((fit.r2 - 1.0).abs() < 1e-9);
        assert_eq!(level([3.0; 50]).fit().ci95(), (0.0, 0.0));
    }

    #[test]
    fn what_goes_up_and_down_does_not_rise() {
        let saw = level((0..256).map(|t| f64::from(t % 25) * 100.0)).fit();
        assert!(!saw.rises(), "{:?}", saw.ci95());
        let once = level((0..256).map(|t| if t < 128 { 0.0 } else { 1e6 })).fit();
        assert!(!once.rises(), "one step is no slope: {:?}", once.ci95());
    }

    #[test]
    fn a_line_is_found_after_a_warm_up() {
        let level = level((0..200).map(|t| 1e6 * (1.0 - (-f64::from(t) / 10.0).exp()) + f64::from(t)));
        let from = level.settled();
        assert!(from >= 50, "{from}");
        assert!((level.part(from..200).fit().slope - 0.5).abs() < 0.3);
    }
}
