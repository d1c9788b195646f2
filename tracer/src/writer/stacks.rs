//! The stack tree of a sampled stream: each node is written once.

use prof::{Generation, NodeId, Record, RecordWriter};
use rustc_hash::{FxHashMap, FxHashSet};

/// What has been defined, and what is yet to be written.
#[derive(Default)]
pub struct Stacks {
    /// For the present generation only: addresses mean something else in another.
    nodes: FxHashMap<(NodeId, u64), NodeId>,
    /// Of earlier generations: what another file may have to begin with.
    earlier: Vec<Node>,
    /// How many of these were left when last those without a live sample were forgotten.
    used: usize,
    generation: u32,
    count: u32,
    unwritten: Vec<Definition>,
}

/// A node as it was defined.
#[derive(Clone, Copy)]
struct Node {
    id: NodeId,
    parent: NodeId,
    address: u64,
    generation: u32,
}

enum Definition {
    Generation(Generation),
    Node { parent: NodeId, address: u64 },
}

impl Stacks {
    /// The node of a stack, outermost frame first.
    pub fn intern(&mut self, generation: u32, stack: &[u64]) -> NodeId {
        self.enter(generation);
        stack.iter().fold(NodeId::ROOT, |parent, &address| self.node(parent, address))
    }

    fn enter(&mut self, generation: u32) {
        if generation != self.generation {
            let of = self.generation;
            let node = |((parent, address), id)| Node { id, parent, address, generation: of };
            self.earlier.extend(self.nodes.drain().map(node));
            self.generation = generation;
            self.unwritten.push(Definition::Generation(Generation(generation)));
        }
    }

    fn node(&mut self, parent: NodeId, address: u64) -> NodeId {
        *self.nodes.entry((parent, address)).or_insert_with(|| {
            self.count += 1;
            self.unwritten.push(Definition::Node { parent, address });
            NodeId(self.count)
        })
    }

    /// Forgets the nodes of earlier generations that no live sample has, once there are many.
    pub fn forget_unused<I: Iterator<Item = NodeId>>(&mut self, live: impl FnOnce() -> I) {
        const FEW: usize = 4096;
        if self.earlier.len() > FEW + 2 * self.used {
            keep(&mut self.earlier, live());
            self.earlier.shrink_to_fit();
            self.used = self.earlier.len();
        }
    }

    /// Where a file begins: only the stacks of live samples are left, and are to be written. What their nodes are called
    /// now.
    pub fn rewrite(&mut self, live: impl Iterator<Item = NodeId>) -> FxHashMap<NodeId, NodeId> {
        // The present generation's nodes join the earlier ones.
        self.enter(u32::MAX);
        let Stacks { mut earlier, .. } = std::mem::take(self);
        keep(&mut earlier, live);
        let mut anew = FxHashMap::from_iter([(NodeId::ROOT, NodeId::ROOT)]);
        for Node { id, parent, address, generation } in earlier {
            self.enter(generation);
            if let Some(&parent) = anew.get(&parent) {
                anew.insert(id, self.node(parent, address));
            }
        }
        anew
    }

    /// Appends what is new. Now and then `spill` may take what there is.
    pub fn push(&mut self, records: &mut RecordWriter, mut spill: impl FnMut(&mut RecordWriter)) {
        for definition in self.unwritten.drain(..) {
            spill(records);
            records.push(&match definition {
                Definition::Generation(generation) => Record::Generation(generation),
                Definition::Node { parent, address } => Record::Node { parent, address },
            });
        }
    }
}

/// Keeps the nodes of the stacks that end in `live`, in the order of their numbers; a caller's is smaller than its callee's.
fn keep(nodes: &mut Vec<Node>, live: impl Iterator<Item = NodeId>) {
    nodes.sort_unstable_by_key(|node| node.id);
    let mut used: FxHashSet<NodeId> = live.collect();
    for node in nodes.iter().rev() {
        if used.contains(&node.id) {
            used.insert(node.parent);
        }
    }
    nodes.retain(|node| used.contains(&node.id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_generations_are_kept_as_far_as_they_live() {
        let mut stacks = Stacks::default();
        let mut last = NodeId::ROOT;
        for generation in 0..5000 {
            last = stacks.intern(generation, &[1, 2, 3]);
            stacks.forget_unused(|| [NodeId(2), last].into_iter());
            assert!(stacks.earlier.len() < 4200, "{}", stacks.earlier.len());
        }
        let anew = stacks.rewrite([NodeId(2), last].into_iter());
        assert_eq!((anew[&NodeId(2)], anew[&last], stacks.count), (NodeId(2), NodeId(5), 5));
    }

    #[test]
    fn defines_each_node_once_a_generation() {
        let mut stacks = Stacks::default();
        let a = stacks.intern(0, &[1, 2, 3]);
        assert_eq!(stacks.intern(0, &[1, 2, 3]), a);
        assert_eq!(stacks.intern(0, &[1, 2]), NodeId(2));
        assert_eq!(stacks.intern(0, &[1, 2, 4]), NodeId(4));
        assert_eq!(stacks.intern(1, &[1]), NodeId(5));
        let mut records = RecordWriter::new(prof::Nanos(0));
        stacks.push(&mut records, |_| {});
        let kinds: Vec<_> =
            prof::Records::new(prof::Nanos(0), records.payload()).map(Result::unwrap).collect();
        assert_eq!(kinds.len(), 6);
        assert_eq!(kinds[3], Record::Node { parent: NodeId(2), address: 4 });
        assert_eq!(kinds[4], Record::Generation(Generation(1)));
    }
}
