//! JSON, version 1: fields may be added, never changed.
//!
//! Bytes are integers, times seconds from the start of the process. `name` is in the style that was chosen,
//! `module` a file name; `thread` is a thread's name, or null where the stack was reached in threads of several.

use crate::calltree::CallTree;
use crate::compare::{Comparison, Side};
use crate::growth::GrownStack;
use crate::profile::Survey;
use crate::rows::Cells;
use crate::symbols::{Frame, Names};
use serde::{Serialize, Serializer};

const VERSION: u32 = 1;

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
    stacks: Stacks<'a>,
}

/// `report --json`.
#[derive(Serialize, Debug)]
pub struct Report<'a> {
    version: u32,
    span: Span,
    complete_to_s: f64,
    ended: Option<&'a str>,
    segment: Option<Segment>,
    live_bytes: LiveBytes,
    peak: PeakInstant,
    allocated_bytes: i64,
    allocated_count: i64,
    retained_bytes: i64,
    net_bytes: i64,
    growth: Stacks<'a>,
    lost_events: u64,
    warnings: &'a [String],
}

#[derive(Serialize, Debug)]
struct Instant {
    file: String,
    at_s: f64,
    live_bytes: i64,
}

#[derive(Serialize, Debug)]
struct PeakInstant {
    at_s: f64,
    live_bytes: i64,
}

#[derive(Serialize, Debug)]
struct Span {
    from_s: f64,
    to_s: f64,
}

/// Where the file is not the first of its process.
#[derive(Serialize, Debug)]
struct Segment {
    number: u64,
    from_s: f64,
    file_before: String,
    allocated_before_bytes: i64,
    allocated_before_count: i64,
}

#[derive(Serialize, Debug)]
struct LiveBytes {
    from: i64,
    to: i64,
}

/// Written one by one: with all their frames they are larger than anything else in memory.
#[derive(Debug)]
struct Stacks<'a> {
    tree: &'a CallTree<Cells>,
    names: &'a Names,
    stacks: &'a [GrownStack],
}

#[derive(Serialize)]
struct Stack<'a> {
    retained_bytes: i64,
    retained_count: i64,
    net_bytes: i64,
    ci95: [i64; 2],
    frames: Vec<StackFrame<'a>>,
    thread: Option<&'a str>,
}

#[derive(Serialize)]
struct StackFrame<'a> {
    name: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    module: Option<&'a str>,
}

impl<'a> Diff<'a> {
    /// What stands in it.
    pub fn new(comparison: &'a Comparison, names: &'a Names) -> Diff<'a> {
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
            stacks: stacks(comparison, names),
        }
    }
}

impl<'a> Report<'a> {
    /// What stands in it; the survey is of the file with the second instant.
    pub fn new(comparison: &'a Comparison, survey: &'a Survey, names: &'a Names) -> Report<'a> {
        let (before, after) = (&comparison.before, &comparison.after);
        Report {
            version: VERSION,
            span: Span { from_s: before.at.0, to_s: after.at.0 },
            complete_to_s: survey.seconds(survey.end()),
            ended: survey.ended.as_deref(),
            segment: survey.segment.as_ref().map(|segment| Segment {
                number: segment.number,
                from_s: survey.seconds(segment.time),
                file_before: segment.path.display().to_string(),
                allocated_before_bytes: integer(segment.allocated.bytes),
                allocated_before_count: integer(segment.allocated.blocks),
            }),
            live_bytes: LiveBytes { from: integer(before.live_bytes), to: integer(after.live_bytes) },
            peak: PeakInstant {
                at_s: survey.seconds(comparison.peak.time),
                live_bytes: integer(comparison.peak.bytes),
            },
            allocated_bytes: integer(comparison.allocated.bytes),
            allocated_count: integer(comparison.allocated.blocks),
            retained_bytes: integer(comparison.growth.retained.bytes),
            net_bytes: integer(after.live_bytes) - integer(before.live_bytes),
            growth: stacks(comparison, names),
            lost_events: comparison.lost_events,
            warnings: &comparison.warnings,
        }
    }
}

fn instant(side: &Side) -> Instant {
    Instant { file: side.path.display().to_string(), at_s: side.at.0, live_bytes: integer(side.live_bytes) }
}

fn stacks<'a>(comparison: &'a Comparison, names: &'a Names) -> Stacks<'a> {
    Stacks { tree: &comparison.tree, names, stacks: &comparison.growth.stacks }
}

fn integer(value: f64) -> i64 {
    value.round() as i64
}

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.stacks.iter().map(|stack| {
            let (low, high) = stack.retained.ci95;
            Stack {
                retained_bytes: integer(stack.retained.bytes),
                retained_count: integer(stack.retained.count),
                net_bytes: integer(stack.net_bytes),
                ci95: [integer(low), integer(high)],
                frames: self.tree.frames(stack.node).map(|frame| self.frame(frame)).collect(),
                thread: stack.thread.as_deref(),
            }
        }))
    }
}

impl<'a> Stacks<'a> {
    fn frame(&self, frame: &'a Frame) -> StackFrame<'a> {
        let module = self.tree.symbols.get(frame.symbol).map(|symbol| &*symbol.module);
        StackFrame {
            name: self.names.get(frame.symbol),
            file: frame.file.as_deref(),
            line: frame.line,
            module,
        }
    }
}
