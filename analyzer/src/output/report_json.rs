//! `report --json`, version 1: fields may be added, never changed.
//!
//! The parts add up to `growth_bytes`, which is `rss_growth_bytes` and the inherited pages that became the process's own.
//! What was not measured is null.

use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::compare::Comparison;
use crate::growth::GrownStack;
use crate::output::json::{Ends, Stack, StackFrame, VERSION, ends, frames, integer};
use crate::output::rows_json::ChosenJson;
use crate::shape::Kind;
use crate::story::{Change, Holders, Story, mark_near, per_mark};
use crate::survey::Survey;
use crate::symbols::Names;
use crate::verdict::Parts;
use prof::Nanos;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// `report --json`.
#[derive(Serialize, Debug)]
pub struct Report<'a> {
    version: u32,
    span: Span,
    complete_to_s: f64,
    ended: Option<&'a str>,
    segment: Option<Segment>,
    verdict: Verdict<'a>,
    rss_growth_bytes: Option<i64>,
    growth_bytes: Option<i64>,
    parts: Option<PartBytes<'a>>,
    parts_ci95: Option<BTreeMap<&'static str, (i64, i64)>>,
    live_bytes: LiveBytes,
    live_slope_bytes_per_s: f64,
    live_slope_ci95: [f64; 2],
    peak: PeakInstant,
    allocated_bytes: i64,
    allocated_ci95: Ends,
    allocated_count: i64,
    allocated_count_ci95: Ends,
    retained_bytes: i64,
    retained_ci95: Ends,
    net_bytes: i64,
    net_ci95: Ends,
    #[serde(flatten)]
    chosen: ChosenJson<'a>,
    growth: Stacks<'a>,
    peak_stacks: Vec<Weight<'a>>,
    threads: Threads<'a>,
    mapped_by: Vec<Holder<'a>>,
    cgroup: Option<Cgroup>,
    lost_events: u64,
    warnings: &'a [String],
}

#[derive(Serialize, Debug)]
struct Span {
    from_s: f64,
    to_s: f64,
    /// Whether it ends where the process began to exit.
    before_exit: bool,
}

/// Where the file is not the first of its process.
#[derive(Serialize, Debug)]
struct Segment {
    number: u64,
    from_s: f64,
    file_before: String,
    allocated_before_bytes: i64,
    allocated_before_ci95: Ends,
    allocated_before_count: i64,
    allocated_before_count_ci95: Ends,
}

#[derive(Serialize, Debug)]
struct Verdict<'a> {
    class: &'static str,
    text: String,
    advice: &'a [String],
    /// Where the growth since a later instant decided: that instant, and the parts since then.
    since_s: Option<f64>,
    parts_since: Option<PartBytes<'a>>,
    rss_slope_bytes_per_s: Option<f64>,
    rss_slope_ci95: Option<[f64; 2]>,
}

/// Each part by name.
#[derive(Debug)]
struct PartBytes<'a>(&'a Parts);

#[derive(Serialize, Debug)]
struct LiveBytes {
    from: i64,
    from_ci95: Ends,
    to: i64,
    to_ci95: Ends,
}

#[derive(Serialize, Debug)]
struct PeakInstant {
    at_s: f64,
    live_bytes: i64,
    live_ci95: Ends,
}

#[derive(Serialize, Debug)]
struct Threads<'a> {
    peak: Option<u64>,
    now: Option<u64>,
    created_by: Vec<Holder<'a>>,
}

#[derive(Serialize, Debug)]
struct Cgroup {
    limit_bytes: u64,
    used_bytes: u64,
    reached_in_s: Option<f64>,
    reached_in_s_ci95: Option<[f64; 2]>,
    oom_kills: u64,
}

#[derive(Serialize)]
struct Holder<'a> {
    count: i64,
    bytes: i64,
    now_count: u64,
    now_bytes: u64,
    acquired: u64,
    frames: Vec<StackFrame<'a>>,
}

impl std::fmt::Debug for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} bytes in {}", self.bytes, self.count)
    }
}

#[derive(Serialize)]
struct Weight<'a> {
    live_bytes: i64,
    live_ci95: Ends,
    frames: Vec<StackFrame<'a>>,
}

impl std::fmt::Debug for Weight<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} bytes", self.live_bytes)
    }
}

/// Written one by one: with all their frames they are larger than anything else in memory.
#[derive(Debug)]
struct Stacks<'a> {
    story: &'a Story,
    survey: &'a Survey,
}

#[derive(Serialize)]
struct ShapedStack<'a> {
    #[serde(flatten)]
    stack: Stack<'a>,
    shape: Option<&'static str>,
    slope_bytes_per_s: Option<f64>,
    slope_ci95: Option<[f64; 2]>,
    slope_since_s: Option<f64>,
    r2: Option<f64>,
    bytes_per_mark: Option<f64>,
    bytes_per_mark_ci95: Option<[f64; 2]>,
    lasting_bytes: Option<i64>,
    lasting_ci95: Option<Ends>,
    period_s: Option<f64>,
    period_ci95: Option<[f64; 2]>,
    amplitude_bytes: Option<i64>,
    amplitude_ci95: Option<Ends>,
    step_bytes: Option<i64>,
    step_ci95: Option<Ends>,
    step_at_s: Option<f64>,
    step_mark: Option<String>,
}

impl<'a> Report<'a> {
    /// What stands in it; of the peak and of holders as many stacks as `top`.
    pub fn new(story: &'a Story, survey: &'a Survey, chosen: &'a Chosen, top: usize) -> Report<'a> {
        let comparison = &story.comparison;
        let Comparison { before, after, growth, allocated, .. } = comparison;
        let finding = &story.finding;
        let recent = finding.recent.as_ref();
        let slope = finding.memory.as_ref().map(|memory| memory.fit);
        let (low, high) = story.heap.shape.fit.ci95();
        let holders = |of: &'a Holders| holders(&of.tree, &of.names, &of.stacks, top);
        let peak_stacks = story.peak.iter().flat_map(|peak| {
            let stacks = peak.stacks.iter().take(top);
            stacks.map(|(node, bytes)| Weight {
                live_bytes: integer(bytes.value),
                live_ci95: ends(*bytes),
                frames: frames(&peak.tree, *node, &peak.names),
            })
        });
        Report {
            version: VERSION,
            span: Span { from_s: before.at.0, to_s: after.at.0, before_exit: story.after.is_before_exit() },
            complete_to_s: survey.seconds(survey.end()),
            ended: survey.ended.as_deref(),
            segment: survey.segment.as_ref().map(|segment| {
                let allocated = segment.allocated(survey);
                Segment {
                    number: segment.number,
                    from_s: survey.seconds(segment.time),
                    file_before: segment.path.display().to_string(),
                    allocated_before_bytes: integer(allocated.bytes.value),
                    allocated_before_ci95: ends(allocated.bytes),
                    allocated_before_count: integer(allocated.blocks.value),
                    allocated_before_count_ci95: ends(allocated.blocks),
                }
            }),
            verdict: Verdict {
                class: finding.class.text(),
                text: story.verdict.join(" "),
                advice: &story.advice,
                since_s: recent.map(|parts| survey.seconds(parts.from)),
                parts_since: recent.map(PartBytes),
                rss_slope_bytes_per_s: slope.map(|fit| fit.slope),
                rss_slope_ci95: slope.map(|fit| fit.ci95().into()),
            },
            rss_growth_bytes: finding.whole.as_ref().map(|parts| parts.rss_growth),
            growth_bytes: finding.whole.as_ref().map(|parts| parts.growth),
            parts: finding.whole.as_ref().map(PartBytes),
            parts_ci95: finding
                .whole
                .as_ref()
                .map(|parts| parts.all.iter().map(|part| (part.name.text(), part.ci95)).collect()),
            live_bytes: LiveBytes {
                from: integer(before.live.value),
                from_ci95: ends(before.live),
                to: integer(after.live.value),
                to_ci95: ends(after.live),
            },
            live_slope_bytes_per_s: story.heap.shape.fit.slope,
            live_slope_ci95: [low, high],
            peak: PeakInstant {
                at_s: survey.seconds(comparison.peak.time),
                live_bytes: integer(comparison.peak.bytes.value),
                live_ci95: ends(comparison.peak.bytes),
            },
            allocated_bytes: integer(allocated.bytes.value),
            allocated_ci95: ends(allocated.bytes),
            allocated_count: integer(allocated.blocks.value),
            allocated_count_ci95: ends(allocated.blocks),
            retained_bytes: integer(growth.retained.bytes.value),
            retained_ci95: ends(growth.retained.estimated_bytes()),
            net_bytes: integer(growth.net.value),
            net_ci95: ends(growth.net),
            chosen: ChosenJson::new(chosen, &comparison.tree, &story.names),
            growth: Stacks { story, survey },
            peak_stacks: peak_stacks.collect(),
            threads: Threads {
                peak: finding.threads.map(|(most, _)| most),
                now: finding.threads.map(|(_, now)| now),
                created_by: holders(&story.threads),
            },
            mapped_by: holders(&story.mappings),
            cgroup: finding.limit.map(|limit| Cgroup {
                limit_bytes: limit.bytes,
                used_bytes: limit.used,
                reached_in_s: limit.reached_in.map(|(seconds, _)| seconds),
                reached_in_s_ci95: limit.reached_in.map(|(_, (low, high))| [low, high]),
                oom_kills: limit.oom_kills,
            }),
            lost_events: comparison.lost_events,
            warnings: &comparison.warnings,
        }
    }
}

fn holders<'a>(
    tree: &'a CallTree<Change>,
    names: &'a Names,
    stacks: &'a [(NodeHandle, Change)],
    top: usize,
) -> Vec<Holder<'a>> {
    let holder = |(node, change): &'a (NodeHandle, Change)| Holder {
        count: change.count(),
        bytes: change.bytes(),
        now_count: change.after.count(),
        now_bytes: change.after.bytes,
        acquired: change.after.acquired,
        frames: frames(tree, *node, names),
    };
    stacks.iter().take(top).map(holder).collect()
}

impl Serialize for PartBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.all.len() + 1))?;
        for part in &self.0.all {
            map.serialize_entry(part.name.text(), &part.bytes)?;
        }
        let unknown: Vec<&str> =
            self.0.all.iter().filter(|part| !part.is_known).map(|part| part.name.text()).collect();
        map.serialize_entry("not_measured", &unknown)?;
        map.end()
    }
}

impl Serialize for Stacks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.story.comparison.growth.stacks.iter().map(|stack| self.shaped(stack)))
    }
}

impl<'a> Stacks<'a> {
    fn shaped(&self, stack: &'a GrownStack) -> ShapedStack<'a> {
        let Stacks { story, survey } = *self;
        let shape = story.stacks.get(&stack.node).map(|development| development.shape);
        let start = story.grid.time(0);
        let at = |seconds: f64| Nanos(start.0.saturating_add((seconds * 1e9) as u64));
        let kind = shape.map(|shape| shape.kind);
        let (step, height) = match kind {
            Some(Kind::Step { at: seconds, height }) => (Some(at(seconds)), Some(height)),
            _ => (None, None),
        };
        let saw = match kind {
            Some(Kind::Sawtooth { period, amplitude }) => Some((period, amplitude)),
            _ => None,
        };
        let mark = shape.and_then(|shape| per_mark(survey, &story.grid, &shape));
        ShapedStack {
            stack: Stack::new(&story.comparison.tree, stack, &story.names),
            shape: kind.filter(|kind| *kind != Kind::Unclear).map(Kind::text),
            slope_bytes_per_s: shape.map(|shape| shape.fit.slope),
            slope_ci95: shape.map(|shape| shape.fit.ci95().into()),
            slope_since_s: shape.map(|shape| survey.seconds(at(shape.since))),
            r2: shape.map(|shape| shape.fit.r2),
            bytes_per_mark: mark.map(|bytes| bytes.value),
            bytes_per_mark_ci95: mark.map(|bytes| bytes.ci95.into()),
            lasting_bytes: shape.map(|shape| integer(shape.lasting.value)),
            lasting_ci95: shape.map(|shape| ends(shape.lasting)),
            period_s: saw.map(|(period, _)| period.value),
            period_ci95: saw.map(|(period, _)| period.ci95.into()),
            amplitude_bytes: saw.map(|(_, amplitude)| integer(amplitude.value)),
            amplitude_ci95: saw.map(|(_, amplitude)| ends(amplitude)),
            step_bytes: height.map(|height| integer(height.value)),
            step_ci95: height.map(ends),
            step_at_s: step.map(|at| survey.seconds(at)),
            step_mark: step.and_then(|at| mark_near(survey, &story.grid, at)),
        }
    }
}
