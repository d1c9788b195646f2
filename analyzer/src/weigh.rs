//! One instant: from a file to the stacks that are live, or have allocated.

use crate::calltree::CallTree;
use crate::compare::{Error, file_warnings, missing_warning};
use crate::estimate::Sum;
use crate::input::Input;
use crate::replay::{Instant, Plan, replay};
use crate::rows::{Row, cells_after, rows};
use crate::symbolize::Progress;
use crate::symbols::Lookup;
use crate::units::Seconds;
use prof::Nanos;

/// What a stack's width means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// Live at the instant.
    Live,
    /// Live when, up to the instant, most was live.
    Peak,
    /// Since the start, up to the instant.
    Allocated,
}

/// Stacks with their bytes, and what they rest on.
#[derive(Debug)]
pub struct Weighed {
    /// Bytes by stack.
    pub tree: CallTree<Sum>,
    /// Bytes of all stacks.
    pub bytes: Sum,
    /// Those of stacks whose blocks are large in the mean, of what is live.
    pub large: Sum,
    /// The instant, or the peak's.
    pub at: Nanos,
    /// Events that are not in the file, up to the instant.
    pub lost_events: u64,
    /// What makes the evidence incomplete.
    pub warnings: Vec<String>,
}

/// Blocks of this size and more are mapped one by one by glibc, as long as it has not raised the threshold.
pub const LARGE: u64 = 128 << 10;

/// Runs the whole line for one instant.
///
/// # Errors
/// Where the file cannot be read any more.
pub fn weigh(
    input: &Input,
    value: Value,
    lookup: &Lookup,
    mut progress: impl FnMut(Progress),
) -> Result<Weighed, Error> {
    match weigh_surveyed(input, value, lookup, &mut progress) {
        Err(error) if error.is_damage() => weigh_surveyed(&input.checked()?, value, lookup, progress),
        result => result,
    }
}

fn weigh_surveyed(
    input: &Input,
    value: Value,
    lookup: &Lookup,
    progress: impl FnMut(Progress),
) -> Result<Weighed, Error> {
    let failed = |error| Error::Read(input.profile.path().to_owned(), error);
    let plan = |at| Plan {
        instants: vec![Instant { at, since: at }],
        allocated_by_stack: value == Value::Allocated,
        levels: if value == Value::Live { input.levels_to_exit() } else { Vec::new() },
        ..Plan::default()
    };
    let mut at = input.at;
    if value == Value::Peak {
        at = replay(&input.profile, &input.survey, &plan(at)).map_err(failed)?.peak.time;
    }
    let replayed = replay(&input.profile, &input.survey, &plan(at)).map_err(failed)?;
    let lookup = Lookup { addresses: true, ..lookup.clone() };
    let mut tree = CallTree::new();
    let (mut bytes, mut large) = (Sum::default(), Sum::default());
    if value == Value::Allocated {
        let mut stacks: Vec<_> = replayed.allocated_by_stack.iter().collect();
        stacks.sort_by(|(a, x), (b, y)| y.value.total_cmp(&x.value).then(a.cmp(b)));
        let frames =
            tree.symbols.frames(&replayed.stacks, stacks.iter().map(|(s, _)| **s), &lookup, progress);
        stacks.iter().for_each(|(_, sum)| bytes += **sum);
        tree.add(&replayed.stacks, &frames, stacks.into_iter().map(|(stack, sum)| (*stack, None, *sum)));
    } else if let [snapshot] = &replayed.snapshots[..] {
        let rows = rows(snapshot, cells_after);
        let frames =
            tree.symbols.frames(&replayed.stacks, rows.iter().map(|row| row.stack), &lookup, progress);
        bytes = snapshot.live.bytes;
        let of_large = rows
            .iter()
            .map(|row| row.cells.after)
            .filter(|live| live.bytes.value >= LARGE as f64 * live.blocks.value);
        of_large.for_each(|live| large += live.bytes);
        let named = |row: &Row| replayed.named(row, row.cells.after.bytes);
        tree.add(&replayed.stacks, &frames, rows.iter().map(named));
    }
    let mut warnings = file_warnings(input, &replayed);
    warnings.extend(input.exit_warning(&replayed.levels));
    if let (Value::Allocated, Some(segment)) = (value, &input.survey.segment) {
        let (path, number) = (input.profile.path().display(), segment.number);
        let from = Seconds(input.survey.seconds(segment.time));
        warnings.push(format!(
            "{path}: segment {number} begins at {from}; what was allocated before is not in it"
        ));
    }
    warnings.extend(missing_warning(&tree));
    Ok(Weighed { tree, bytes, large, at, lost_events: replayed.lost_events, warnings })
}
