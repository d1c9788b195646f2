//! Stacks in groups, and of each group its level over time and what is live at the end, by birth.

use crate::estimate::Sum;
use crate::shape::fit::{Level, Sampling};
use crate::shape::scan::{Cell, History, Scan};
use crate::shape::survival::LifeTable;
use crate::stacks::Stack;
use std::cmp::Ordering;

/// What is known of one group.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Live bytes at each scan.
    pub level: Level,
    /// What sampling leaves uncertain of it: the variance at each scan.
    pub variances: Vec<f64>,
    /// What is live at the end by cohort; the first was born before the span.
    pub ends: Vec<Sum>,
    /// Recorded blocks that are live at the end and were born in the span.
    pub samples: u64,
    /// How long its blocks live, in strides.
    pub life: LifeTable,
}

/// The part of growth that is expected to stay.
#[derive(Clone, Debug, Default)]
pub struct Lasting {
    /// All of it.
    pub bytes: Sum,
    /// By cohort of birth.
    pub by_cohort: Vec<f64>,
}

/// The groups' stacks.
#[derive(Clone, Debug)]
pub struct Groups {
    /// By stack: the group, counted from 1; 0 for none.
    of_stack: Vec<u32>,
    count: usize,
}

impl Groups {
    /// So many groups without stacks.
    pub fn new(count: usize) -> Groups {
        Groups { of_stack: Vec::new(), count }
    }

    /// One group of all stacks.
    pub fn all() -> Groups {
        Groups { of_stack: Vec::new(), count: 0 }
    }

    /// Puts a stack into a group.
    pub fn put(&mut self, stack: Stack, group: usize) {
        if self.of_stack.len() <= stack.number() {
            self.of_stack.resize(stack.number() + 1, 0);
        }
        if let Some(place) = self.of_stack.get_mut(stack.number()) {
            *place = group as u32 + 1;
        }
    }

    /// The group of a stack, by its number.
    fn of(&self, stack: usize) -> Option<usize> {
        if self.count == 0 {
            return Some(0);
        }
        (self.of_stack.get(stack).copied().unwrap_or(0) as usize).checked_sub(1)
    }

    /// How many there are.
    fn len(&self) -> usize {
        self.count.max(1)
    }
}

/// A cell of two neighbouring scans: what was live at the first, and what of it at the second.
type Pair<'a> = (Option<&'a Cell>, Option<&'a Cell>);

/// The cells of two scans, side by side.
fn pairs<'a>(first: &'a Scan, second: &'a Scan) -> impl Iterator<Item = Pair<'a>> {
    let (mut firsts, mut seconds) = (first.cells.iter().peekable(), second.cells.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (firsts.peek(), seconds.peek()) {
            (Some(a), Some(b)) => a.key().cmp(&b.key()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        Some(match order {
            Ordering::Less => (firsts.next(), None),
            Ordering::Greater => (None, seconds.next()),
            Ordering::Equal => (firsts.next(), seconds.next()),
        })
    })
}

impl History {
    /// The scans, and between which of them the distance is one stride.
    fn neighbours(&self) -> impl Iterator<Item = (&Scan, &Scan)> {
        self.scans.iter().zip(self.scans.iter().skip(1))
    }

    /// Seconds from the span's start to a step.
    pub fn seconds(&self, step: usize) -> f64 {
        let from = self.grid.time(0);
        prof::Nanos(self.grid.time(step).0.saturating_sub(from.0)).seconds()
    }

    /// The series of each group.
    pub fn series(&self, groups: &Groups) -> Vec<Series> {
        let times: Vec<f64> = self.scans.iter().map(|scan| self.seconds(scan.step)).collect();
        let blank = Series {
            level: Level { times, values: vec![0.0; self.scans.len()] },
            variances: vec![0.0; self.scans.len()],
            ends: vec![Sum::default(); self.grid.steps() + 2],
            ..Series::default()
        };
        let mut all = vec![blank; groups.len()];
        for (at, scan) in self.scans.iter().enumerate() {
            for cell in scan.cells.iter() {
                let Some(series) = groups.of(cell.stack()).and_then(|group| all.get_mut(group)) else {
                    continue;
                };
                series.level.values.iter_mut().skip(at).take(1).for_each(|value| *value += cell.bytes);
                let variance = f64::from(cell.variance);
                series.variances.iter_mut().skip(at).take(1).for_each(|sum| *sum += variance);
            }
        }
        for (first, second) in self.neighbours() {
            self.note_deaths(first, second, groups, &mut all);
        }
        self.note_end(groups, &mut all);
        all
    }

    fn note_deaths(&self, first: &Scan, second: &Scan, groups: &Groups, all: &mut [Series]) {
        let is_even = second.step - first.step == self.stride;
        for (before, after) in pairs(first, second) {
            let Some(before) = before.filter(|before| is_even && before.cohort() > 0) else { continue };
            let Some(series) = groups.of(before.stack()).and_then(|group| all.get_mut(group)) else {
                continue;
            };
            let age = first.step.saturating_sub(before.cohort()) / self.stride;
            let left = after.map_or(0.0, |after| after.bytes);
            series.life.add(age, before.bytes, before.samples, before.bytes - left);
        }
    }

    fn note_end(&self, groups: &Groups, all: &mut [Series]) {
        let Some(last) = self.scans.last() else { return };
        for cell in last.cells.iter() {
            let Some(series) = groups.of(cell.stack()).and_then(|group| all.get_mut(group)) else { continue };
            if let Some(sum) = series.ends.get_mut(cell.cohort()) {
                sum.value += cell.bytes;
                sum.variance += f64::from(cell.variance);
            }
            if cell.cohort() > 0 {
                series.samples += u64::from(cell.samples);
            }
        }
    }

    /// What stays of the growth: of what was born in the span and is live at its end, the part that will not die at the
    /// ages that were observed.
    pub fn lasting(&self, series: &Series) -> Lasting {
        let last = self.grid.steps();
        let staying = series.life.staying();
        let mut lasting = Lasting { by_cohort: vec![0.0; series.ends.len()], ..Lasting::default() };
        let mut common = 0.0;
        for (cohort, (end, by_cohort)) in series.ends.iter().zip(&mut lasting.by_cohort).enumerate().skip(1) {
            let age = last.saturating_sub(cohort) / self.stride;
            let Some(staying) = staying.get(age).or(staying.last()) else { continue };
            *by_cohort = end.value * staying.share;
            lasting.bytes.value += *by_cohort;
            lasting.bytes.variance += end.variance * staying.share.powi(2);
            common += *by_cohort * staying.log_deviation;
        }
        // The life table's error is common to all cohorts.
        lasting.bytes.variance += common * common;
        lasting
    }

    /// What sampling leaves uncertain of each group's slope: a block counts with the sum of the weights of the instants at
    /// which it was live. `weights` are of the scans, by group.
    pub fn sampling(&self, groups: &Groups, weights: &[Vec<f64>]) -> Vec<Sampling> {
        let sums: Vec<Vec<f64>> = weights.iter().map(|weights| running(weights)).collect();
        let mut all = vec![Sampling::default(); groups.len()];
        // The first scan at which a block of a cohort can be live.
        let first_of: Vec<usize> = (0..self.grid.steps() + 2)
            .map(|cohort| self.scans.partition_point(|scan| scan.step < cohort))
            .collect();
        let mut add = |cell: &Cell, died: f64, end: usize| {
            let group = groups.of(cell.stack())?;
            let sums = sums.get(group)?;
            let weight = sums.get(end)? - sums.get(*first_of.get(cell.cohort())?)?;
            let sampling = all.get_mut(group)?;
            sampling.variance += died.max(0.0) * weight * weight;
            // The weight of a block, which is the root of its variance, until the instants are known.
            sampling.unseen =
                sampling.unseen.max((f64::from(cell.variance) / f64::from(cell.samples.max(1))).sqrt());
            Some(())
        };
        for (at, (first, second)) in self.neighbours().enumerate() {
            for (before, after) in pairs(first, second) {
                let Some(before) = before else { continue };
                let left = after.map_or(0.0, |after| f64::from(after.variance));
                add(before, f64::from(before.variance) - left, at + 1);
            }
        }
        let last = self.scans.last().into_iter().flat_map(|scan| scan.cells.iter());
        for cell in last {
            add(cell, f64::from(cell.variance), self.scans.len());
        }
        for (sampling, sums) in all.iter_mut().zip(&sums) {
            sampling.unseen *= largest_rise(sums);
        }
        all
    }
}

/// From a sum to the largest one after it.
fn largest_rise(sums: &[f64]) -> f64 {
    let mut low = f64::MAX;
    sums.iter().fold(0.0, |most: f64, sum| {
        low = low.min(*sum);
        most.max(sum - low)
    })
}

/// Sums of the values before each place, and of all.
fn running(values: &[f64]) -> Vec<f64> {
    let sums = values.iter().scan(0.0, |sum, value| {
        *sum += value;
        Some(*sum)
    });
    std::iter::once(0.0).chain(sums).collect()
}
