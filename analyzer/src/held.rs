//! What stacks hold beside blocks: threads, and memory that the program mapped itself.

use crate::stacks::Stack;
use prof::Nanos;
use prof::record::Resource;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// What one stack has acquired of a resource since tracing began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// How many.
    pub acquired: u64,
    /// How many of them have been released.
    pub released: u64,
    /// Bytes of those that have not.
    pub bytes: u64,
}

impl Held {
    /// How many are held.
    pub fn count(&self) -> u64 {
        self.acquired.saturating_sub(self.released)
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Held) {
        self.acquired = self.acquired.saturating_add(other.acquired);
        self.released = self.released.saturating_add(other.released);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// By resource and stack, at an instant.
pub type Holdings = BTreeMap<(Resource, Stack), Held>;

/// Follows the records of a file.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    holdings: Holdings,
    /// Of the present round, in the order of the file.
    pending: Vec<(Nanos, (Resource, Stack), Held)>,
}

impl Holder {
    /// Takes a record in.
    pub(crate) fn note(&mut self, time: Nanos, resource: Resource, stack: Stack, held: Held) {
        self.pending.push((time, (resource, stack), held));
    }

    /// What was held at an instant of the present round.
    pub(crate) fn at(&self, time: Nanos) -> Holdings {
        let mut holdings = self.holdings.clone();
        let known = self.pending.iter().filter(|(at, ..)| *at <= time);
        holdings.extend(known.map(|(_, key, held)| (*key, *held)));
        holdings
    }

    /// The round has ended.
    pub(crate) fn end_round(&mut self) {
        self.holdings.extend(self.pending.drain(..).map(|(_, key, held)| (key, held)));
    }
}
