//! Axes with round numbers.

/// The smallest power of two of which at most `most` steps reach from 0 to `high`.
pub(super) fn size_step(high: f64, most: usize) -> f64 {
    let mut step = 1.0;
    while high / step > most.max(1) as f64 {
        step *= 2.0;
    }
    step
}

/// Steps of time that people count in, in seconds.
const STEPS: [f64; 24] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    10800.0, 21600.0, 43200.0, 86400.0, 172800.0, 604800.0, 2592000.0,
];

/// At most `most` round instants between two; none where they are too near to each other.
pub(super) fn time_ticks((from, to): (f64, f64), most: usize) -> Vec<f64> {
    let most = most.clamp(1, 100);
    let fits = |step: &&f64| (to - from) / **step <= most as f64;
    let longest = ((to - from) / most as f64).max(1.0);
    let step = STEPS.iter().find(fits).copied().unwrap_or(longest);
    let first = (from / step - 1e-9).ceil();
    let ticks = (0..=most).map(|n| (first + n as f64) * step);
    ticks.take_while(|tick| *tick <= to + step * 1e-9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(size_step(100.0 * 1048576.0, 5), 32.0 * 1048576.0);
        assert_eq!(time_ticks((0.5, 20.5), 5), [5.0, 10.0, 15.0, 20.0]);
        assert_eq!(time_ticks((0.0, 7200.0), 4), [0.0, 1800.0, 3600.0, 5400.0, 7200.0]);
        assert!(time_ticks((3.05, 3.05), 4).is_empty());
    }

    proptest! {
        #[test]
        fn ticks_are_few_and_within(from in 0.0..1e10f64, span in 0.0..1e10f64, most in 1..20usize) {
            let ticks = time_ticks((from, from + span), most);
            prop_assert!(ticks.len() <= most + 1);
            let step = (span / most as f64).max(0.1);
            prop_assert!(ticks.iter().all(|t| *t >= from - step * 1e-6 - from * 1e-9 && *t <= from + span + step * 1e-6));
        }
    }
}
