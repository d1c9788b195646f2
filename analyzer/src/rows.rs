//! What is known of each stack and thread, from the snapshots of one file.

use crate::estimate::{Estimate, Estimated};
use crate::growth::Meaning;
use crate::live::Sums;
use crate::replay::Snapshot;
use crate::stacks::Stack;
use prof::ThreadIndex;
use std::ops::AddAssign;

/// What is known of a stack at both instants.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cells {
    /// Live at the first instant.
    pub before: Estimate,
    /// Live at the second.
    pub after: Estimate,
    /// Live at the second and allocated after the first; of one process only.
    pub retained: Estimate,
}

impl AddAssign for Cells {
    fn add_assign(&mut self, other: Cells) {
        self.before = self.before.plus(other.before);
        self.after = self.after.plus(other.after);
        self.retained = self.retained.plus(other.retained);
    }
}

impl Cells {
    /// Of one process: live at the first instant and not at the second.
    pub fn died(&self) -> Estimate {
        self.before.without(self.after.without(self.retained))
    }

    /// Bytes live at the second instant less those at the first.
    pub fn net(&self, meaning: Meaning) -> Estimated {
        let ci95 = match meaning {
            Meaning::Matched => self.retained.bytes.difference_ci95(&self.died().bytes),
            Meaning::Aggregated => self.after.bytes.difference_ci95(&self.before.bytes),
        };
        Estimated { value: self.after.bytes.value - self.before.bytes.value, ci95 }
    }
}

/// Of which instant a snapshot is, as cells.
pub fn cells_before(sums: &Sums) -> Cells {
    Cells { before: sums.live, ..Cells::default() }
}

/// As [`cells_before`], of the second instant.
pub fn cells_after(sums: &Sums) -> Cells {
    Cells { after: sums.live, retained: sums.young, ..Cells::default() }
}

/// A stack and a thread, with a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Where.
    pub stack: Stack,
    /// Who.
    pub thread: ThreadIndex,
    /// How much.
    pub cells: Cells,
}

/// The rows of one process that can show: those that changed between the instants.
pub fn matched_rows(before: &Snapshot, after: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::with_capacity(after.sums.len());
    let (mut befores, mut afters) = (before.sums.iter().peekable(), after.sums.iter().peekable());
    loop {
        let key = match (befores.peek(), afters.peek()) {
            (Some((before, _)), Some((after, _))) => *before.min(after),
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (None, None) => break,
        };
        let mut cells = Cells::default();
        let of_key = |(other, _): &&((Stack, ThreadIndex), Sums)| *other == key;
        befores.next_if(of_key).into_iter().for_each(|(_, sums)| cells += cells_before(sums));
        afters.next_if(of_key).into_iter().for_each(|(_, sums)| cells += cells_after(sums));
        if !cells.retained.is_zero() || cells.before != cells.after {
            rows.push((key, cells));
        }
    }
    sorted(rows.into_iter(), |cells| cells.retained.bytes.value)
}

/// All rows of a snapshot.
pub fn rows(snapshot: &Snapshot, cells: impl Fn(&Sums) -> Cells) -> Vec<Row> {
    sorted(snapshot.sums.iter().map(|(key, sums)| (*key, cells(sums))), |cells| {
        cells.before.bytes.value + cells.after.bytes.value
    })
}

/// The largest first: where stacks are merged later, the largest gives its lines.
fn sorted(
    rows: impl Iterator<Item = ((Stack, ThreadIndex), Cells)>,
    value: impl Fn(&Cells) -> f64,
) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.map(|((stack, thread), cells)| Row { stack, thread, cells }).collect();
    rows.sort_by(|a, b| {
        let by_value = value(&b.cells).total_cmp(&value(&a.cells));
        by_value.then((a.stack, a.thread).cmp(&(b.stack, b.thread)))
    });
    rows
}
