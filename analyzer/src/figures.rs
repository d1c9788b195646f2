//! Everything that is known of each stack and thread, of two instants and the span between them.
//!
//! Of one process, with S the sums over recorded blocks, all of which share their samples:
//!
//! ```text
//! died       live at the first instant and not at the second   = before − (after − retained)
//! freed      in the span                                       = (allocated − retained) + died
//! net        after − before                                    = retained − died, two independent sums
//! ```

use crate::calltree::NodeHandle;
use crate::compare::{Comparison, Error};
use crate::estimate::{Estimate, Estimated, Sum, Z};
use crate::growth::{Grown, Meaning};
use crate::input::Input;
use crate::ledger::{Ages, Flow, SETTLED};
use crate::live::Sums;
use crate::replay::{Instant, Plan, Replayed, Snapshot};
use crate::rows::{Cells, cells_after, cells_before};
use crate::stacks::Stack;
use crate::symbolize::Progress;
use crate::symbols::Lookup;
use prof::{Nanos, ThreadIndex};
use rustc_hash::FxHashMap;
use std::ops::AddAssign;
use std::sync::Arc;

/// What is known of some blocks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Figures {
    /// What was live.
    pub standing: Standing,
    /// What went through.
    pub flow: Flow,
}

/// Of blocks that were live at one of the instants.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Standing {
    /// At both instants, and retained.
    pub cells: Cells,
    /// Bytes when, up to the second instant, most was live.
    pub peak: Sum,
    /// Of what is live at the second instant.
    pub ages: Ages,
}

impl AddAssign for Standing {
    fn add_assign(&mut self, other: Standing) {
        self.cells += other.cells;
        self.peak = self.peak.plus(other.peak);
        self.ages = self.ages.plus(other.ages);
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.standing += other.standing;
        self.flow += other.flow;
    }
}

impl Figures {
    /// Retained growth.
    pub fn retained(&self, meaning: Meaning) -> Grown {
        meaning.grown(&self.standing.cells)
    }

    /// Freed in the span.
    pub fn freed(&self) -> Estimate {
        let cells = &self.standing.cells;
        self.flow.allocated.without(cells.retained).plus(cells.died())
    }

    /// The share of what is allocated that dies young; where anything is allocated.
    pub fn temporary_share(&self) -> Option<Estimated> {
        let (all, part) = (&self.flow.allocated.bytes, &self.flow.temporary);
        (all.value > 0.0).then(|| part.share_of(all))
    }

    /// Mean seconds since birth of live bytes; where anything is live.
    pub fn mean_age(&self) -> Option<Estimated> {
        let Sum { value: bytes, variance, .. } = self.standing.cells.after.bytes;
        if bytes <= 0.0 {
            return None;
        }
        let ages = self.standing.ages;
        let mean = ages.sum / bytes;
        let spread = ages.variance - 2.0 * mean * ages.covariance + mean * mean * variance;
        let margin = Z * spread.max(0.0).sqrt() / bytes;
        Some(Estimated { value: mean, ci95: ((mean - margin).max(0.0), mean + margin) })
    }
}

/// Whose blocks they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    /// Threads of this name; `None`: without one.
    Thread(Option<Arc<str>>),
    /// Samples that died before the tracer wrote them, of any threads.
    Settled,
}

/// A stack, and the place of its owner.
type Key = (NodeHandle, u32);

/// The figures of every stack and thread.
#[derive(Clone, Debug, Default)]
pub struct FiguresByStack {
    owners: Vec<Owner>,
    standing: FxHashMap<Key, Standing>,
    flows: FxHashMap<Key, Flow>,
    /// Whether it is known what was allocated and freed in the span.
    pub has_flows: bool,
    /// Whether it is known of each thread.
    pub has_flows_of_threads: bool,
}

impl FiguresByStack {
    /// Those of which something was live at one of the instants, and then all others.
    pub fn iter(&self) -> impl Iterator<Item = (NodeHandle, &Owner, Figures)> {
        let standing = self.standing.iter().map(|(key, standing)| {
            let flow = self.flows.get(key).copied().unwrap_or_default();
            (*key, Figures { standing: *standing, flow })
        });
        let others = self.flows.iter().filter(|(key, _)| !self.standing.contains_key(key));
        let others = others.map(|(key, flow)| (*key, Figures { flow: *flow, ..Figures::default() }));
        let owned = |((node, owner), figures): (Key, Figures)| {
            Some((node, self.owners.get(owner as usize)?, figures))
        };
        standing.chain(others).filter_map(owned)
    }

    /// Of the same instants as a comparison; the nodes are of its tree. Reads the files once more.
    ///
    /// # Errors
    /// Where a file cannot be read any more.
    pub fn of(
        comparison: &mut Comparison,
        before: &Input,
        after: &Input,
        lookup: &Lookup,
        mut progress: impl FnMut(Progress),
    ) -> Result<FiguresByStack, Error> {
        let is_one_process = before.survey.header.run == after.survey.header.run;
        let is_one_file = is_one_process && before.at >= after.survey.start();
        let mut collected = FiguresByStack { has_flows: is_one_file, ..FiguresByStack::default() };
        let lookup = Lookup { addresses: is_one_process, ..lookup.clone() };
        // A peak in another file is not in this one.
        let peak = comparison.peak.time;
        let peak = (after.survey.start() <= peak && peak <= after.at).then_some(peak);
        let since = if is_one_process { before.at } else { after.at };
        let mut times: Vec<Nanos> = peak.into_iter().chain([after.at]).collect();
        if is_one_file {
            times.push(before.at);
        }
        times.sort_unstable();
        let instants = times.into_iter().map(|at| Instant { at, since }).collect();
        let mut replayed = after.replay(&Plan { instants, ledger: Some(since), ..Plan::default() })?;
        let snapshots = std::mem::take(&mut replayed.snapshots);
        let at = |time: Nanos| snapshots.iter().rev().find(|snapshot| snapshot.at == time);
        let mut rows = Rows::default();
        add(&mut rows, at(after.at), |sums, row| row.cells += cells_after(sums));
        add(&mut rows, peak.and_then(at), |sums, row| row.peak = sums.live.bytes);
        if is_one_file {
            add(&mut rows, at(before.at), |sums, row| row.cells += cells_before(sums));
        }
        for (key, ages) in std::mem::take(&mut replayed.accounts.ages) {
            rows.entry(key).or_default().ages = ages;
        }
        let flows = std::mem::take(&mut replayed.accounts.flows);
        collected.has_flows_of_threads = is_one_file && !flows.keys().any(|(_, thread)| *thread == SETTLED);
        collected.add(comparison, &replayed, (rows, flows), &lookup, &mut progress);
        if !is_one_file {
            let instants = vec![Instant { at: before.at, since: before.at }];
            let replayed = before.replay(&Plan { instants, ..Plan::default() })?;
            let mut rows = Rows::default();
            add(&mut rows, replayed.snapshots.first(), |sums, row| row.cells += cells_before(sums));
            collected.add(comparison, &replayed, (rows, FxHashMap::default()), &lookup, &mut progress);
        }
        Ok(collected)
    }

    fn add(
        &mut self,
        comparison: &mut Comparison,
        replayed: &Replayed,
        (rows, flows): (Rows, FxHashMap<(Stack, ThreadIndex), Flow>),
        lookup: &Lookup,
        progress: impl FnMut(Progress),
    ) {
        let tree = &mut comparison.tree;
        let stacks = || rows.keys().chain(flows.keys()).map(|(stack, _)| *stack);
        let frames = tree.symbols.frames(&replayed.stacks, stacks(), lookup, progress);
        let places = tree.places(&replayed.stacks, &frames, stacks());
        let mut owners = FxHashMap::<ThreadIndex, u32>::default();
        let mut key = |(stack, thread): (Stack, ThreadIndex)| {
            let owner = *owners.entry(thread).or_insert_with(|| {
                let owner = match thread {
                    SETTLED => Owner::Settled,
                    thread => Owner::Thread(replayed.threads.name(thread).cloned()),
                };
                let known = self.owners.iter().position(|other| *other == owner);
                known.unwrap_or_else(|| {
                    self.owners.push(owner);
                    self.owners.len() - 1
                }) as u32
            });
            Some((*places.get(&stack)?, owner))
        };
        for (of, standing) in rows {
            key(of).into_iter().for_each(|key| *self.standing.entry(key).or_default() += standing);
        }
        for (of, flow) in flows {
            key(of).into_iter().for_each(|key| *self.flows.entry(key).or_default() += flow);
        }
    }
}

/// What was live, by stack and thread of one file.
type Rows = FxHashMap<(Stack, ThreadIndex), Standing>;

fn add(rows: &mut Rows, snapshot: Option<&Snapshot>, mut note: impl FnMut(&Sums, &mut Standing)) {
    for (key, sums) in snapshot.iter().flat_map(|snapshot| &snapshot.sums) {
        note(sums, rows.entry(*key).or_default());
    }
}
