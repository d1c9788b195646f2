//! Runs a file's changes through the live set, and takes sums at the instants that were asked for.

use crate::estimate::{Estimate, Sum};
use crate::held::{Held, Holder, Holdings};
use crate::ledger::{Accounts, Ledger};
use crate::levels::{Level, Leveller};
use crate::live::{Live, Peak, SumsByStack, weight};
use crate::order::Order;
use crate::past::Past;
use crate::profile::{Profile, damage_of};
use crate::rows::Row;
use crate::shape::Grid;
use crate::shape::scan::{History, Scanner};
use crate::stacks::{Stack, Stacks};
use crate::stream::{Change, Origins};
use crate::survey::Survey;
use crate::threads::Threads;
use prof::read::What;
use prof::{Block, BlockKind, Damage, Nanos, ReadError, Record};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What to take while the file is read.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// At which instants to sum the live set, in ascending order, and since when its blocks count as young.
    pub instants: Vec<Instant>,
    /// Whether to keep what each stack has allocated.
    pub allocated_by_stack: bool,
    /// Whether to keep accounts of what is allocated after this instant, up to the last one. Not together with a grid, which
    /// alone says then how births are told apart.
    pub ledger: Option<Nanos>,
    /// At which instants to scan the live set, up to the last instant; the others are to be among them.
    pub grid: Option<Grid>,
    /// At which instants to note how much is live, in ascending order, up to the last instant.
    pub levels: Vec<Nanos>,
}

/// An instant at which the live set is summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instant {
    /// When.
    pub at: Nanos,
    /// Blocks allocated after it are young.
    pub since: Nanos,
}

/// The live set at an instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When.
    pub at: Nanos,
    /// Live blocks by stack and thread.
    pub sums: SumsByStack,
    /// All live blocks.
    pub live: Estimate,
    /// Since the start, up to here.
    pub allocated: Estimate,
    /// Threads and mappings.
    pub held: Holdings,
}

/// What came out of a file.
#[derive(Debug, Default)]
pub struct Replayed {
    /// One for each instant of the plan.
    pub snapshots: Vec<Snapshot>,
    /// What the stacks of the snapshots mean.
    pub stacks: Stacks,
    /// Every thread up to the last instant, and some after it.
    pub threads: Threads,
    /// What each stack allocated, where the plan asks for it.
    pub allocated_by_stack: FxHashMap<Stack, Sum>,
    /// Up to the last instant.
    pub peak: Peak,
    /// The accounts, where the plan asks for them.
    pub accounts: Accounts,
    /// The scans, where the plan asks for them.
    pub history: Option<History>,
    /// How much was live at each instant of the plan's levels.
    pub levels: Vec<Level>,
    /// Events that are not in the file, up to the last instant.
    pub lost_events: u64,
    /// Blocks that were allocated where another was still live.
    pub replaced: u64,
    /// Where events could not be read although their block was sound.
    pub damage: Option<Damage>,
    /// Of a process that was forked: what is not known of its past, and why.
    pub missing_past: Option<String>,
}

impl Replayed {
    /// A row's value with its thread's name, as call trees take it.
    pub fn named<V>(&self, row: &Row, value: V) -> (Stack, Option<Arc<str>>, V) {
        (row.stack, self.threads.name(row.thread).cloned(), value)
    }
}

/// Reads the file up to the plan's last instant.
///
/// # Errors
/// Where the file cannot be opened or its header cannot be read any more; what can be read is used. And where a block
/// is damaged that a survey has passed over: the survey's end is not the file's then.
pub fn replay(profile: &Profile, survey: &Survey, plan: &Plan) -> Result<Replayed, ReadError> {
    let (mut reader, store) = profile.open(survey.sound_bytes)?;
    let mut order = Order::default();
    let mut taker = Taker::new(plan, survey);
    let mut past = Past::new(survey.fork.as_ref());
    let damage = loop {
        if taker.is_done() {
            break None;
        }
        let block = match reader.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => break None,
            Err(ReadError::Damaged(damage)) if !survey.is_refuted_by(damage) => break Some(damage),
            Err(other) => return Err(other),
        };
        let offset = block.payload_offset;
        let taken = match block.kind {
            BlockKind::Records => take_in(&block, profile, &mut past, &mut order, &mut taker),
            BlockKind::Events if past.is_skipped() => Ok(()),
            BlockKind::Events => {
                let again = block.is_plain.then_some(&store);
                let buffer = order.buffer();
                order.events(offset, reader.exchange(buffer), again)
            }
        };
        if let Err(damage) = taken {
            break Some(damage);
        }
    };
    let damage = match damage {
        None if !taker.is_done() => {
            order.release(None, |changes, origins| taker.apply(changes, origins)).err()
        }
        damage => damage,
    };
    taker.finish(&order.known.origins);
    Ok(Replayed {
        snapshots: taker.snapshots,
        stacks: order.known.stacks,
        threads: order.known.threads,
        allocated_by_stack: taker.allocated_by_stack,
        peak: taker.live.peak,
        accounts: taker.accounts,
        history: taker.scanner.map(Scanner::finish),
        levels: taker.leveller.finish(),
        lost_events: taker.lost_events,
        replaced: taker.live.replaced,
        damage,
        missing_past: past.missing(profile.path()),
    })
}

/// Takes in a block of records; where it says that the process was forked, with its past.
fn take_in(
    block: &Block,
    profile: &Profile,
    past: &mut Past,
    order: &mut Order,
    taker: &mut Taker,
) -> Result<(), Damage> {
    for record in block.records() {
        let record = record.map_err(|bad| damage_of(bad, block.payload_offset))?;
        match record {
            Record::Complete { time } => {
                order.release(Some(time), |changes, origins| taker.apply(changes, origins))?;
                taker.end_round(time, &order.known.origins);
                if past.ends_at(time) {
                    taker.inherit(time, Estimate::default());
                }
                if let Some((_, allocated)) = taker.segment.take_if(|(begin, _)| *begin == time) {
                    taker.inherit(time, allocated);
                }
            }
            Record::Folded { node, blocks, bytes } => {
                taker.folded.push((order.stack(node), blocks.into(), bytes.into()));
            }
            Record::Lost { events, .. } => taker.lose(events),
            Record::Held { resource, node, time, acquired, released, bytes } => {
                let held = Held { acquired, released, bytes };
                taker.holder.note(time, resource, order.stack(node), held);
            }
            Record::Fork { .. } => past.read(profile.path(), order, taker),
            Record::Segment { time, blocks, bytes, .. } => {
                let interval = taker.survey.interval_at(None);
                taker.segment = Some((time, Estimate::of_sums(bytes as f64, blocks as f64, interval)));
            }
            _ => order.record(&record).map_err(|what| Damage::Corrupt {
                offset: block.payload_offset,
                what: What::Malformed(what),
            })?,
        }
    }
    Ok(())
}

/// Applies changes, and sums the live set before the first change after each instant.
pub(crate) struct Taker<'a> {
    live: Live,
    instants: &'a [Instant],
    survey: &'a Survey,
    /// Changes before it come before the first of the instants' ends; none do where there is no instant left.
    next: Nanos,
    allocated_by_stack: FxHashMap<Stack, Sum>,
    by_stack: bool,
    /// Samples that died young, since the last round.
    folded: Vec<(Stack, f64, f64)>,
    lost_events: u64,
    any_round: bool,
    /// When the file's own time begins, and what had been allocated before; until it does.
    segment: Option<(Nanos, Estimate)>,
    snapshots: Vec<Snapshot>,
    scanner: Option<Scanner>,
    leveller: Leveller,
    ledger: Option<Ledger>,
    accounts: Accounts,
    holder: Holder,
}

impl<'a> Taker<'a> {
    fn new(plan: &'a Plan, survey: &'a Survey) -> Taker<'a> {
        let sinces = plan.instants.iter().map(|instant| instant.since);
        let times = plan.grid.iter().flat_map(|grid| grid.times().iter().copied());
        let end = plan.instants.last().map_or(Nanos(0), |last| last.at);
        let ledger = plan.ledger.map(|since| Ledger::new((since, end), survey));
        let steps = ledger.iter().flat_map(|_| Ledger::steps(end));
        let scanner = plan.grid.as_ref().map(|grid| Scanner::new(grid.clone(), survey.recording()));
        let leveller = Leveller::new(plan.levels.clone());
        Taker {
            live: Live::new(sinces.chain(times).chain(steps)),
            instants: &plan.instants,
            survey,
            next: after_first(&plan.instants, scanner.as_ref(), &leveller),
            scanner,
            leveller,
            ledger,
            accounts: Accounts::default(),
            holder: Holder::default(),
            allocated_by_stack: FxHashMap::default(),
            by_stack: plan.allocated_by_stack,
            folded: Vec::new(),
            lost_events: 0,
            any_round: false,
            segment: None,
            snapshots: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.instants.is_empty()
    }

    /// Counts events that are not in the file.
    pub(crate) fn lose(&mut self, events: u64) {
        self.lost_events = self.lost_events.saturating_add(events);
    }

    /// What is live was there before this file's time, and so much had been allocated.
    fn inherit(&mut self, time: Nanos, allocated: Estimate) {
        self.live.inherit(time, allocated);
        self.allocated_by_stack.clear();
        self.folded.clear();
    }

    /// Applies the next changes.
    pub(crate) fn apply(&mut self, mut changes: &[Change], origins: &Origins) {
        while let Some(last) = changes.last() {
            let count = match last.time < self.next {
                true => changes.len(),
                false => changes.partition_point(|change| change.time < self.next),
            };
            let (before, rest) = changes.split_at_checked(count).unwrap_or((changes, &[]));
            self.add(before, origins);
            let Some(first) = rest.first() else { return };
            self.take_before(first.time, origins);
            if self.is_done() {
                return;
            }
            changes = rest;
        }
    }

    fn add(&mut self, changes: &[Change], origins: &Origins) {
        self.live.apply(changes, origins);
        self.scanner.iter_mut().for_each(|scanner| scanner.count(changes.len()));
        self.ledger.iter_mut().for_each(|ledger| ledger.apply(changes, origins));
        if self.by_stack {
            for birth in changes.iter().filter_map(|change| change.birth) {
                let weight = weight(birth.size, birth.origin, origins);
                self.allocated_by_stack.entry(birth.stack).or_default().add_bytes(birth.size, &weight);
            }
        }
    }

    /// Takes the snapshots and scans of all instants before `time`.
    #[cold]
    fn take_before(&mut self, time: Nanos, origins: &Origins) {
        self.scan_before(time, origins);
        while let Some(instant) = self.instants.first().filter(|instant| instant.at < time) {
            self.take(*instant, origins);
        }
    }

    /// Takes the levels and scans of all instants before `time`.
    fn scan_before(&mut self, time: Nanos, origins: &Origins) {
        while let Some(next) = self.leveller.next().filter(|next| *next < time) {
            self.leveller.take(self.live.bytes(), self.live.crest(next));
        }
        if let Some(scanner) = &mut self.scanner {
            while scanner.next().is_some_and(|next| next < time) {
                scanner.take(self.live.len(), |tally| self.live.cells(origins, tally));
            }
        }
        self.next = after_first(self.instants, self.scanner.as_ref(), &self.leveller);
    }

    /// Takes the first instant's snapshot.
    fn take(&mut self, instant: Instant, origins: &Origins) {
        self.instants = self.instants.get(1..).unwrap_or(&[]);
        self.next = after_first(self.instants, self.scanner.as_ref(), &self.leveller);
        let sums = self.live.sums(instant.since, origins);
        let live = sums.iter().fold(Estimate::default(), |sum, (_, sums)| sum.plus(sums.live));
        let (allocated, held) = (self.live.allocated, self.holder.at(instant.at));
        if let Some(ledger) = self.ledger.as_mut().filter(|_| self.instants.is_empty()) {
            self.accounts = ledger.close(&self.live, origins);
        }
        self.snapshots.push(Snapshot { at: instant.at, sums, live, allocated, held });
    }

    /// Everything before `time` has been applied.
    pub(crate) fn end_round(&mut self, time: Nanos, origins: &Origins) {
        self.any_round = true;
        self.add_folded(Some(time));
        self.take_before(time, origins);
        self.live.end_round(time);
        self.holder.end_round();
    }

    /// Adds what died young before the present round's end, where it has one.
    fn add_folded(&mut self, end: Option<Nanos>) {
        if self.folded.is_empty() {
            return;
        }
        let interval = self.survey.interval_at(end);
        for (stack, blocks, bytes) in self.folded.drain(..) {
            let samples = Estimate::of_sums(bytes, blocks, interval);
            self.live.allocated = self.live.allocated.plus(samples);
            self.ledger.iter_mut().for_each(|ledger| ledger.settle(end, stack, samples));
            if self.by_stack {
                *self.allocated_by_stack.entry(stack).or_default() += samples.bytes;
            }
        }
    }

    fn finish(&mut self, origins: &Origins) {
        // What follows the last complete round is after every instant.
        if !self.any_round {
            self.add_folded(None);
        }
        self.scan_before(Nanos(u64::MAX), origins);
        while let Some(instant) = self.instants.first() {
            self.take(*instant, origins);
        }
    }
}

/// The first time that lies after the first instant, or after that of the next scan or level.
fn after_first(instants: &[Instant], scanner: Option<&Scanner>, leveller: &Leveller) -> Nanos {
    let scan = scanner.and_then(Scanner::next).into_iter().chain(leveller.next()).min();
    let instant = instants.first().map(|instant| instant.at);
    let first = instant.map(|instant| scan.map_or(instant, |scan| scan.min(instant)));
    Nanos(first.map_or(0, |first| first.0.saturating_add(1)))
}
