//! Two instants, of one process or of two: from files to growth.

use crate::calltree::{CallTree, NodeHandle};
use crate::estimate::{Estimate, Sum};
use crate::growth::{Growth, Meaning};
use crate::held::Holdings;
use crate::input::Input;
use crate::instant::InstantError;
use crate::live::Peak;
use crate::replay::{Instant, Plan, Replayed, Snapshot};
use crate::rows::{Cells, cells_after, cells_before, matched_rows, rows};
use crate::shape::{Grid, History};
use crate::stacks::{Stack, Stacks};
use crate::survey::Recording;
use crate::symbolize::Progress;
use crate::symbols::Lookup;
use crate::units::Seconds;
use prof::ReadError;
use rustc_hash::FxHashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why there is no result.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read.
    Read(PathBuf, ReadError),
    /// A file does not have an instant.
    Instant(PathBuf, InstantError),
    /// Of one process, the first instant is after the second.
    Backwards(Side, Side),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Read(path, error) => write!(f, "failed to read {}: {error}", path.display()),
            Error::Instant(path, error) => {
                write!(f, "failed to find the instant in {}: {error}", path.display())
            }
            Error::Backwards(before, after) => {
                write!(f, "failed to compare: {before} is later than {after}, of one process")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether a file turned out to be less sound than its survey took it for.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Error::Read(_, ReadError::Damaged(_)))
    }
}

/// One of the two instants.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    /// The file.
    pub path: PathBuf,
    /// Since the start of the process.
    pub at: Seconds,
    /// Estimated requested bytes that are live.
    pub live: Sum,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.at)
    }
}

/// Growth between two instants, and what it rests on.
#[derive(Debug)]
pub struct Comparison {
    /// The first instant.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// What grew.
    pub growth: Growth,
    /// Where; the growth's nodes are of this tree.
    pub tree: CallTree<Cells>,
    /// Up to the second instant.
    pub peak: Peak,
    /// From the start to the second instant.
    pub allocated: Estimate,
    /// How densely allocations were recorded.
    pub recording: Recording,
    /// Events that are not in the files, up to their instants.
    pub lost_events: u64,
    /// What makes the evidence incomplete.
    pub warnings: Vec<String>,
}

/// What is known of a span beside the two instants, where one process is looked at in detail.
#[derive(Debug)]
pub struct Detail {
    /// The second instant; where the process began to exit, if that was to be found.
    pub after: Input,
    /// The live set in between.
    pub history: History,
    /// Where the stacks that changed end in the comparison's tree.
    pub nodes: FxHashMap<Stack, NodeHandle>,
    /// What the stacks of the history mean.
    pub stacks: Stacks,
    /// What stacks held beside blocks, at both instants.
    pub held: [Holdings; 2],
}

/// Two instants of one file, with what lies between them.
///
/// # Errors
/// As [`compare`].
pub fn compare_in_detail(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    mut progress: impl FnMut(Progress),
) -> Result<(Comparison, Detail), Error> {
    match matched(before, after, true, lookup, &mut progress) {
        Err(error) if error.is_damage() => {
            matched(&before.checked()?, &after.checked()?, true, lookup, progress)
        }
        result => result,
    }
}

/// Runs the whole line for two instants.
///
/// # Errors
/// Where a file cannot be read any more, or the instants of one process are in the wrong order.
pub fn compare(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    mut progress: impl FnMut(Progress),
) -> Result<Comparison, Error> {
    match compare_surveyed(before, after, lookup, &mut progress) {
        Err(error) if error.is_damage() => {
            compare_surveyed(&before.checked()?, &after.checked()?, lookup, progress)
        }
        result => result,
    }
}

fn compare_surveyed(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    progress: impl FnMut(Progress),
) -> Result<Comparison, Error> {
    if before.survey.header.run == after.survey.header.run {
        if before.at < after.survey.start() {
            return matched_across(before, after, lookup, progress);
        }
        Ok(matched(before, after, false, lookup, progress)?.0)
    } else {
        aggregated(before, after, lookup, progress)
    }
}

/// Of one process: the second file has the first one's events as well.
fn matched(
    before: &Input,
    after: &Input,
    in_detail: bool,
    lookup: &Lookup,
    progress: impl FnMut(Progress),
) -> Result<(Comparison, Detail), Error> {
    if before.at > after.at {
        return Err(Error::Backwards(before.side(Estimate::default()), after.side(Estimate::default())));
    }
    let since = before.at;
    let replay = |after: &Input| {
        after.replay(&Plan {
            instants: vec![Instant { at: since, since }, Instant { at: after.at, since }],
            grid: in_detail.then(|| Grid::new(since, after.at)),
            levels: after.levels_to_exit(),
            ..Plan::default()
        })
    };
    let mut replayed = replay(after)?;
    let moved = after.at_exit(&replayed.levels).filter(|moved| moved.at >= since);
    if let Some(moved) = &moved {
        replayed = replay(moved)?;
    }
    let after = moved.as_ref().unwrap_or(after);
    let history = replayed.history.take();
    let [first, second] = &replayed.snapshots[..] else { unreachable!("one snapshot for each instant") };
    let changed = matched_rows(first, second);
    let mut tree = CallTree::new();
    let lookup = Lookup { addresses: true, ..lookup.clone() };
    let stacks = changed.iter().map(|row| row.stack);
    let frames = tree.symbols.frames(&replayed.stacks, stacks, &lookup, progress);
    let nodes = tree.add(&replayed.stacks, &frames, changed.iter().map(|row| replayed.named(row, row.cells)));
    let mut warnings = Vec::new();
    if before.profile.path() != after.profile.path() {
        warnings.extend(damage_warning(before, None));
    }
    warnings.extend(file_warnings(after, &replayed));
    if !in_detail {
        warnings.extend(after.exit_warning(&replayed.levels));
    }
    warnings.extend(missing_warning(&tree));
    let comparison = Comparison {
        before: before.side(first.live),
        after: after.side(second.live),
        growth: Growth::of(&tree, Meaning::Matched),
        tree,
        peak: replayed.peak,
        allocated: second.allocated,
        recording: after.survey.recording(),
        lost_events: replayed.lost_events,
        warnings,
    };
    let history = history.unwrap_or_else(|| History::empty(since));
    let held = [first.held.clone(), second.held.clone()];
    Ok((comparison, Detail { after: after.clone(), history, nodes, stacks: replayed.stacks, held }))
}

/// Of one process, whose second file begins after the first instant. It begins with all that was live then, and says when
/// that was allocated: what of it is younger than the first instant is known. What was live before, the first file says.
fn matched_across(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    mut progress: impl FnMut(Progress),
) -> Result<Comparison, Error> {
    let since = before.at;
    let mut tree = CallTree::new();
    let lookup = Lookup { addresses: true, ..lookup.clone() };
    let mut add = |input: &Input, cells: fn(&_) -> Cells| {
        let mut replayed =
            input.replay(&Plan { instants: vec![Instant { at: input.at, since }], ..Plan::default() })?;
        let snapshot = replayed.snapshots.pop().unwrap_or_default();
        let rows = rows(&snapshot, cells);
        let stacks = rows.iter().map(|row| row.stack);
        let frames = tree.symbols.frames(&replayed.stacks, stacks, &lookup, &mut progress);
        tree.add(&replayed.stacks, &frames, rows.iter().map(|row| replayed.named(row, row.cells)));
        Ok((replayed, snapshot))
    };
    // The second file first: its lines are the ones to show.
    let (later, second) = add(after, cells_after)?;
    let (earlier, first) = add(before, cells_before)?;
    let mut warnings = file_warnings(before, &earlier);
    warnings.extend(file_warnings(after, &later));
    warnings.extend(missing_warning(&tree));
    let peak = if earlier.peak.bytes.value > later.peak.bytes.value { earlier.peak } else { later.peak };
    Ok(Comparison {
        before: before.side(first.live),
        after: after.side(second.live),
        growth: Growth::of(&tree, Meaning::Matched),
        tree,
        peak,
        allocated: second.allocated,
        recording: before.survey.recording().with(after.survey.recording()),
        // The second file repeats what was lost before it.
        lost_events: later.lost_events,
        warnings,
    })
}

/// Of two processes: only what has the same name is the same.
fn aggregated(
    before: &Input,
    after: &Input,
    lookup: &Lookup,
    mut progress: impl FnMut(Progress),
) -> Result<Comparison, Error> {
    let lookup = Lookup { addresses: false, ..lookup.clone() };
    let mut tree = CallTree::new();
    let mut warnings = Vec::new();
    let mut lost_events = 0u64;
    let mut last = Replayed::default();
    let mut live = [Estimate::default(); 2];
    // The second file first: its lines are the ones to show.
    let sides = [(after, cells_after as fn(&_) -> Cells), (before, cells_before)];
    for ((input, cells), live) in sides.into_iter().zip(live.iter_mut().rev()) {
        let replayed = input
            .replay(&Plan { instants: vec![Instant { at: input.at, since: input.at }], ..Plan::default() })?;
        let [snapshot] = &replayed.snapshots[..] else { unreachable!("one snapshot for each instant") };
        let rows = rows(snapshot, cells);
        let stacks = rows.iter().map(|row| row.stack);
        let frames = tree.symbols.frames(&replayed.stacks, stacks, &lookup, &mut progress);
        tree.add(&replayed.stacks, &frames, rows.iter().map(|row| replayed.named(row, row.cells)));
        *live = snapshot.live;
        lost_events = lost_events.saturating_add(replayed.lost_events);
        warnings.extend(file_warnings(input, &replayed));
        if std::ptr::eq(input, after) {
            last = replayed;
        }
    }
    warnings.extend(missing_warning(&tree));
    Ok(Comparison {
        before: before.side(live[0]),
        after: after.side(live[1]),
        growth: Growth::of(&tree, Meaning::Aggregated),
        tree,
        peak: last.peak,
        allocated: last
            .snapshots
            .first()
            .map_or(Estimate::default(), |snapshot: &Snapshot| snapshot.allocated),
        recording: before.survey.recording().with(after.survey.recording()),
        lost_events,
        warnings,
    })
}

/// What makes a file's evidence incomplete.
pub(crate) fn file_warnings(input: &Input, replayed: &Replayed) -> Vec<String> {
    let mut warnings = damage_warning(input, Some(replayed));
    warnings.extend(replayed.missing_past.clone());
    warnings.extend(input.survey.uncovered(&input.profile.path().display().to_string()));
    if !input.survey.is_complete() && !replayed.stacks.is_empty() {
        let path = input.profile.path().display();
        warnings.push(format!("{path}: the file ends before its first complete round; events are missing"));
    }
    let survey = &input.survey;
    if let Some(warning) = survey.pauses.until(input.at).warning(|time| survey.seconds(time)) {
        warnings.push(format!("{}: {warning}", input.profile.path().display()));
    }
    if replayed.replaced > 0 {
        warnings.push(format!(
            "{}: {} blocks were allocated where another was still live",
            input.profile.path().display(),
            replayed.replaced
        ));
    }
    warnings
}

fn damage_warning(input: &Input, replayed: Option<&Replayed>) -> Vec<String> {
    let damage = replayed.and_then(|replayed| replayed.damage).or(input.survey.damage);
    let path: &Path = input.profile.path();
    damage
        .map(|damage| format!("{}: {damage}; what precedes it is used", path.display()))
        .into_iter()
        .collect()
}

/// Modules whose functions have no names, in one line.
pub(crate) fn missing_warning<V>(tree: &CallTree<V>) -> Option<String> {
    let missing = &tree.symbols.missing;
    let named: Vec<String> =
        missing.iter().take(3).map(|(module, reason)| format!("{module} ({reason})")).collect();
    let more = match missing.len() - named.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let counts = format!("{} of {} modules", missing.len(), tree.symbols.modules);
    (!named.is_empty()).then(|| format!("no function names for {counts}: {}{more}", named.join(", ")))
}
