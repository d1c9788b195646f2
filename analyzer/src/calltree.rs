//! The tree of calls by symbol: stacks of different threads, modules maps and processes meet here.

use crate::stacks::{SiteHandle, Stack, Stacks};
use crate::symbols::{Frame, SiteFrames, SymbolHandle, Symbols};
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::ops::AddAssign;
use std::sync::Arc;

/// A node of the tree; as a stack, the path from it outwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeHandle(u32);

impl NodeHandle {
    /// Its place among all nodes.
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// Parent of the outermost frames.
const ROOT: u32 = 0;

#[derive(Clone, Debug)]
struct Node {
    /// Always smaller than the node's own number.
    parent: u32,
    /// `None` for the root only. File and line are those of the first stack that came this way.
    frame: Option<Frame>,
}

/// What stacks that end in a node amount to.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry<V> {
    /// Their sum.
    pub value: V,
    /// Their thread's name, where it is the same for all.
    pub thread: Option<Arc<str>>,
}

/// Where stacks of one file end.
#[derive(Default)]
struct Ends {
    /// Those that were asked for.
    of_stacks: FxHashMap<Stack, NodeHandle>,
    /// Those and their callers' stacks.
    by_stack: FxHashMap<Stack, u32>,
    /// Of the present stack, what is new.
    path: Vec<(Stack, SiteHandle)>,
}

/// Stacks merged by symbol, each with a value.
#[derive(Clone, Debug)]
pub struct CallTree<V> {
    /// What the nodes' symbols mean.
    pub symbols: Symbols,
    nodes: Vec<Node>,
    by_content: FxHashMap<(u32, SymbolHandle), u32>,
    entries: FxHashMap<u32, Entry<V>>,
}

impl<V: Copy + AddAssign> CallTree<V> {
    /// A tree without stacks.
    pub fn new() -> CallTree<V> {
        CallTree {
            symbols: Symbols::default(),
            nodes: vec![Node { parent: ROOT, frame: None }],
            by_content: FxHashMap::default(),
            entries: FxHashMap::default(),
        }
    }

    /// Adds the stacks of one file, the largest first: where merged stacks differ in lines, the first one's stay. Returns
    /// where each of them ends.
    pub fn add(
        &mut self,
        stacks: &Stacks,
        frames: &SiteFrames,
        rows: impl IntoIterator<Item = (Stack, Option<Arc<str>>, V)>,
    ) -> FxHashMap<Stack, NodeHandle> {
        let mut ends = Ends::default();
        for (stack, thread, value) in rows {
            let at = self.end(stacks, frames, stack, &mut ends);
            match self.entries.get_mut(&at) {
                Some(entry) => {
                    entry.value += value;
                    if entry.thread != thread {
                        entry.thread = None;
                    }
                }
                None => {
                    self.entries.insert(at, Entry { value, thread });
                }
            }
        }
        ends.of_stacks
    }

    /// Where the stacks of one file end, which need not have a value.
    pub fn places(
        &mut self,
        stacks: &Stacks,
        frames: &SiteFrames,
        all: impl IntoIterator<Item = Stack>,
    ) -> FxHashMap<Stack, NodeHandle> {
        let mut ends = Ends::default();
        for stack in all {
            self.end(stacks, frames, stack, &mut ends);
        }
        ends.of_stacks
    }

    /// Where a stack ends.
    fn end(&mut self, stacks: &Stacks, frames: &SiteFrames, stack: Stack, ends: &mut Ends) -> u32 {
        ends.path.clear();
        let mut at = ROOT;
        for (node, site) in stacks.path(stack) {
            if let Some(known) = ends.by_stack.get(&node) {
                at = *known;
                break;
            }
            ends.path.push((node, site));
        }
        for (node, site) in ends.path.iter().rev() {
            at = frames.get(*site).iter().rev().fold(at, |parent, frame| self.node(parent, frame));
            ends.by_stack.insert(*node, at);
        }
        ends.of_stacks.insert(stack, NodeHandle(at));
        at
    }

    fn node(&mut self, parent: u32, frame: &Frame) -> u32 {
        let next = self.nodes.len() as u32;
        let at = *self.by_content.entry((parent, frame.symbol)).or_insert(next);
        if at == next {
            self.nodes.push(Node { parent, frame: Some(frame.clone()) });
        }
        at
    }
}

impl<V: Copy + AddAssign> Default for CallTree<V> {
    fn default() -> Self {
        CallTree::new()
    }
}

impl<V> CallTree<V> {
    /// The stacks that have a value, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = (NodeHandle, &Entry<V>)> {
        self.entries.iter().map(|(at, entry)| (NodeHandle(*at), entry))
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, node: NodeHandle) -> impl Iterator<Item = &Frame> {
        self.path(node).map(|(_, frame)| frame)
    }

    /// The stack and its callers' stacks, each with its leaf frame: leaf first.
    pub fn path(&self, node: NodeHandle) -> impl Iterator<Item = (NodeHandle, &Frame)> {
        let mut at = node.0;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            let handle = NodeHandle(std::mem::replace(&mut at, node.parent));
            Some((handle, node.frame.as_ref()?))
        })
    }

    /// Something about each node, by its number: from what is so of its parent, and its own frame.
    pub fn descend<T: Copy>(&self, root: T, mut step: impl FnMut(T, &Frame) -> T) -> Vec<T> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let parent = all.get(node.parent as usize).copied().unwrap_or(root);
            all.push(node.frame.as_ref().map_or(root, |frame| step(parent, frame)));
        }
        all
    }

    /// Takes away the values of the other stacks.
    pub fn retain(&mut self, keep: impl Fn(NodeHandle) -> bool) {
        self.entries.retain(|at, _| keep(NodeHandle(*at)));
    }

    /// By the names of their frames, leaf first.
    pub fn compare(&self, a: NodeHandle, b: NodeHandle) -> Ordering {
        let symbols = |node| self.frames(node).map(|frame| self.symbols.get(frame.symbol));
        symbols(a).cmp(symbols(b))
    }

    /// The tree of what `value` says of each stack, without the branches that are too thin to see: below `least`
    /// of the whole they are gathered in one branch of their parent.
    pub fn prune(&self, least: f64, value: impl Fn(&V) -> f64) -> Pruned {
        let mut totals = vec![0.0; self.nodes.len()];
        for (at, entry) in &self.entries {
            if let Some(total) = totals.get_mut(*at as usize) {
                *total += value(&entry.value);
            }
        }
        let own = totals.clone();
        for at in (1..self.nodes.len()).rev() {
            let (Some(node), Some(total)) = (self.nodes.get(at), totals.get(at).copied()) else { continue };
            if let Some(parent) = totals.get_mut(node.parent as usize) {
                *parent += total;
            }
        }
        let whole = totals.first().copied().unwrap_or(0.0);
        // Parents come before their children: a cut branch's nodes find their parent cut.
        let mut kept = vec![false; self.nodes.len()];
        let mut branches = Vec::new();
        let mut others = FxHashMap::<u32, f64>::default();
        for (at, (node, total)) in self.nodes.iter().zip(&totals).enumerate() {
            let parent_kept = at == 0 || kept.get(node.parent as usize).copied().unwrap_or(false);
            if !parent_kept || *total <= 0.0 {
                continue;
            }
            if at > 0 && *total < whole * least {
                *others.entry(node.parent).or_default() += total;
                continue;
            }
            kept[at] = true;
            let own = own.get(at).copied().unwrap_or(0.0);
            if own > 0.0 {
                branches.push(Branch { node: NodeHandle(at as u32), is_other: false, value: own });
            }
        }
        branches.extend(others.into_iter().map(|(at, value)| Branch {
            node: NodeHandle(at),
            is_other: true,
            value,
        }));
        Pruned { whole, branches }
    }
}

/// What is left after pruning.
#[derive(Clone, PartialEq, Debug)]
pub struct Pruned {
    /// The sum of all branches.
    pub whole: f64,
    /// In no particular order.
    pub branches: Vec<Branch>,
}

/// One stack of a pruned tree.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Branch {
    /// Where it ends.
    pub node: NodeHandle,
    /// Whether it stands for the thin stacks above `node`.
    pub is_other: bool,
    /// What it amounts to, others not included.
    pub value: f64,
}
