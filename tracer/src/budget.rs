//! `interval=auto`: the most precision that a budget buys.
//!
//! Once a second the controller sees what sampling has cost and how much was allocated, and picks the smallest mean interval
//! that keeps the next second's cost within the budget:
//!
//! ```text
//! cost of a sample   c = (time in hooks + time of the writer) / samples, smoothed
//! samples it buys    n = budget / c
//! next interval        = interval × samples / n, within a factor of 4 of the present one
//! ```
//! The budget is 0.5 % of the CPU time that the process uses, and never less than 0.05 % of one core, so that a quiet
//! process is sampled densely. The number of live samples is bounded as well: each time half of the room that is left
//! under 50,000 is used up, the smallest interval that is allowed doubles. With them memory and the free filter are
//! bounded.

use prof::Nanos;

/// Before anything is known, in bytes.
pub const FIRST_INTERVAL: u64 = 512 << 10;

const SMALLEST: u64 = 4 << 10;
const LARGEST: u64 = 64 << 20;

/// Share of the process's CPU time.
const SHARE: f64 = 0.005;

/// Share of one core that is always there.
const LEAST_SHARE: f64 = 0.0005;

/// Most live samples.
const MOST_LIVE: f64 = 50_000.0;

/// Before a sample's cost has been measured, in nanoseconds.
const FIRST_COST: f64 = 5_000.0;

/// A change is worth making from this factor on.
const WORTH: f64 = 1.3;

/// The largest change of one second.
const MOST_CHANGE: f64 = 4.0;

/// What has happened since the last look.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// How long ago that was.
    pub elapsed: Nanos,
    /// CPU time of the process.
    pub process: Nanos,
    /// Time that sampling took, in hooks and in the writer.
    pub spent: Nanos,
    /// Samples taken.
    pub samples: u64,
    /// Samples that are live now.
    pub live: u64,
}

/// Picks intervals.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Budget {
    interval: u64,
    /// Nanoseconds a sample.
    cost: f64,
}

impl Budget {
    /// Begins at [`FIRST_INTERVAL`].
    pub fn new() -> Budget {
        Budget { interval: FIRST_INTERVAL, cost: FIRST_COST }
    }

    /// The next interval, where it is to change.
    pub fn next(&mut self, seen: Observation) -> Option<u64> {
        const ENOUGH_TO_MEASURE: u64 = 20;
        if seen.samples >= ENOUGH_TO_MEASURE {
            let cost = seen.spent.0 as f64 / seen.samples as f64;
            self.cost += (cost - self.cost) / 4.0;
        }
        let budget = (seen.process.0 as f64 * SHARE).max(seen.elapsed.0 as f64 * LEAST_SHARE);
        let bought = budget / self.cost;
        // Without samples nothing speaks against a smaller interval, and half a sample stands for that.
        let wanted = self.interval as f64 * (seen.samples as f64).max(0.5) / bought;
        let present = self.interval as f64;
        let wanted = wanted.clamp(present / MOST_CHANGE, present * MOST_CHANGE);
        let next = wanted.max(least_interval(seen.live)).clamp(SMALLEST as f64, LARGEST as f64);
        if (next / present).max(present / next) < WORTH {
            return None;
        }
        self.interval = next as u64;
        Some(self.interval)
    }
}

/// Doubles from the smallest interval on each time half of the room that is left has been used.
fn least_interval(live: u64) -> f64 {
    let room = 1.0 - (live as f64 / MOST_LIVE).min(1.0);
    let halvings = if room > 0.0 { -libm::log2(room) } else { f64::INFINITY };
    // From the first interval on: below half of the room the CPU budget alone decides.
    let above_half = (halvings.floor() - 1.0).max(-1.0);
    if above_half < 0.0 { SMALLEST as f64 } else { FIRST_INTERVAL as f64 * libm::exp2(above_half) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that allocates `rate` bytes a second in small blocks, of which a share stays.
    struct Process {
        rate: f64,
        staying: f64,
        cpu: f64,
        cost: f64,
        live: f64,
    }

    impl Process {
        fn run(&mut self, budget: &mut Budget, seconds: u32) -> (u64, f64) {
            let (mut interval, mut share) = (budget.interval, 0.0);
            for _ in 0..seconds {
                let samples = self.rate / interval as f64;
                self.live += samples * self.staying;
                let spent = samples * self.cost;
                share = spent / (self.cpu * 1e9);
                let seen = Observation {
                    elapsed: Nanos::SECOND,
                    process: Nanos((self.cpu * 1e9) as u64),
                    spent: Nanos(spent as u64),
                    samples: samples as u64,
                    live: self.live as u64,
                };
                interval = budget.next(seen).unwrap_or(interval);
            }
            (interval, share)
        }
    }

    #[test]
    fn a_quiet_process_is_sampled_densely() {
        let mut quiet = Process { rate: 100e3, staying: 0.0, cpu: 0.01, cost: 2_000.0, live: 0.0 };
        assert_eq!(quiet.run(&mut Budget::new(), 10).0, SMALLEST);
        let mut idle = Process { rate: 0.0, staying: 0.0, cpu: 0.0, cost: 0.0, live: 0.0 };
        assert_eq!(idle.run(&mut Budget::new(), 10).0, SMALLEST);
    }

    #[test]
    fn a_busy_process_spends_its_budget_and_no_more() {
        for rate in [50e6, 1e9, 20e9] {
            let mut busy = Process { rate, staying: 0.0, cpu: 2.0, cost: 3_000.0, live: 0.0 };
            let (interval, share) = busy.run(&mut Budget::new(), 60);
            assert!((0.0025..0.0066).contains(&share), "{rate}: {share}, {interval}");
        }
    }

    #[test]
    fn a_steady_process_keeps_its_interval() {
        let mut process = Process { rate: 1e9, staying: 0.0, cpu: 2.0, cost: 3_000.0, live: 0.0 };
        let mut budget = Budget::new();
        let (settled, _) = process.run(&mut budget, 60);
        assert_eq!(process.run(&mut budget, 600).0, settled);
    }

    #[test]
    fn a_burst_is_answered_within_seconds() {
        let mut budget = Budget::new();
        let mut process = Process { rate: 100e3, staying: 0.0, cpu: 0.01, cost: 3_000.0, live: 0.0 };
        process.run(&mut budget, 30);
        (process.rate, process.cpu) = (20e9, 2.0);
        let (_, share) = process.run(&mut budget, 10);
        assert!(share < 0.0066, "{share}");
    }

    #[test]
    fn a_leak_never_fills_the_table() {
        let mut leaking = Process { rate: 5e6, staying: 1.0, cpu: 2.0, cost: 2_000.0, live: 0.0 };
        let mut budget = Budget::new();
        for _ in 0..24 {
            leaking.run(&mut budget, 3600);
            assert!(leaking.live < 1.2 * MOST_LIVE, "{}", leaking.live);
        }
    }
}
