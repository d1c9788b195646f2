//! JSON, version 1: fields may be added, never changed.
//!
//! An interval of 95 % stands beside each figure that is an estimate: `ci95` of what is retained, `NAME_ci95` of others; its ends
//! are equal where the figure is exact. Bytes are integers, times seconds from the start of the process. `name` is in the style that was chosen,
//! `module` a file name; `thread` is a thread's name, or null where the stack was reached in threads of several.

use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::compare::{Comparison, Side};
use crate::estimate::Estimated;
use crate::growth::{GrownStack, Growth};
use crate::output::rows_json::ChosenJson;
use crate::rows::Cells;
use crate::symbols::{Frame, Names};
use serde::{Serialize, Serializer};

pub(super) const VERSION: u32 = 1;

/// `diff --json`.
#[derive(Serialize, Debug)]
pub struct Diff<'a> {
    version: u32,
    meaning: &'static str,
    before: Instant,
    after: Instant,
    retained_bytes: i64,
    retained_count: i64,
    ci95: Ends,
    count_ci95: Ends,
    net_bytes: i64,
    net_ci95: Ends,
    lost_events: u64,
    warnings: &'a [String],
    #[serde(flatten)]
    chosen: ChosenJson<'a>,
    stacks: Stacks<'a>,
}

#[derive(Serialize, Debug)]
struct Instant {
    file: String,
    at_s: f64,
    live_bytes: i64,
    live_ci95: Ends,
}

/// Written one by one: with all their frames they are larger than anything else in memory.
#[derive(Debug)]
struct Stacks<'a> {
    tree: &'a CallTree<Cells>,
    names: &'a Names,
    stacks: &'a [GrownStack],
}

/// A stack that grew.
#[derive(Serialize)]
pub(super) struct Stack<'a> {
    retained_bytes: i64,
    retained_count: i64,
    net_bytes: i64,
    ci95: Ends,
    count_ci95: Ends,
    net_ci95: Ends,
    frames: Vec<StackFrame<'a>>,
    thread: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct StackFrame<'a> {
    name: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    module: Option<&'a str>,
}

impl<'a> Diff<'a> {
    /// What stands in it.
    pub fn new(comparison: &'a Comparison, names: &'a Names, chosen: &'a Chosen) -> Diff<'a> {
        let Growth { retained, net, .. } = &comparison.growth;
        Diff {
            version: VERSION,
            meaning: comparison.growth.meaning.text(),
            before: instant(&comparison.before),
            after: instant(&comparison.after),
            retained_bytes: integer(retained.bytes.value),
            retained_count: integer(retained.blocks.value),
            ci95: ends(retained.estimated_bytes()),
            count_ci95: ends(retained.estimated_blocks()),
            net_bytes: integer(net.value),
            net_ci95: ends(*net),
            lost_events: comparison.lost_events,
            warnings: &comparison.warnings,
            chosen: ChosenJson::new(chosen, &comparison.tree, names),
            stacks: stacks(comparison, names),
        }
    }
}

fn instant(side: &Side) -> Instant {
    Instant {
        file: side.path.display().to_string(),
        at_s: side.at.0,
        live_bytes: integer(side.live.value),
        live_ci95: ends(side.live),
    }
}

fn stacks<'a>(comparison: &'a Comparison, names: &'a Names) -> Stacks<'a> {
    Stacks { tree: &comparison.tree, names, stacks: &comparison.growth.stacks }
}

pub(super) fn integer(value: f64) -> i64 {
    value.round() as i64
}

/// Both ends of a 95 % interval of bytes or blocks.
pub(super) type Ends = [i64; 2];

pub(super) fn ends(of: impl Into<Estimated>) -> Ends {
    let (low, high) = of.into().ci95;
    [integer(low), integer(high)]
}

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.stacks.iter().map(|stack| Stack::new(self.tree, stack, self.names)))
    }
}

impl<'a> Stack<'a> {
    /// What is said of it.
    pub(super) fn new<V>(tree: &'a CallTree<V>, stack: &'a GrownStack, names: &'a Names) -> Stack<'a> {
        let retained = &stack.retained;
        Stack {
            retained_bytes: integer(retained.bytes.value),
            retained_count: integer(retained.blocks.value),
            net_bytes: integer(stack.net.value),
            ci95: ends(retained.estimated_bytes()),
            count_ci95: ends(retained.estimated_blocks()),
            net_ci95: ends(stack.net),
            frames: frames(tree, stack.node, names),
            thread: stack.thread.as_deref(),
        }
    }
}

/// The frames of a stack, leaf first.
pub(super) fn frames<'a, V>(
    tree: &'a CallTree<V>,
    node: NodeHandle,
    names: &'a Names,
) -> Vec<StackFrame<'a>> {
    let frame = |frame: &'a Frame| StackFrame {
        name: names.get(frame.symbol),
        file: frame.file.as_deref(),
        line: frame.line,
        module: tree.symbols.get(frame.symbol).map(|symbol| &*symbol.module),
    };
    tree.frames(node).map(frame).collect()
}
