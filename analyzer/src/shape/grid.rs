//! A span in steps of equal length.

use prof::Nanos;

/// Steps of a grid. Blocks remember in which of them they were born.
pub const STEPS: u64 = 256;

/// The instants between which a span's steps lie, the first and the last included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grid {
    times: Vec<Nanos>,
}

impl Grid {
    /// Of the span between two instants; fewer steps where it is only some nanoseconds long.
    pub fn new(from: Nanos, to: Nanos) -> Grid {
        let span = u128::from(to.0.saturating_sub(from.0));
        let time = |step: u64| Nanos(from.0 + (span * u128::from(step) / u128::from(STEPS)) as u64);
        let mut times: Vec<Nanos> = (0..=STEPS).map(time).collect();
        times.dedup();
        Grid { times }
    }

    /// All instants; a block that was born after `n` of them is of cohort `n`.
    pub fn times(&self) -> &[Nanos] {
        &self.times
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.times.len().saturating_sub(1)
    }

    /// An instant; the last one for numbers that are too large.
    pub fn time(&self, step: usize) -> Nanos {
        self.times.get(step).or(self.times.last()).copied().unwrap_or_default()
    }

    /// The length of a step, in seconds.
    pub fn step_seconds(&self) -> f64 {
        let span = self.time(self.steps()).0.saturating_sub(self.time(0).0);
        Nanos(span).seconds() / self.steps().max(1) as f64
    }
}
