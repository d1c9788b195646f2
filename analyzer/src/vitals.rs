//! What was measured of a process as a whole, over time: step functions of bounded size.
//!
//! A value holds until the next one. Where a run is so long that there are too many, neighbours are merged pair by pair:
//! their smallest, largest and last value stay, at the time of the last.

use prof::Nanos;
use prof::record::Vital;
use std::collections::BTreeMap;

/// Values of a vital that are kept.
const MOST: usize = 4096;

/// Values of one arena that are kept.
const MOST_OF_ARENA: usize = 256;

/// Arenas that are kept; glibc makes eight for each processor.
const MOST_ARENAS: usize = 4096;

/// What holds of a step; two neighbours can become one.
pub trait Merge: Copy {
    /// This one, and the `later` one after it.
    fn merged(self, later: Self) -> Self;
}

/// A number, and what it was in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// The last.
    pub last: u64,
}

impl Merge for Reading {
    fn merged(self, later: Reading) -> Reading {
        Reading { min: self.min.min(later.min), max: self.max.max(later.max), last: later.last }
    }
}

impl Merge for u64 {
    fn merged(self, later: u64) -> u64 {
        later
    }
}

/// One arena of the C library's allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arena {
    /// Bytes that it has from the system.
    pub system: u64,
    /// Bytes of it that the program does not use.
    pub free: u64,
}

impl Merge for Arena {
    fn merged(self, later: Arena) -> Arena {
        later
    }
}

/// A function of time that stays as it is until it changes.
#[derive(Clone, Debug)]
pub struct Steps<V> {
    /// Each with the time of its last value.
    points: Vec<(Nanos, V)>,
    most: usize,
    /// How many values a full point stands for.
    stride: u32,
    /// How many the last point stands for.
    in_last: u32,
}

impl<V: Merge> Steps<V> {
    /// Of nothing known; `most` points are kept.
    pub fn new(most: usize) -> Steps<V> {
        Steps { points: Vec::new(), most: most.max(2), stride: 1, in_last: 1 }
    }

    /// From `time` on it is `value`.
    pub fn push(&mut self, time: Nanos, value: V) {
        if let Some((last, merged)) = self.points.last_mut().filter(|_| self.in_last < self.stride) {
            (*last, *merged) = (time.max(*last), merged.merged(value));
            self.in_last += 1;
            return;
        }
        if self.points.len() >= self.most {
            self.points = self.points.chunks(2).filter_map(merge_pair).collect();
            self.stride = self.stride.saturating_mul(2);
        }
        let time = self.points.last().map_or(time, |(last, _)| time.max(*last));
        self.points.push((time, value));
        self.in_last = 1;
    }

    /// What it was at an instant, where it was known by then.
    pub fn at(&self, time: Nanos) -> Option<V> {
        let after = self.points.partition_point(|(at, _)| *at <= time);
        self.points.get(after.checked_sub(1)?).map(|(_, value)| *value)
    }

    /// As [`at`](Self::at); before the first value, that one.
    pub fn at_or_first(&self, time: Nanos) -> Option<V> {
        self.at(time).or_else(|| self.points.first().map(|(_, value)| *value))
    }

    /// Between which two of its values an instant lies: the first one's time, and the second.
    pub fn around(&self, time: Nanos) -> Option<(Nanos, Nanos, V)> {
        let after = self.points.partition_point(|(at, _)| *at <= time);
        let (since, _) = self.points.get(after.checked_sub(1)?)?;
        self.points.get(after).map(|(next, value)| (*since, *next, *value))
    }

    /// Every step, in order of time.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Nanos, V)> {
        self.points.iter().copied()
    }

    /// Whether nothing was ever known.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

fn merge_pair<V: Merge>(pair: &[(Nanos, V)]) -> Option<(Nanos, V)> {
    match pair {
        [(_, first), (time, second)] => Some((*time, first.merged(*second))),
        [one] => Some(*one),
        _ => None,
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    series: BTreeMap<Vital, Steps<Reading>>,
    arenas: BTreeMap<u32, Steps<Arena>>,
}

impl Vitals {
    /// Some vitals were read; the others are as they were.
    pub fn note(&mut self, time: Nanos, values: &[(Vital, u64)]) {
        for &(vital, value) in values {
            let series = self.series.entry(vital).or_insert_with(|| Steps::new(MOST));
            series.push(time, Reading { min: value, max: value, last: value });
        }
    }

    /// An arena has changed.
    pub fn note_arena(&mut self, time: Nanos, arena: u32, system: u64, free: u64) {
        if self.arenas.len() < MOST_ARENAS || self.arenas.contains_key(&arena) {
            let series = self.arenas.entry(arena).or_insert_with(|| Steps::new(MOST_OF_ARENA));
            series.push(time, Arena { system, free });
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// A vital over time, where it was ever read.
    pub fn series(&self, vital: Vital) -> Option<&Steps<Reading>> {
        self.series.get(&vital)
    }

    /// A vital at an instant; before it was first read, its first value.
    pub fn at(&self, vital: Vital, time: Nanos) -> Option<u64> {
        self.series(vital)?.at_or_first(time).map(|reading| reading.last)
    }

    /// The largest value that a vital has had between two instants, what it was at the first of them included.
    pub fn most(&self, vital: Vital, from: Nanos, to: Nanos) -> Option<u64> {
        let within = self.series(vital)?.iter().filter(|(time, _)| (from..=to).contains(time));
        within.map(|(_, reading)| reading.max).max().max(self.at(vital, from))
    }

    /// Anonymous, file and shared memory in RAM, and swap, at an instant.
    pub fn resident(&self, time: Nanos) -> Option<u64> {
        let anonymous = self.at(Vital::RssAnon, time)?;
        let others = [Vital::RssFile, Vital::RssShmem, Vital::Swap];
        Some(others.iter().filter_map(|vital| self.at(*vital, time)).fold(anonymous, u64::saturating_add))
    }

    /// Every instant at which the resident set was read.
    pub fn resident_times(&self) -> impl Iterator<Item = Nanos> {
        self.series(Vital::RssAnon).into_iter().flat_map(|series| series.iter().map(|(time, _)| time))
    }

    /// The arenas at an instant, by number.
    pub fn arenas(&self, time: Nanos) -> Vec<(u32, Arena)> {
        self.arenas.iter().filter_map(|(number, steps)| Some((*number, steps.at(time)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_stated_is_as_before() {
        let mut vitals = Vitals::default();
        vitals.note(Nanos(10), &[(Vital::RssAnon, 100), (Vital::RssFile, 7)]);
        vitals.note(Nanos(20), &[(Vital::RssAnon, 300)]);
        vitals.note(Nanos(30), &[(Vital::RssAnon, 200), (Vital::Swap, 5)]);
        assert_eq!(vitals.at(Vital::RssFile, Nanos(25)), Some(7));
        assert_eq!(vitals.at(Vital::RssAnon, Nanos(29)), Some(300));
        assert_eq!(vitals.at(Vital::RssAnon, Nanos(5)), Some(100));
        assert_eq!(vitals.at(Vital::Uss, Nanos(25)), None);
        assert_eq!(vitals.resident(Nanos(30)), Some(212));
        assert_eq!(vitals.most(Vital::RssAnon, Nanos(25), Nanos(40)), Some(300));
        vitals.note_arena(Nanos(20), 3, 64, 32);
        assert_eq!(vitals.arenas(Nanos(19)), []);
        assert_eq!(vitals.arenas(Nanos(21)), [(3, Arena { system: 64, free: 32 })]);
    }

    proptest! {
        #[test]
        fn a_long_series_keeps_its_extremes_and_its_end(values in prop::collection::vec(any::<u64>(), 1..400), most in 2..20usize) {
            let mut steps = Steps::new(most);
            for (at, value) in values.iter().enumerate() {
                steps.push(Nanos(at as u64), Reading { min: *value, max: *value, last: *value });
            }
            prop_assert!(steps.iter().len() <= most);
            prop_assert_eq!(steps.iter().map(|(_, r)| r.min).min(), values.iter().copied().min());
            prop_assert_eq!(steps.iter().map(|(_, r)| r.max).max(), values.iter().copied().max());
            let end = steps.at(Nanos(values.len() as u64)).map(|reading| reading.last);
            prop_assert_eq!(end, values.last().copied());
        }
    }
}
