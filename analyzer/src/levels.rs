//! How much is live at some instants, and at most in between.

use crate::estimate::Sum;
use crate::live::Peak;
use prof::Nanos;

/// The live heap at an instant.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Level {
    /// When.
    pub at: Nanos,
    /// Estimated bytes.
    pub bytes: Sum,
    /// The most since the instant before.
    pub most: Peak,
}

/// Takes levels while a file is replayed.
#[derive(Debug, Default)]
pub(crate) struct Leveller {
    /// In ascending order.
    instants: Vec<Nanos>,
    levels: Vec<Level>,
}

impl Leveller {
    /// Of these instants, in ascending order.
    pub(crate) fn new(instants: Vec<Nanos>) -> Leveller {
        Leveller { instants, levels: Vec::new() }
    }

    /// When the live heap is to be asked for next.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.instants.get(self.levels.len()).copied()
    }

    /// The next instant has been reached. What was live before the first one is not looked at.
    pub(crate) fn take(&mut self, bytes: Sum, most: Peak) {
        let Some(at) = self.next() else { return };
        let most = if self.levels.is_empty() { Peak { time: at, bytes } } else { most };
        self.levels.push(Level { at, bytes, most });
    }

    /// What was taken.
    pub(crate) fn finish(self) -> Vec<Level> {
        self.levels
    }
}
