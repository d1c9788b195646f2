//! What grew between two instants.
//!
//! Within one process, blocks are matched: retained growth is the blocks allocated after the first instant and
//! live at the second. Between two processes only sums can be compared: the growth of a stack is what more it has
//! live, and never negative.

use crate::calltree::{CallTree, NodeHandle, Pruned};
use crate::estimate::{Estimate, Sum};
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
    pub net_bytes: f64,
}

/// An amount of growth.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Grown {
    /// Requested bytes.
    pub bytes: f64,
    /// Blocks.
    pub count: f64,
    /// 95 % interval of `bytes`.
    pub ci95: (f64, f64),
}

/// The result.
#[derive(Clone, PartialEq, Debug)]
pub struct Growth {
    /// What it means.
    pub meaning: Meaning,
    /// All of it.
    pub retained: Grown,
    /// The largest first, then by name.
    pub stacks: Vec<GrownStack>,
}

impl Meaning {
    /// Retained growth of a stack.
    pub(crate) fn grown(self, cells: &Cells) -> Grown {
        match self {
            Meaning::Matched => of_blocks(&cells.retained),
            Meaning::Aggregated => of_difference(cells),
        }
    }
}

impl Growth {
    /// The tree with retained bytes as widths; see [`CallTree::prune`].
    pub fn prune(&self, tree: &CallTree<Cells>, least: f64) -> Pruned {
        tree.prune(least, |cells| self.meaning.grown(cells).bytes)
    }

    /// Growth of every stack of a tree.
    pub fn of(tree: &CallTree<Cells>, meaning: Meaning) -> Growth {
        let mut stacks: Vec<GrownStack> = Vec::new();
        let mut all = Cells::default();
        let mut sum = Grown::default();
        let mut variance = 0.0;
        for (node, entry) in tree.entries() {
            let cells = entry.value;
            let retained = meaning.grown(&cells);
            if retained.bytes <= 0.0 && retained.count <= 0.0 {
                continue;
            }
            all += cells;
            sum.bytes += retained.bytes;
            sum.count += retained.count;
            variance += cells.before.bytes.variance + cells.after.bytes.variance;
            let net_bytes = cells.after.bytes.value - cells.before.bytes.value;
            stacks.push(GrownStack { node, thread: entry.thread.clone(), retained, net_bytes });
        }
        let retained = match meaning {
            Meaning::Matched => of_blocks(&all.retained),
            Meaning::Aggregated => Grown { ci95: around(sum.bytes, variance), ..sum },
        };
        stacks.sort_by(|a, b| {
            let by_bytes = b.retained.bytes.total_cmp(&a.retained.bytes);
            by_bytes.then_with(|| tree.compare(a.node, b.node))
        });
        Growth { meaning, retained, stacks }
    }
}

fn of_blocks(blocks: &Estimate) -> Grown {
    let Estimate { bytes, blocks } = blocks;
    Grown { bytes: bytes.value, count: blocks.value, ci95: bytes.ci95() }
}

/// max(0, live after − live before).
fn of_difference(cells: &Cells) -> Grown {
    let difference = |after: Sum, before: Sum| (after.value - before.value).max(0.0);
    let bytes = difference(cells.after.bytes, cells.before.bytes);
    if bytes == 0.0 {
        return Grown::default();
    }
    let variance = cells.after.bytes.variance + cells.before.bytes.variance;
    let count = difference(cells.after.blocks, cells.before.blocks);
    Grown { bytes, count, ci95: around(bytes, variance) }
}

/// The 95 % interval of a difference of two sums, taken as normal; growth is not negative.
fn around(bytes: f64, variance: f64) -> (f64, f64) {
    let margin = 1.96 * variance.sqrt();
    ((bytes - margin).max(0.0), bytes + margin)
}
