//! The past of a process that was forked while every allocation was recorded. Its own file begins with the fork; what came
//! before stands in the parent's file, and if that process was forked too, in the file of its parent:
//!
//! ```text
//! parent   ━━━━━━━━━━━━━━━━━━━━━━━━━━━┿━━━━━━━━━━━━━━━━━━
//!                 written before the fork ┊
//! child                                   ┗ Fork ━━ events of the parent that were on their way ━━ Complete ━━━━━━━━━
//! ```
//! Streams are numbered on from parent to child, so that both files can be read as one. Where the parent's cannot be had,
//! the events up to that `Complete` mean nothing, and are skipped.

use crate::order::Order;
use crate::profile::Profile;
use crate::replay::Taker;
use crate::survey::{Fork, Survey};
use prof::{BlockKind, Nanos, Record};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Forks of forks that are followed.
const MOST_ANCESTORS: u32 = 64;

/// How far the past of one file has been read.
pub(crate) struct Past<'a> {
    fork: Option<&'a Fork>,
    /// What is missing, in words.
    missing: Option<String>,
    is_over: bool,
    ancestors: u32,
}

impl<'a> Past<'a> {
    /// Nothing has been read yet.
    pub(crate) fn new(fork: Option<&'a Fork>) -> Past<'a> {
        Past { fork, missing: None, is_over: fork.is_none(), ancestors: MOST_ANCESTORS }
    }

    /// Whether events are of a past of which the beginning is missing.
    pub(crate) fn is_skipped(&self) -> bool {
        !self.is_over && self.missing.is_some()
    }

    /// Whether the past ends with the round that ends at `time`.
    pub(crate) fn ends_at(&mut self, time: Nanos) -> bool {
        let is_end = !self.is_over && self.fork.is_some_and(|fork| fork.time == time);
        self.is_over |= is_end;
        is_end
    }

    /// What is missing of what the process whose file is at `path` inherited.
    pub(crate) fn missing(&self, path: &Path) -> Option<String> {
        let missing = self.missing.as_ref()?;
        Some(format!(
            "{}: what the process inherited when it was forked is not known: {missing}",
            path.display()
        ))
    }

    /// Takes in what the parent of the file at `path` had written. The images that it speaks of stand in that file.
    pub(crate) fn read(&mut self, path: &Path, order: &mut Order, taker: &mut Taker) {
        let Some(fork) = self.fork.filter(|fork| fork.bytes > 0) else { return };
        self.missing = match (find(path, fork), self.ancestors.checked_sub(1)) {
            (Some((parent, survey)), Some(ancestors)) => {
                let past = Past { ancestors, ..Past::new(survey.fork.as_ref()) };
                read_parent(&parent, &survey, fork.bytes, past, order, taker).err()
            }
            (None, _) => Some(format!("no file at {} is of its parent", fork.path.display())),
            (_, None) => Some("it has too many ancestors".to_owned()),
        };
    }
}

/// Reads the first `bytes` of a parent's file.
fn read_parent(
    parent: &Profile,
    survey: &Survey,
    bytes: u64,
    mut past: Past,
    order: &mut Order,
    taker: &mut Taker,
) -> Result<(), String> {
    let failed = |what: &dyn Display| format!("failed to read {}: {what}", parent.path().display());
    if survey.sound_bytes < bytes {
        return Err(failed(&format!("it has {} sound bytes of {bytes}", survey.sound_bytes)));
    }
    let (mut reader, store) = parent.open(bytes).map_err(|error| failed(&error))?;
    while let Some(block) = reader.next_block().map_err(|error| failed(&error))? {
        let offset = block.payload_offset;
        if block.kind == BlockKind::Events {
            if !past.is_skipped() {
                let again = block.is_plain.then_some(&store);
                let payload = reader.exchange(order.buffer());
                order.events(offset, payload, again).map_err(|damage| failed(&damage))?;
            }
            continue;
        }
        for record in block.records().map_while(Result::ok) {
            match record {
                Record::Thread { .. } => order.record(&record).map_err(|what| failed(&what))?,
                Record::Fork { .. } => past.read(parent.path(), order, taker),
                Record::Complete { time } => {
                    let released =
                        order.release(Some(time), |changes, origins| taker.apply(changes, origins));
                    released.map_err(|damage| failed(&damage))?;
                    taker.end_round(time, &order.known.origins);
                    past.ends_at(time);
                }
                _ => {}
            }
        }
    }
    past.missing.map_or(Ok(()), Err)
}

/// The parent's file: where it was, or beside the child's; and where its process has executed another program since,
/// under the name that it was given then.
fn find(child: &Path, fork: &Fork) -> Option<(Profile, Survey)> {
    let beside = fork.path.file_name().map(|name| child.with_file_name(name));
    let named = [Some(fork.path.clone()), beside].into_iter().flatten();
    named.flat_map(with_later_names).find_map(|path| {
        let profile = path.is_file().then(|| Profile::at(&path))?;
        let survey = profile.skim().ok()?;
        (survey.header.run == fork.run).then_some((profile, survey))
    })
}

/// A path, and as the tracer names the files of a process's earlier programs: `run.prof`, `run.1.prof`, `run.2.prof`.
fn with_later_names(path: PathBuf) -> impl Iterator<Item = PathBuf> {
    let numbered = |number: u32| {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    let later: Vec<PathBuf> = (1..).map(numbered).take_while(|path| path.is_file()).collect();
    std::iter::once(path).chain(later)
}
