//! What grew between two instants.
//!
//! Within one process, blocks are matched: retained growth is the blocks allocated after the first instant and
//! live at the second. Between two processes only sums can be compared: the growth of a stack is what more it has
//! live, and never negative.

use crate::calltree::{CallTree, NodeHandle, Pruned};
use crate::estimate::{Estimated, Sum, Z};
use crate::rows::Cells;
use std::sync::Arc;

/// In which of its two meanings growth is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Of one process, block by block.
    Matched,
    /// Of two processes, sum by sum.
    Aggregated,
}

impl Meaning {
    /// As JSON has it.
    pub fn text(self) -> &'static str {
        match self {
            Meaning::Matched => "matched",
            Meaning::Aggregated => "aggregated",
        }
    }
}

/// A stack that grew.
#[derive(Clone, PartialEq, Debug)]
pub struct GrownStack {
    /// In the call tree.
    pub node: NodeHandle,
    /// The thread, where all of it is from threads of one name.
    pub thread: Option<Arc<str>>,
    /// Retained growth.
    pub retained: Grown,
    /// Live bytes at the second instant minus those at the first.
    pub net: Estimated,
}

/// An amount of growth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grown {
    /// Requested bytes.
    pub bytes: Sum,
    /// Blocks.
    pub blocks: Sum,
    meaning: Meaning,
}

/// The result.
#[derive(Clone, PartialEq, Debug)]
pub struct Growth {
    /// What it means.
    pub meaning: Meaning,
    /// All of it.
    pub retained: Grown,
    /// Live bytes at the second instant minus those at the first.
    pub net: Estimated,
    /// The largest first, then by name.
    pub stacks: Vec<GrownStack>,
}

impl Grown {
    /// Of nothing.
    pub fn nothing(meaning: Meaning) -> Grown {
        Grown { bytes: Sum::default(), blocks: Sum::default(), meaning }
    }

    /// The bytes with their interval.
    pub fn estimated_bytes(&self) -> Estimated {
        self.meaning.estimated(&self.bytes)
    }

    /// The blocks with their interval.
    pub fn estimated_blocks(&self) -> Estimated {
        self.meaning.estimated(&self.blocks)
    }

    /// Of both together.
    pub fn plus(self, other: &Grown) -> Grown {
        Grown { bytes: self.bytes.plus(other.bytes), blocks: self.blocks.plus(other.blocks), ..self }
    }
}

impl Meaning {
    /// Retained growth of a stack.
    pub(crate) fn grown(self, cells: &Cells) -> Grown {
        let of = |bytes, blocks| Grown { bytes, blocks, meaning: self };
        match self {
            Meaning::Matched => of(cells.retained.bytes, cells.retained.blocks),
            Meaning::Aggregated => {
                let bytes = difference(&cells.after.bytes, &cells.before.bytes);
                match bytes.value > 0.0 {
                    true => of(bytes, difference(&cells.after.blocks, &cells.before.blocks)),
                    false => Grown::nothing(self),
                }
            }
        }
    }

    fn estimated(self, sum: &Sum) -> Estimated {
        match self {
            Meaning::Matched => Estimated::from(*sum),
            // Of a difference of two sums, taken as normal; growth is not negative.
            Meaning::Aggregated => {
                let margin = Z * sum.variance.sqrt();
                Estimated { value: sum.value, ci95: ((sum.value - margin).max(0.0), sum.value + margin) }
            }
        }
    }
}

/// max(0, after − before).
fn difference(after: &Sum, before: &Sum) -> Sum {
    let value = (after.value - before.value).max(0.0);
    Sum { value, variance: after.variance + before.variance, observed: 0.0 }
}

impl Growth {
    /// The tree with retained bytes as widths; see [`CallTree::prune`].
    pub fn prune(&self, tree: &CallTree<Cells>, least: f64) -> Pruned {
        tree.prune(least, |cells| self.meaning.grown(cells).bytes.value)
    }

    /// Growth of every stack of a tree.
    pub fn of(tree: &CallTree<Cells>, meaning: Meaning) -> Growth {
        let mut stacks: Vec<GrownStack> = Vec::new();
        let (mut all, mut sum) = (Cells::default(), Grown::nothing(meaning));
        for (node, entry) in tree.entries() {
            all += entry.value;
            let retained = meaning.grown(&entry.value);
            if retained.bytes.value <= 0.0 && retained.blocks.value <= 0.0 {
                continue;
            }
            sum = sum.plus(&retained);
            stacks.push(GrownStack {
                node,
                thread: entry.thread.clone(),
                retained,
                net: entry.value.net(meaning),
            });
        }
        stacks.sort_by(|a, b| {
            let by_bytes = b.retained.bytes.value.total_cmp(&a.retained.bytes.value);
            by_bytes.then_with(|| tree.compare(a.node, b.node))
        });
        Growth { meaning, retained: sum, net: all.net(meaning), stacks }
    }
}
