//! One of the classes, from what was measured.
//!
//! Where memory still grows and its growth is not the same throughout, the part of the span since which it is decides:
//! what a program takes while it starts hides what it takes later. Of the parts that the memory grew by, the largest
//! names the class.

use crate::shape::{Development, Grid, Kind};
use crate::survey::Survey;
use crate::verdict::parts::LiveGrowth;
use crate::verdict::{Limit, Memory, Name, Parts};
use prof::Nanos;
use prof::record::Vital;

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Blocks are allocated and not freed, more and more.
    LiveGrowth,
    /// The program has freed it, the allocator keeps it.
    AllocatorRetention,
    /// Stacks of more and more threads.
    ThreadGrowth,
    /// Memory that the program maps itself, files and shared memory.
    MappedGrowth,
    /// Inherited pages become the process's own.
    CopyOnWrite,
    /// It grew, and has stopped.
    WarmUp,
    /// Nothing that counts.
    None,
}

impl Class {
    /// In one word, as in machine-readable output.
    pub fn text(self) -> &'static str {
        match self {
            Class::LiveGrowth => "live-growth",
            Class::AllocatorRetention => "allocator-retention",
            Class::ThreadGrowth => "thread-growth",
            Class::MappedGrowth => "mapped-growth",
            Class::CopyOnWrite => "copy-on-write",
            Class::WarmUp => "warm-up",
            Class::None => "none",
        }
    }
}

/// What a verdict rests on.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the file says about itself, vitals included.
    pub survey: &'a Survey,
    /// The span.
    pub grid: &'a Grid,
    /// The live heap as a whole.
    pub heap: &'a Development,
    /// What of the growth of stacks that grow steadily is expected to stay.
    pub growing: f64,
    /// The growth of the live heap since an instant of the span.
    pub live: &'a dyn LiveSince,
}

/// Tells the growth of the live heap.
pub trait LiveSince: std::fmt::Debug {
    /// From an instant of the span to its end.
    fn since(&self, from: Nanos) -> LiveGrowth;
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which class.
    pub class: Class,
    /// What memory the process grew by, over the whole span; where the resident set was measured.
    pub whole: Option<Parts>,
    /// The same since memory grows as it does now, where that is later.
    pub recent: Option<Parts>,
    /// How memory grows.
    pub memory: Option<Memory>,
    /// Whether it still does.
    pub grows: bool,
    /// Fewer bytes than this do not count.
    pub least: f64,
    /// Whether the live heap does.
    pub heap_grows: bool,
    /// The control group's limit.
    pub limit: Option<Limit>,
    /// The most threads at any time of the span, and at its end.
    pub threads: Option<(u64, u64)>,
}

impl Finding {
    /// The parts that decided.
    pub fn parts(&self) -> Option<&Parts> {
        self.recent.as_ref().or(self.whole.as_ref())
    }
}

/// Memory grows by tens of kilobytes all the time.
const LEAST: f64 = 256.0 * 1024.0;

/// Growth below this share of what the process has is not worth a verdict.
const LEAST_SHARE: f64 = 0.01;

/// Looks at all of it.
pub fn find(evidence: &Evidence) -> Finding {
    let Evidence { survey, grid, heap, growing, live } = evidence;
    let (from, to) = (grid.time(0), grid.time(grid.steps()));
    let vitals = &survey.vitals;
    let memory = Memory::of(vitals, grid);
    let is_forked = survey.fork.is_some();
    let parts_since = |from| Parts::of(vitals, is_forked, (from, to), live.since(from));
    let start = memory.as_ref().map_or(from, |memory| memory.first);
    let whole = parts_since(start);
    let resident = vitals.resident(to).map(|bytes| bytes as f64);
    let least = resident.map_or(0.0, |resident| (resident * LEAST_SHARE).max(LEAST));
    let grows = memory.as_ref().is_some_and(|memory| memory.grows(least));
    let since = memory.as_ref().map(|memory| memory.since).filter(|since| grows && *since > start);
    let recent = since.and_then(parts_since);
    let decisive = recent.as_ref().map_or(from, |parts| parts.from);
    let in_stacks = *growing > 0.25 * (live.since(decisive).bytes).max(0.0);
    let heap_grows = heap.shape.grows() || heap.shape.kind != Kind::Unclear && *growing > 0.0 && in_stacks;
    let class = match recent.as_ref().or(whole.as_ref()) {
        Some(parts) => class_of_parts(parts, class_of_heap(heap, heap_grows), grows, least, *growing),
        None => class_of_heap(heap, heap_grows),
    };
    let limit = memory.as_ref().and_then(|memory| Limit::of(vitals, to, memory, grows));
    let threads = vitals.most(Vital::Threads, from, to).zip(vitals.at(Vital::Threads, to));
    Finding { class, whole, recent, memory, grows, least, heap_grows, limit, threads }
}

fn class_of_parts(parts: &Parts, of_heap: Class, grows: bool, least: f64, growing: f64) -> Class {
    if (parts.growth as f64) < least {
        // What the heap takes now may be memory that was there before.
        return if growing >= least { of_heap } else { Class::None };
    }
    let heap = parts.get(Name::Live) + parts.get(Name::AllocatorOverhead);
    let mapped = parts.get(Name::Mapped) + parts.get(Name::FileShm);
    // What went without having been in RAM is unexplained growth on paper alone.
    let gone: i64 =
        parts.all.iter().filter(|part| part.name != Name::Unexplained).map(|part| part.bytes.min(0)).sum();
    let stopped = |class| if grows { class } else { Class::WarmUp };
    let candidates = [
        (heap, of_heap),
        (parts.get(Name::AllocatorHeld), Class::AllocatorRetention),
        (parts.get(Name::ThreadStacks), Class::ThreadGrowth),
        (mapped, stopped(Class::MappedGrowth)),
        (parts.get(Name::CopyOnWrite), Class::CopyOnWrite),
        (parts.get(Name::Tracer), Class::None),
        (parts.get(Name::Unexplained) + gone, stopped(Class::None)),
    ];
    // The first of equals.
    let largest = candidates.into_iter().rev().max_by_key(|(bytes, _)| *bytes);
    largest.map_or(Class::None, |(_, class)| class)
}

/// What the heap would be called by itself.
fn class_of_heap(heap: &Development, heap_grows: bool) -> Class {
    match heap.shape.kind {
        _ if heap_grows => Class::LiveGrowth,
        Kind::Sawtooth { .. } | Kind::Churn | Kind::Unclear => Class::None,
        Kind::WarmUp | Kind::Step { .. } | Kind::Steady => Class::WarmUp,
    }
}
