//! Writes what each stack holds beside blocks: threads and mappings.

use super::mappings::Mappings;
use super::stacks::Stacks;
use crate::holders::{self, HolderIndex};
use prof::record::Resource;
use prof::{NodeId, Record, RecordWriter};
use rustc_hash::{FxHashMap, FxHashSet};

/// What a stack has acquired of one resource.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// How many.
    pub acquired: u64,
    /// How many of them have been released.
    pub released: u64,
    /// Bytes of those that have not.
    pub bytes: u64,
}

impl Counts {
    fn plus(self, other: Counts) -> Counts {
        Counts {
            acquired: self.acquired + other.acquired,
            released: self.released + other.released,
            bytes: self.bytes + other.bytes,
        }
    }
}

fn threads_of(holder: HolderIndex) -> Counts {
    let threads = holders::threads(holder);
    Counts { acquired: threads.begun, released: threads.ended, bytes: threads.bytes }
}

/// What is known of the stacks.
#[derive(Default)]
pub struct Held {
    met: FxHashSet<HolderIndex>,
    by_node: FxHashMap<NodeId, usize>,
    /// In the order in which they were met.
    stacks: Vec<Known>,
    /// Address space of the stacks of all threads that have not ended.
    stack_bytes: u64,
}

struct Known {
    node: NodeId,
    /// Mostly one; stacks without frames are all the same.
    holders: Vec<HolderIndex>,
    /// What the file says.
    written: [Counts; Resource::ALL.len()],
}

impl Held {
    /// Takes in the stacks that are new. What their addresses mean is to be written after this.
    pub fn meet(&mut self, stacks: &mut Stacks) {
        // The last holder has no stack and is not counted.
        if self.met.len() == holders::count() as usize + 1 {
            return;
        }
        for (index, generation, addresses) in holders::all() {
            if self.met.insert(index) {
                let node = stacks.intern(generation, &addresses);
                let at = *self.by_node.entry(node).or_insert(self.stacks.len());
                match self.stacks.get_mut(at) {
                    Some(known) => known.holders.push(index),
                    None => {
                        self.stacks.push(Known { node, holders: vec![index], written: Default::default() })
                    }
                }
            }
        }
    }

    /// Appends what has changed.
    pub fn push(&mut self, records: &mut RecordWriter, mappings: &Mappings) {
        self.stack_bytes = 0;
        for Known { node, holders, written } in &mut self.stacks {
            let threads =
                holders.iter().map(|&index| threads_of(index)).fold(Counts::default(), Counts::plus);
            let mapped =
                holders.iter().map(|&index| mappings.of(index)).fold(Counts::default(), Counts::plus);
            self.stack_bytes += threads.bytes;
            let now = [(Resource::Thread, threads), (Resource::Mapping, mapped)];
            for ((resource, counts), written) in now.into_iter().zip(written) {
                if *written != counts {
                    *written = counts;
                    let Counts { acquired, released, bytes } = counts;
                    let (node, time) = (*node, records.time());
                    records.push(&Record::Held { resource, node, time, acquired, released, bytes });
                }
            }
        }
    }

    /// Address space of the stacks of the threads that have not ended.
    pub fn stack_bytes(&self) -> u64 {
        self.stack_bytes
    }
}
