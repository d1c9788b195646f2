//! When a process began to exit.
//!
//! A process that exits may free all that it had, what it had leaked included: sessions are closed, destructors run. What is
//! live afterwards says nothing of the run. So the run ends where that begins. Of the live heap at the instants of a grid, L₀ to
//! Lₙ, those of the half that ends with the last eighth have a least one, `floor`, and a largest fall from one to a later one,
//! `drawdown`; those of the last eighth have a largest one, `crest`. The process has freed what it had where
//!
//! ```text
//! Lₙ < floor − margin   and   crest − Lₙ > 2 · drawdown,   margin = max(3 σ, floor / 50)
//! ```
//!
//! σ is the standard error of `floor − Lₙ`. That began at the last level which is less than `drawdown` or `margin` below the
//! crest, or in the step after it, where most was live.

use crate::estimate::Sum;
use crate::levels::Level;
use crate::live::Peak;
use prof::Nanos;

/// The instant before the process freed what it had in order to end, where it did; `levels` are those of the whole run, in
/// steps of equal length.
pub(crate) fn begin(levels: &[Level]) -> Option<Nanos> {
    let last = levels.last()?;
    let (run, close) = levels.get(levels.len() / 2..)?.split_at(levels.len() * 3 / 8);
    let floor = lowest(run)?;
    let crest = close.iter().map(|level| level.bytes.value).fold(floor.value, f64::max);
    // What is live at the end was live before: it has no part in the difference.
    let error = (floor.variance - last.bytes.variance).max(0.0).sqrt();
    let margin = (3.0 * error).max(floor.value / 50.0);
    let drawdown = drawdown(run);
    if last.bytes.value >= floor.value - margin || crest - last.bytes.value <= 2.0 * drawdown {
        return None;
    }
    let is_still = |level: &Level| level.bytes.value >= crest - drawdown.max(margin);
    let still = levels.iter().rposition(is_still)?;
    let before = levels.get(still).map(|level| Peak { time: level.at, bytes: level.bytes });
    let most = before.into_iter().chain(levels.get(still + 1).map(|level| level.most));
    most.max_by(|a, b| a.bytes.value.total_cmp(&b.bytes.value).then(b.time.cmp(&a.time)))
        .map(|most| most.time)
}

fn lowest(levels: &[Level]) -> Option<Sum> {
    levels.iter().map(|level| level.bytes).min_by(|a, b| a.value.total_cmp(&b.value))
}

/// The largest fall from a level to a later one.
fn drawdown(levels: &[Level]) -> f64 {
    let mut highest = f64::NEG_INFINITY;
    levels.iter().fold(0.0, |largest, level| {
        highest = highest.max(level.bytes.value);
        f64::max(largest, highest - level.bytes.value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: u64 = 256;

    fn run(level: impl Fn(u64) -> f64, variance: f64) -> Vec<Level> {
        let level = |step| {
            let bytes = Sum { value: level(step), variance: variance * level(step), observed: 0.0 };
            let time = Nanos(step * 10);
            Level { at: time, bytes, most: Peak { time, bytes } }
        };
        (0..=STEPS).map(level).collect()
    }

    #[test]
    fn a_leak_that_is_freed_at_the_end() {
        // Of 100 MB that stay, and 40 kB in each step; freed in three steps.
        let leak = |step| 100e6 + 4e4 * step as f64;
        let freed = |step| if step < 254 { leak(step) } else { 100e6 + 1e6 * (256 - step) as f64 };
        assert_eq!(begin(&run(freed, 0.0)), Some(Nanos(2530)));
        assert_eq!(begin(&run(leak, 0.0)), None);
        // Where the heap still grew in the step in which it fell.
        let mut levels = run(freed, 0.0);
        levels[254].most = Peak { time: Nanos(2537), bytes: Sum { value: 111e6, ..Sum::default() } };
        assert_eq!(begin(&levels), Some(Nanos(2537)));
    }

    #[test]
    fn the_leak_is_freed_first() {
        // 100 MB that stay, and a leak of 20 MB that is freed in step 240; the rest goes at the end.
        let leak = |step| if step < 240 { 100e6 + 8e4 * step as f64 } else { 100e6 };
        let freed = |step| if step < 255 { leak(step) } else { 10e6 };
        assert_eq!(begin(&run(freed, 0.0)), Some(Nanos(2390)));
    }

    #[test]
    fn all_is_freed_at_the_end() {
        let steady = |step| if step < 250 { 5e6 + (step % 3) as f64 * 1e5 } else { 0.0 };
        assert!(begin(&run(steady, 0.0)).is_some_and(|time| (2480..=2490).contains(&time.0)));
        assert_eq!(begin(&run(|_| 5e6, 0.0)), None);
        assert_eq!(begin(&run(|_| 0.0, 0.0)), None);
    }

    #[test]
    fn what_falls_all_the_time_does_not_fall_at_the_end() {
        let saws = |step| 20e6 + (step % 32) as f64 * 1e6;
        assert_eq!(begin(&run(saws, 0.0)), None);
        let shrinks = |step: u64| 50e6 - step as f64 * 1e5;
        assert_eq!(begin(&run(shrinks, 0.0)), None);
    }

    #[test]
    fn what_may_be_chance_is_none() {
        // One sample in 1 MB: the last level is two of them lower, one and a half standard errors.
        let fewer = |step| if step < 255 { 6e6 } else { 4e6 };
        assert_eq!(begin(&run(fewer, 1e6)), None);
        assert!(begin(&run(|step| if step < 255 { 40e6 } else { 4e6 }, 1e6)).is_some());
    }

    #[test]
    fn few_levels_are_no_run() {
        for count in 0..20 {
            let levels = run(|_| 1e6, 0.0);
            assert_eq!(begin(&levels[..count]), None);
        }
    }
}
