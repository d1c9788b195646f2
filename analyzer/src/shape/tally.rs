//! Sums of the live set by stack and cohort.
//!
//! One scan after another is taken in the same memory, and most of what was live at one is live at the next: cells are
//! found at the places that they had, and only those that are new have to be put in order.

use crate::estimate::Weight;
use crate::shape::scan::Cell;

/// A cell that is being summed.
#[derive(Clone, Copy, Debug)]
struct Row {
    key: u64,
    bytes: f64,
    variance: f64,
    samples: u32,
}

/// Cells by key.
#[derive(Debug, Default)]
pub struct Tally {
    rows: Vec<Row>,
    /// By hash: 0 where there is none, else the place of a row, counted from 1. A power of two, at least twice as many as rows.
    index: Vec<u32>,
    /// The key and place of every row; up to the last scan's end in order.
    order: Vec<(u64, u32)>,
    /// How many of `order` are in order.
    sorted: usize,
}

/// Places of the smallest index.
const LEAST: usize = 1 << 10;

impl Tally {
    /// Adds a block to the cell of a key.
    #[inline]
    pub fn add(&mut self, key: u64, size: u64, interval: u64) {
        let place = self.place(key);
        if let Some(row) = self.rows.get_mut(place) {
            let Weight { bytes, missed, .. } = Weight::of(size, interval);
            row.bytes += bytes;
            row.variance += bytes * bytes * missed;
            row.samples += 1;
        }
    }

    /// The place of a key's row.
    #[inline]
    fn place(&mut self, key: u64) -> usize {
        let mask = self.index.len().wrapping_sub(1);
        let mut at = hash(key) & mask;
        while let Some(&place) = self.index.get(at) {
            let Some(place) = (place as usize).checked_sub(1) else { break };
            if self.rows.get(place).is_some_and(|row| row.key == key) {
                return place;
            }
            at = (at + 1) & mask;
        }
        self.define(key)
    }

    /// Adds a row for a key that has none.
    #[cold]
    #[inline(never)]
    fn define(&mut self, key: u64) -> usize {
        let place = self.rows.len();
        self.rows.push(Row { key, bytes: 0.0, variance: 0.0, samples: 0 });
        self.order.push((key, place as u32));
        if self.index.len() < 2 * self.rows.len() {
            self.index = vec![0; (4 * self.rows.len()).next_power_of_two().max(LEAST)];
            for (place, row) in self.rows.iter().enumerate() {
                enter(&mut self.index, row.key, place);
            }
        } else {
            enter(&mut self.index, key, place);
        }
        place
    }

    /// The cells that blocks were added to, in the order of their keys; the next are summed anew.
    pub fn take(&mut self) -> Vec<Cell> {
        if self.sorted < self.order.len() {
            // Of runs that are in order already the stable sort makes use.
            self.order.sort_by_key(|(key, _)| *key);
            self.sorted = self.order.len();
        }
        let live = self.rows.iter().filter(|row| row.samples > 0).count();
        let mut cells = Vec::with_capacity(live);
        for (_, place) in &self.order {
            let Some(row) = self.rows.get_mut(*place as usize).filter(|row| row.samples > 0) else {
                continue;
            };
            cells.push(Cell::new(row.key, row.bytes, row.variance, row.samples));
            (row.bytes, row.variance, row.samples) = (0.0, 0.0, 0);
        }
        if live < self.rows.len() / 2 {
            self.forget_all_but(&cells);
        }
        cells
    }

    /// Rows of what has died are not kept for ever.
    #[cold]
    fn forget_all_but(&mut self, cells: &[Cell]) {
        self.rows.clear();
        self.order.clear();
        self.index.fill(0);
        for cell in cells {
            self.define(cell.key());
        }
        self.sorted = self.order.len();
    }
}

#[inline]
fn hash(key: u64) -> usize {
    let product = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 32) as usize
}

/// Notes where the row of a key is; it has none yet, and there is a free place.
fn enter(index: &mut [u32], key: u64, place: usize) {
    let mask = index.len().wrapping_sub(1);
    let mut at = hash(key) & mask;
    while index.get(at).is_some_and(|other| *other != 0) {
        at = (at + 1) & mask;
    }
    if let Some(free) = index.get_mut(at) {
        *free = place as u32 + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::{Stack, Stacks};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn each_scan_is_of_its_own_blocks(
            scans in prop::collection::vec(prop::collection::vec((0..40u64, 0..9u16, 0..5000u64), 0..300), 0..6)
        ) {
            const INTERVAL: u64 = 1000;
            let mut stacks = Stacks::default();
            let mut tally = Tally::default();
            for blocks in scans {
                let mut model = BTreeMap::<u64, (f64, f64, u32)>::new();
                for (address, cohort, size) in blocks {
                    let key = Cell::key_of(stacks.push(Stack::EMPTY, address, prof::Generation(0)), cohort);
                    tally.add(key, size, INTERVAL);
                    let Weight { bytes, missed, .. } = Weight::of(size, INTERVAL);
                    let (sum, variance, samples) = model.entry(key).or_default();
                    (*sum, *variance, *samples) = (*sum + bytes, *variance + bytes * bytes * missed, *samples + 1);
                }
                let expected = model.into_iter().map(|(key, (bytes, variance, samples))| {
                    Cell::new(key, bytes, variance, samples)
                });
                prop_assert_eq!(tally.take(), expected.collect::<Vec<_>>());
            }
        }
    }
}
