//! The stack tree of a sampled stream: each node is written once.

use prof::{Generation, NodeId, Record, RecordWriter};
use rustc_hash::FxHashMap;

/// What has been defined, and what is yet to be written.
#[derive(Default)]
pub struct Stacks {
    /// For the present generation only: addresses mean something else in another.
    nodes: FxHashMap<(NodeId, u64), NodeId>,
    generation: u32,
    count: u32,
    unwritten: Vec<Definition>,
}

enum Definition {
    Generation(Generation),
    Node { parent: NodeId, address: u64 },
}

impl Stacks {
    /// The node of a stack, outermost frame first.
    pub fn intern(&mut self, generation: u32, stack: &[u64]) -> NodeId {
        if generation != self.generation {
            self.generation = generation;
            self.nodes.clear();
            self.unwritten.push(Definition::Generation(Generation(generation)));
        }
        let mut parent = NodeId::ROOT;
        for &address in stack {
            parent = *self.nodes.entry((parent, address)).or_insert_with(|| {
                self.count += 1;
                self.unwritten.push(Definition::Node { parent, address });
                NodeId(self.count)
            });
        }
        parent
    }

    /// Appends what is new.
    pub fn push(&mut self, records: &mut RecordWriter) {
        for definition in self.unwritten.drain(..) {
            records.push(&match definition {
                Definition::Generation(generation) => Record::Generation(generation),
                Definition::Node { parent, address } => Record::Node { parent, address },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defines_each_node_once_a_generation() {
        let mut stacks = Stacks::default();
        let a = stacks.intern(0, &[1, 2, 3]);
        assert_eq!(stacks.intern(0, &[1, 2, 3]), a);
        assert_eq!(stacks.intern(0, &[1, 2]), NodeId(2));
        assert_eq!(stacks.intern(0, &[1, 2, 4]), NodeId(4));
        assert_eq!(stacks.intern(1, &[1]), NodeId(5));
        let mut records = RecordWriter::new(prof::Nanos(0));
        stacks.push(&mut records);
        let kinds: Vec<_> =
            prof::Records::new(prof::Nanos(0), records.payload()).map(Result::unwrap).collect();
        assert_eq!(kinds.len(), 6);
        assert_eq!(kinds[3], Record::Node { parent: NodeId(2), address: 4 });
        assert_eq!(kinds[4], Record::Generation(Generation(1)));
    }
}
