//! Vitals at any instant, taken to move evenly from one reading to the next.
//!
//! Only what has changed is written, so two values of a vital may be far apart although it was read in between. How far apart
//! readings are is seen from what is read together: of such vitals one nearly always changes. Before a change, a vital moves
//! for as long as the median distance of readings, and not before.

use crate::vitals::Vitals;
use prof::Nanos;
use prof::record::Vital;
use std::collections::BTreeMap;

/// Read together, from the kernel's account of the process.
const STATUS: [Vital; 6] =
    [Vital::RssAnon, Vital::RssFile, Vital::RssShmem, Vital::Swap, Vital::MinorFaults, Vital::Cpu];

/// Read together, from the allocator's.
const ALLOCATOR: [Vital; 5] = [
    Vital::AllocatorSystem,
    Vital::AllocatorInUse,
    Vital::AllocatorMapped,
    Vital::AllocatorReleased,
    Vital::Arenas,
];

/// Readings are hardly ever farther apart.
const LONGEST: u64 = 10_000_000_000;

/// A file's vitals, and how far apart they were read.
#[derive(Debug)]
pub struct Evenly<'a> {
    vitals: &'a Vitals,
    /// Median distances of readings, in nanoseconds.
    apart: BTreeMap<Vital, u64>,
}

impl<'a> Evenly<'a> {
    /// Looks at all of them once.
    pub fn new(vitals: &'a Vitals) -> Evenly<'a> {
        let apart = |vital: &Vital| match vital {
            vital if STATUS.contains(vital) => median_distance(vitals, &STATUS),
            vital if ALLOCATOR.contains(vital) => median_distance(vitals, &ALLOCATOR),
            vital => median_distance(vitals, &[*vital]),
        };
        Evenly { vitals, apart: Vital::ALL.iter().map(|vital| (*vital, apart(vital))).collect() }
    }

    /// A vital at an instant; before it was first read, its first value.
    pub fn at(&self, vital: Vital, time: Nanos) -> Option<u64> {
        let steps = self.vitals.series(vital)?;
        let before = steps.at_or_first(time)?.last;
        let Some((since, next, after)) = steps.around(time) else { return Some(before) };
        let apart = self.apart.get(&vital).copied().unwrap_or(LONGEST);
        let since = since.0.max(next.0.saturating_sub(apart));
        let passed = time.0.saturating_sub(since) as f64 / next.0.saturating_sub(since).max(1) as f64;
        Some((before as f64 + (after.last as f64 - before as f64) * passed).round() as u64)
    }
}

/// Of the readings of some vitals that are read together.
fn median_distance(vitals: &Vitals, together: &[Vital]) -> u64 {
    let series = together.iter().filter_map(|vital| vitals.series(*vital));
    let mut times: Vec<u64> = series.flat_map(|steps| steps.iter().map(|(time, _)| time.0)).collect();
    times.sort_unstable();
    times.dedup();
    let mut apart: Vec<u64> =
        times.iter().zip(times.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a)).collect();
    apart.sort_unstable();
    apart.get(apart.len() / 2).copied().unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Nanos {
        Nanos(s * 1_000_000_000)
    }

    #[test]
    fn between_two_readings_a_vital_moves_evenly() {
        let mut vitals = Vitals::default();
        vitals.note(second(2), &[(Vital::RssAnon, 100)]);
        vitals.note(second(4), &[(Vital::RssAnon, 300)]);
        let evenly = Evenly::new(&vitals);
        let at = |s| evenly.at(Vital::RssAnon, second(s)).unwrap();
        assert_eq!([at(0), at(2), at(3), at(4), at(9)], [100, 100, 200, 300, 300]);
        assert_eq!(evenly.at(Vital::Swap, second(3)), None);
    }

    #[test]
    fn what_is_long_the_same_moves_in_the_last_moment_only() {
        let mut vitals = Vitals::default();
        vitals.note(second(0), &[(Vital::RssFile, 10), (Vital::Uss, 10)]);
        for s in 1..=50 {
            vitals.note(second(2 * s), &[(Vital::Cpu, s)]);
        }
        vitals.note(second(100), &[(Vital::RssFile, 20), (Vital::Uss, 20)]);
        let evenly = Evenly::new(&vitals);
        let at = |vital| [90, 95, 98, 99, 100].map(|s| evenly.at(vital, second(s)).unwrap());
        assert_eq!(at(Vital::RssFile), [10, 10, 10, 15, 20]);
        assert_eq!(at(Vital::Uss), [10, 15, 18, 19, 20]);
    }
}
