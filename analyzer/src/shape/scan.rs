//! The live set at the instants of a grid, by stack and time of birth.
//!
//! A scan visits every live block, so their number is limited by the number of changes: where the live set is too large
//! for the number of changes, or too many scans would be kept, every second one is left out, and later ones are taken at
//! twice the distance. What is known of them is then coarser, and still evenly spaced.

use crate::shape::Grid;
use crate::shape::tally::Tally;
use crate::stacks::Stack;
use crate::survey::Recording;
use std::sync::Arc;

/// Entries that are kept, of all scans together; each takes 24 bytes.
const MOST_CELLS: usize = 1_500_000;

/// Visits of blocks that are always allowed.
const FREE_VISITS: u64 = 1 << 20;

/// What is live of one stack and one step of birth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    /// The stack's number, and below it 16 bits of cohort: cells are in this order.
    key: u64,
    /// Estimated bytes.
    pub bytes: f64,
    /// Estimated variance of `bytes`.
    pub variance: f32,
    /// Recorded blocks.
    pub samples: u32,
}

impl Cell {
    /// A cell's key.
    #[inline]
    pub fn key_of(stack: Stack, cohort: u16) -> u64 {
        (stack.number() as u64) << 16 | u64::from(cohort)
    }

    /// Of the key that [`key_of`](Self::key_of) made.
    pub fn new(key: u64, bytes: f64, variance: f64, samples: u32) -> Cell {
        Cell { key, bytes, variance: variance as f32, samples }
    }

    /// What cells are sorted by.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The number of its stack.
    pub fn stack(&self) -> usize {
        (self.key >> 16) as usize
    }

    /// After how many of the grid's instants its blocks were born.
    pub fn cohort(&self) -> usize {
        (self.key & 0xffff) as usize
    }
}

/// The live set at one instant of the grid.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Which instant.
    pub step: usize,
    /// In the order of their keys. Shared with the scan before, where nothing changed in between.
    pub cells: Arc<Vec<Cell>>,
}

/// The scans of a span, evenly spaced but for the last, which is of its end.
#[derive(Clone, Debug)]
pub struct History {
    /// The span.
    pub grid: Grid,
    /// Steps between two scans.
    pub stride: usize,
    /// In order of time.
    pub scans: Vec<Scan>,
}

impl History {
    /// Of an instant, and nothing at it.
    pub fn empty(at: prof::Nanos) -> History {
        History { grid: Grid::new(at, at), stride: 1, scans: Vec::new() }
    }
}

/// Takes scans while a file is replayed.
#[derive(Debug)]
pub struct Scanner {
    history: History,
    tally: Tally,
    /// The next instant of the grid.
    next: usize,
    changes: u64,
    /// How many there were at the last scan.
    changes_at_scan: u64,
    visits: u64,
    /// Blocks that may be visited for each hundred changes.
    visits_per_100: u64,
}

impl Scanner {
    /// Nothing has been scanned yet.
    pub fn new(grid: Grid, recording: Recording) -> Scanner {
        // A sample stands for many allocations, and costs far more to read.
        let visits_per_100 = if recording == Recording::Every { 10 } else { 10_000 };
        let history = History { grid, stride: 1, scans: Vec::new() };
        Scanner {
            history,
            tally: Tally::default(),
            next: 0,
            changes: 0,
            changes_at_scan: 0,
            visits: 0,
            visits_per_100,
        }
    }

    /// When the live set is to be scanned next.
    pub fn next(&self) -> Option<prof::Nanos> {
        self.history.grid.times().get(self.next).copied()
    }

    /// Some changes were applied.
    pub fn count(&mut self, changes: usize) {
        self.changes += changes as u64;
    }

    /// The next instant has been reached, with so many blocks live; `cells` scans them.
    pub fn take(&mut self, live: usize, cells: impl FnOnce(&mut Tally) -> Vec<Cell>) {
        let step = self.next;
        self.next += 1;
        let is_last = self.next >= self.history.grid.times().len();
        if !is_last && !step.is_multiple_of(self.history.stride) {
            return;
        }
        if self.changes == self.changes_at_scan
            && let Some(before) = self.history.scans.last()
        {
            let cells = before.cells.clone();
            self.history.scans.push(Scan { step, cells });
            return;
        }
        let allowed = FREE_VISITS + self.changes / 100 * self.visits_per_100;
        if !is_last && self.visits + live as u64 > allowed {
            self.coarsen();
            return;
        }
        self.visits += live as u64;
        self.changes_at_scan = self.changes;
        self.history.scans.push(Scan { step, cells: Arc::new(cells(&mut self.tally)) });
        while self.cells() > MOST_CELLS && self.history.stride < self.history.grid.steps() {
            self.coarsen();
        }
    }

    /// Leaves every second scan out.
    fn coarsen(&mut self) {
        let History { stride, scans, grid } = &mut self.history;
        *stride = (*stride * 2).min(grid.steps().max(1));
        let last = grid.steps();
        scans.retain(|scan| scan.step.is_multiple_of(*stride) || scan.step == last);
    }

    fn cells(&self) -> usize {
        let mut before: Option<&Arc<Vec<Cell>>> = None;
        let mut cells = 0;
        for scan in &self.history.scans {
            if !before.is_some_and(|before| Arc::ptr_eq(before, &scan.cells)) {
                cells += scan.cells.len();
            }
            before = Some(&scan.cells);
        }
        cells
    }

    /// What was scanned.
    pub fn finish(self) -> History {
        self.history
    }
}
