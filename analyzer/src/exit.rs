//! When a process began to exit.
//!
//! A process that exits may free much of what it had, what it had leaked included: sessions are closed, destructors run. What
//! is live afterwards says nothing of the run. So the run ends where that begins. Of the live heap at the instants of a grid,
//! L₀ to Lₙ, `drawdown` is the largest fall from one to a later one in the half that ends with the last eighth, and `crest`
//! the most in the last eighth. The process has freed what it had where
//!
//! ```text
//! D = crest − Lₙ > max(2 · drawdown, 3 σ, crest / 50)
//! ```
//!
//! and the last level above Lₙ + D/4 is at most two seconds, or a step, before the end: what is freed earlier, the process has
//! lived without. σ is the standard error of D. That began at the last level which is less than `drawdown` or a fiftieth below
//! the crest, or in the step after it, where most was live.

use crate::levels::Level;
use crate::live::Peak;
use prof::Nanos;

/// At most so long before the end the process frees what it had.
const AT_THE_END: u64 = 2_000_000_000;

/// The instant before the process freed what it had in order to end, where it did; `levels` are those of the whole run, in
/// steps of equal length.
pub(crate) fn begin(levels: &[Level]) -> Option<Nanos> {
    let last = levels.last()?;
    let (run, close) = levels.get(levels.len() / 2..)?.split_at(levels.len() * 3 / 8);
    let crest = close.iter().max_by(|a, b| a.bytes.value.total_cmp(&b.bytes.value))?;
    let fall = crest.bytes.value - last.bytes.value;
    // What is live at the end was live before: it has no part in the difference.
    let error = (crest.bytes.variance - last.bytes.variance).max(0.0).sqrt();
    let least = crest.bytes.value / 50.0;
    let drawdown = drawdown(run);
    if fall <= least.max(3.0 * error).max(2.0 * drawdown) {
        return None;
    }
    let above = |bytes: f64| levels.iter().rposition(|level| level.bytes.value >= bytes);
    let falling = levels.get(above(last.bytes.value + fall / 4.0)?..)?;
    let [from, next, ..] = falling else { return None };
    if last.at.0 - from.at.0 > AT_THE_END.max(next.at.0 - from.at.0) {
        return None;
    }
    let begins = levels.get(above(crest.bytes.value - drawdown.max(least))?..)?;
    let before = begins.first().map(|level| Peak { time: level.at, bytes: level.bytes });
    let most = before.into_iter().chain(begins.get(1).map(|level| level.most));
    most.max_by(|a, b| a.bytes.value.total_cmp(&b.bytes.value).then(b.time.cmp(&a.time)))
        .map(|most| most.time)
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
    use crate::estimate::Sum;

    const STEPS: u64 = 256;
    const STEP: u64 = 500_000_000;

    fn run(level: impl Fn(u64) -> f64, variance: f64) -> Vec<Level> {
        let level = |step| {
            let bytes = Sum { value: level(step), variance: variance * level(step), observed: 0.0 };
            let time = Nanos(step * STEP);
            Level { at: time, bytes, most: Peak { time, bytes } }
        };
        (0..=STEPS).map(level).collect()
    }

    #[test]
    fn a_leak_that_is_freed_at_the_end() {
        // Of 100 MB that stay, and 40 kB in each step; freed in three steps.
        let leak = |step| 100e6 + 4e4 * step as f64;
        let freed = |step| if step < 254 { leak(step) } else { 100e6 + 1e6 * (256 - step) as f64 };
        assert_eq!(begin(&run(freed, 0.0)), Some(Nanos(253 * STEP)));
        assert_eq!(begin(&run(leak, 0.0)), None);
        // Where the heap still grew in the step in which it fell.
        let mut levels = run(freed, 0.0);
        levels[254].most =
            Peak { time: Nanos(253 * STEP + 7), bytes: Sum { value: 111e6, ..Sum::default() } };
        assert_eq!(begin(&levels), Some(Nanos(253 * STEP + 7)));
    }

    #[test]
    fn the_leak_is_freed_first() {
        // 100 MB that stay, and a leak of 20 MB that is freed in step 240; the rest goes at the end.
        let leak = |step| if step < 240 { 100e6 + 8e4 * step as f64 } else { 100e6 };
        let freed = |step| if step < 255 { leak(step) } else { 10e6 };
        assert_eq!(begin(&run(freed, 0.0)), Some(Nanos(239 * STEP)));
    }

    #[test]
    fn half_of_a_leak_of_the_second_half() {
        let leak = |step: u64| 50e6 + 3e5 * step.saturating_sub(128) as f64;
        let freed = |step| if step < 255 { leak(step) } else { 70e6 };
        assert_eq!(begin(&run(freed, 0.0)), Some(Nanos(254 * STEP)));
    }

    #[test]
    fn what_a_process_lives_without_is_not_freed_in_order_to_end() {
        // Freed five seconds before the end.
        let burst = |step| if (150..246).contains(&step) { 100e6 } else { 10e6 };
        assert_eq!(begin(&run(burst, 0.0)), None);
    }

    #[test]
    fn all_is_freed_at_the_end() {
        let steady = |step| if step < 254 { 5e6 + (step % 3) as f64 * 1e5 } else { 0.0 };
        assert_eq!(begin(&run(steady, 0.0)), Some(Nanos(253 * STEP)));
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
