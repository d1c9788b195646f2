//! JSON, version 1: fields may be added, never changed.
//!
//! Bytes are integers, times seconds from the start of the process. `name` is in the style that was chosen,
//! `module` a file name; `thread` is a thread's name, or null where the stack was reached in threads of several.

use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::compare::{Comparison, Side};
use crate::growth::GrownStack;
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
    ci95: [i64; 2],
    net_bytes: i64,
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
    ci95: [i64; 2],
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
        let retained = comparison.growth.retained;
        Diff {
            version: VERSION,
            meaning: comparison.growth.meaning.text(),
            before: instant(&comparison.before),
            after: instant(&comparison.after),
            retained_bytes: integer(retained.bytes),
            retained_count: integer(retained.count),
            ci95: [integer(retained.ci95.0), integer(retained.ci95.1)],
            net_bytes: integer(comparison.after.live_bytes) - integer(comparison.before.live_bytes),
            lost_events: comparison.lost_events,
            warnings: &comparison.warnings,
            chosen: ChosenJson::new(chosen, &comparison.tree, names),
            stacks: stacks(comparison, names),
        }
    }
}

fn instant(side: &Side) -> Instant {
    Instant { file: side.path.display().to_string(), at_s: side.at.0, live_bytes: integer(side.live_bytes) }
}

fn stacks<'a>(comparison: &'a Comparison, names: &'a Names) -> Stacks<'a> {
    Stacks { tree: &comparison.tree, names, stacks: &comparison.growth.stacks }
}

pub(super) fn integer(value: f64) -> i64 {
    value.round() as i64
}

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.stacks.iter().map(|stack| Stack::new(self.tree, stack, self.names)))
    }
}

impl<'a> Stack<'a> {
    /// What is said of it.
    pub(super) fn new<V>(tree: &'a CallTree<V>, stack: &'a GrownStack, names: &'a Names) -> Stack<'a> {
        let (low, high) = stack.retained.ci95;
        Stack {
            retained_bytes: integer(stack.retained.bytes),
            retained_count: integer(stack.retained.count),
            net_bytes: integer(stack.net_bytes),
            ci95: [integer(low), integer(high)],
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
