//! A span of one process in full: what grew, in which shape, where; and the verdict.

use crate::calltree::{CallTree, NodeHandle};
use crate::compare::{Comparison, Detail, Error, compare_in_detail};
use crate::estimate::{Estimated, Sum};
use crate::held::{Held, Holdings};
use crate::input::Input;
use crate::names::Style;
use crate::output::top;
use crate::shape::series::Groups;
use crate::shape::{Development, Grid, History, Kind, Shape};
use crate::stacks::Stack;
use crate::survey::Survey;
use crate::symbolize::Progress;
use crate::symbols::{Lookup, Names};
use crate::verdict::decide::LiveSince;
use crate::verdict::parts::LiveGrowth;
use crate::verdict::words::{self, Figures, Step, Subject};
use crate::verdict::{Class, Evidence, Finding, find};
use crate::weigh::{Value, Weighed, weigh};
use prof::Nanos;
use prof::record::Resource;
use rustc_hash::FxHashMap;
use std::ops::AddAssign;

/// Stacks whose development is looked at: those with the most retained growth.
pub(crate) const MOST_STACKS: usize = 1000;

/// Everything that is said of a span.
#[derive(Debug)]
pub struct Story {
    /// What grew.
    pub comparison: Comparison,
    /// Names of the comparison's tree.
    pub names: Names,
    /// The span.
    pub grid: Grid,
    /// How the stacks develop that grew most.
    pub stacks: FxHashMap<NodeHandle, Development>,
    /// How the live heap develops.
    pub heap: Development,
    /// What was found.
    pub finding: Finding,
    /// In plain words.
    pub verdict: Vec<String>,
    /// What to do.
    pub advice: Vec<String>,
    /// The stacks that created threads.
    pub threads: Holders,
    /// The stacks that mapped memory.
    pub mappings: Holders,
    /// Where the allocator holds memory: what was live when most was.
    pub peak: Option<Standing>,
    /// The span's end.
    pub after: Input,
}

/// What a stack held of a resource at both instants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// At the first.
    pub before: Held,
    /// At the second.
    pub after: Held,
}

impl AddAssign for Change {
    fn add_assign(&mut self, other: Change) {
        self.before += other.before;
        self.after += other.after;
    }
}

impl Change {
    /// How many more are held.
    pub fn count(&self) -> i64 {
        self.after.count() as i64 - self.before.count() as i64
    }

    /// How many more bytes are held.
    pub fn bytes(&self) -> i64 {
        self.after.bytes as i64 - self.before.bytes as i64
    }
}

/// Stacks with what they hold; the largest first.
#[derive(Clone, Debug)]
pub struct Holders {
    /// The stacks.
    pub tree: CallTree<Change>,
    /// Names of the tree.
    pub names: Names,
    /// Each stack of the tree, the one that acquired most in the span first.
    pub stacks: Vec<(NodeHandle, Change)>,
}

/// Stacks that were live at an instant; the largest first.
#[derive(Debug)]
pub struct Standing {
    /// The stacks with their bytes.
    pub tree: CallTree<Sum>,
    /// Names of the tree.
    pub names: Names,
    /// Each stack of the tree.
    pub stacks: Vec<(NodeHandle, Sum)>,
    /// When.
    pub at: Nanos,
    /// Bytes of all stacks.
    pub bytes: Sum,
    /// Those of stacks whose blocks are large in the mean.
    pub large: Sum,
}

/// Runs the whole line for a span of one file.
///
/// # Errors
/// Where the file cannot be read any more, or the instants are in the wrong order.
pub fn tell(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    style: Style,
    mut progress: impl FnMut(Progress),
) -> Result<Story, Error> {
    let (comparison, detail) = compare_in_detail(before, after, lookup, &mut progress)?;
    let names = comparison.tree.symbols.display(style);
    let Detail { after, history, nodes, stacks: all_stacks, held } = detail;
    let shown: Vec<NodeHandle> =
        comparison.growth.stacks.iter().take(MOST_STACKS).map(|stack| stack.node).collect();
    let stacks = develop(&history, &nodes, &shown);
    let heap = history.develop(&Groups::all()).pop().unwrap_or_else(nothing);
    let survey = &after.survey;
    let growing = stacks.values().filter(|stack| stack.shape.grows());
    let growing = growing.fold(0.0, |sum, stack| sum + stack.shape.lasting.value);
    let live = HeapGrowth { history: &history, heap: &heap };
    let finding = find(&Evidence { survey, grid: &history.grid, heap: &heap, growing, live: &live });
    let holders = |resource| holders(resource, &held, &all_stacks, lookup, style);
    let (threads, mappings) = (holders(Resource::Thread), holders(Resource::Mapping));
    let peak = match finding.class {
        Class::AllocatorRetention => {
            let at = comparison.peak.time;
            let weighed = weigh(&after.at_instant(at), Value::Live, lookup, &mut progress)?;
            Some(Standing::of(weighed, style))
        }
        _ => None,
    };
    let steady = comparison.growth.stacks.iter().filter_map(|stack| {
        let development = stacks.get(&stack.node).filter(|development| development.shape.grows())?;
        Some((stack.node, development.shape))
    });
    let most = steady.max_by(|a, b| a.1.lasting.value.total_cmp(&b.1.lasting.value).then(b.0.cmp(&a.0)));
    let grower = most.map(|(node, shape)| Subject {
        name: name_of(&comparison.tree, node, &names),
        bytes: shape.lasting.into(),
        count: 0,
        slope: Some(shape.fit.estimated()),
        per_mark: per_mark(survey, &history.grid, &shape),
    });
    let figures = Figures {
        finding: &finding,
        survey,
        heap: &heap,
        end: after.at,
        last: if after.is_before_exit() { "F@exit" } else { "F" },
        grower,
        creator: threads.first(),
        mapper: mappings.first(),
        step: match heap.shape.kind {
            Kind::Step { at, height } => Some(Step::of(survey, &history.grid, at, height)),
            _ => None,
        },
        peak: peak.as_ref().map(|peak| (peak.bytes, peak.large)),
    };
    let (verdict, advice) = (words::verdict(&figures), words::advice(&figures));
    let grid = history.grid;
    Ok(Story {
        comparison,
        names,
        grid,
        stacks,
        heap,
        finding,
        verdict,
        advice,
        threads,
        mappings,
        peak,
        after,
    })
}

/// How the stacks that end in some nodes develop.
pub(crate) fn develop(
    history: &History,
    nodes: &FxHashMap<Stack, NodeHandle>,
    shown: &[NodeHandle],
) -> FxHashMap<NodeHandle, Development> {
    let places: FxHashMap<NodeHandle, usize> =
        shown.iter().enumerate().map(|(at, node)| (*node, at)).collect();
    if places.is_empty() {
        return FxHashMap::default();
    }
    let mut groups = Groups::new(shown.len());
    for (stack, node) in nodes {
        if let Some(at) = places.get(node) {
            groups.put(*stack, *at);
        }
    }
    shown.iter().copied().zip(history.develop(&groups)).collect()
}

fn nothing() -> Development {
    let shape = Shape { kind: Kind::Churn, fit: Default::default(), since: 0.0, lasting: Sum::default() };
    Development { level: Default::default(), shape }
}

/// The mark that an instant goes with: the last one before it, within a sixteenth of the span, since what a mark announces
/// takes its time; else the next one after it, within two steps of the grid.
pub fn mark_near(survey: &Survey, grid: &Grid, at: Nanos) -> Option<String> {
    let step = grid.step_seconds();
    let earliest = at.0.saturating_sub((step * grid.steps() as f64 / 16.0 * 1e9) as u64);
    let latest = at.0.saturating_add((2.0 * step * 1e9) as u64);
    let within = |from, to| survey.marks.iter().filter(move |(_, time)| (from..=to).contains(&time.0));
    let before = within(earliest, at.0).max_by_key(|(_, time)| *time);
    let mark = before.or_else(|| within(at.0, latest).min_by_key(|(_, time)| *time));
    mark.map(|(name, _)| name.clone())
}

/// Growth per mark since the slope is what it is, where there are some marks in that time.
pub fn per_mark(survey: &Survey, grid: &Grid, shape: &Shape) -> Option<Estimated> {
    let (from, to) = (grid.time(0), grid.time(grid.steps()));
    let since = Nanos(from.0 + (shape.since * 1e9) as u64);
    let mut times: Vec<Nanos> = survey.marks.iter().map(|(_, time)| *time).collect();
    times.retain(|time| (since..=to).contains(time));
    times.sort_unstable();
    let (first, last) = (times.first()?, times.last()?);
    let slope = shape.fit.estimated();
    (times.len() >= 3 && last > first)
        .then(|| slope.times(Nanos(last.0 - first.0).seconds() / (times.len() - 1) as f64))
}

/// The function and its nearest callers.
fn name_of<V>(tree: &CallTree<V>, node: NodeHandle, names: &Names) -> String {
    let top = top::of_stack(tree, node, names);
    top.iter().take(3).copied().collect::<Vec<_>>().join(" < ")
}

impl Step {
    fn of(survey: &Survey, grid: &Grid, at: f64, height: Estimated) -> Step {
        let at = Nanos(grid.time(0).0.saturating_add((at * 1e9) as u64));
        Step { at, height, mark: mark_near(survey, grid, at) }
    }
}

#[derive(Debug)]
struct HeapGrowth<'a> {
    history: &'a History,
    heap: &'a Development,
}

impl LiveSince for HeapGrowth<'_> {
    fn since(&self, from: Nanos) -> LiveGrowth {
        let scans = &self.history.scans;
        let at = scans.partition_point(|scan| self.history.grid.time(scan.step) <= from).saturating_sub(1);
        let level = &self.heap.level.values;
        let (Some(start), Some(end)) = (level.get(at), level.last()) else { return LiveGrowth::default() };
        // What was live at both instants has no part in the difference.
        let mut weights = vec![0.0; scans.len()];
        weights.iter_mut().skip(at).take(1).for_each(|weight| *weight -= 1.0);
        weights.last_mut().into_iter().for_each(|weight| *weight += 1.0);
        let sampling = self.history.sampling(&Groups::all(), &[weights]);
        LiveGrowth { bytes: end - start, variance: sampling.first().copied().unwrap_or_default().variance }
    }
}

/// What the stacks acquired in the span.
fn holders(
    resource: Resource,
    held: &[Holdings; 2],
    stacks: &crate::stacks::Stacks,
    lookup: &Lookup,
    style: Style,
) -> Holders {
    let [before, after] = held;
    let of_resource = after.iter().filter(|((other, _), _)| *other == resource);
    let mut rows: Vec<(Stack, Change)> = of_resource
        .map(|(key, held)| {
            (key.1, Change { before: before.get(key).copied().unwrap_or_default(), after: *held })
        })
        .collect();
    rows.sort_by_key(|(stack, change)| (std::cmp::Reverse(change.bytes()), *stack));
    let mut tree = CallTree::new();
    let lookup = Lookup { addresses: true, ..lookup.clone() };
    let frames = tree.symbols.frames(stacks, rows.iter().map(|(stack, _)| *stack), &lookup, |_| {});
    tree.add(stacks, &frames, rows.into_iter().map(|(stack, change)| (stack, None, change)));
    let names = tree.symbols.display(style);
    let mut stacks: Vec<_> = tree.entries().map(|(node, entry)| (node, entry.value)).collect();
    stacks.sort_by(|(a, x), (b, y)| {
        y.bytes().cmp(&x.bytes()).then(y.count().cmp(&x.count())).then_with(|| tree.compare(*a, *b))
    });
    Holders { tree, names, stacks }
}

impl Holders {
    /// The stack that acquired most.
    fn first(&self) -> Option<Subject> {
        let (node, change) = self.stacks.first().filter(|(_, change)| change.after.count() > 0)?;
        Some(Subject {
            name: name_of(&self.tree, *node, &self.names),
            bytes: Estimated::exact(change.after.bytes as f64),
            count: change.after.count(),
            slope: None,
            per_mark: None,
        })
    }
}

impl Standing {
    fn of(Weighed { tree, bytes, large, at, .. }: Weighed, style: Style) -> Standing {
        let names = tree.symbols.display(style);
        let mut stacks: Vec<_> = tree.entries().map(|(node, entry)| (node, entry.value)).collect();
        stacks.sort_by(|(a, x), (b, y)| y.value.total_cmp(&x.value).then_with(|| tree.compare(*a, *b)));
        Standing { tree, names, stacks, at, bytes, large }
    }
}
