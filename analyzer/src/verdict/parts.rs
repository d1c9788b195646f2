//! What the memory is that a process grew by: parts that add up to all of it.
//!
//! With Δ for the value at the end of the span minus the value at its start:
//!
//! ```text
//! rss         ΔRssAnon + ΔSwap + ΔRssFile + ΔRssShmem
//! live        Δ of requested bytes that were allocated and not freed
//! overhead    Δ in use by the allocator's own account − live: headers, rounding, what was not recorded
//! held        Δ (system − in use − released) by the allocator's account: freed by the program, still the allocator's.
//!             Where positive, at most what is left of anonymous memory: free memory need not be in RAM
//! stacks      Δ RAM of the stacks of threads
//! mapped      Δ of what the program mapped itself, at most what is left of anonymous memory: it need not be touched
//! tracer      Δ of the tracer's own memory
//! file, shm   ΔRssFile + ΔRssShmem
//! copies      of a forked child, ΔUSS − Δrss, where both are positive: inherited pages that became its own. They were in its
//!             RSS before
//! unexplained what is left. Negative where memory was allocated and never touched
//! growth      rss + copies: what all parts add up to
//! ```

use crate::estimate::Estimated;
use crate::evenly::Evenly;
use crate::vitals::Vitals;
use prof::Nanos;
use prof::record::Vital;

/// The parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// Allocated and not freed.
    Live,
    /// What the allocator needs for it.
    AllocatorOverhead,
    /// Freed by the program, not returned to the system.
    AllocatorHeld,
    /// Mapped by the program itself.
    Mapped,
    /// Stacks of threads.
    ThreadStacks,
    /// Pages of files, and shared memory.
    FileShm,
    /// Inherited pages that became the process's own.
    CopyOnWrite,
    /// The tracer's.
    Tracer,
    /// The rest.
    Unexplained,
}

impl Name {
    /// As machine-readable output names it.
    pub fn text(self) -> &'static str {
        match self {
            Name::Live => "live",
            Name::AllocatorOverhead => "allocator_overhead",
            Name::AllocatorHeld => "allocator_held",
            Name::Mapped => "mapped",
            Name::ThreadStacks => "thread_stacks",
            Name::FileShm => "file_shm",
            Name::CopyOnWrite => "copy_on_write",
            Name::Tracer => "tracer",
            Name::Unexplained => "unexplained",
        }
    }

    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Name::Live => "live heap: allocated and not freed",
            Name::AllocatorOverhead => "allocator's overhead: headers, rounding, blocks not recorded",
            Name::AllocatorHeld => "held by the allocator: freed by the program, not returned",
            Name::Mapped => "mapped by the program itself",
            Name::ThreadStacks => "stacks of threads",
            Name::FileShm => "files and shared memory",
            Name::CopyOnWrite => "copy-on-write: inherited pages that became its own",
            Name::Tracer => "the tracer's own memory",
            Name::Unexplained => "unexplained",
        }
    }
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Part {
    /// Which.
    pub name: Name,
    /// How much of the growth.
    pub bytes: i64,
    /// 95 % interval, where it rests on samples.
    pub ci95: (i64, i64),
    /// Whether what it is computed from was measured.
    pub is_known: bool,
}

/// All of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Parts {
    /// From when.
    pub from: Nanos,
    /// To when.
    pub to: Nanos,
    /// Of the resident set and swap.
    pub rss_growth: i64,
    /// What the parts add up to.
    pub growth: i64,
    /// In the order in which they are shown.
    pub all: Vec<Part>,
}

/// The growth of the live heap over a span.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LiveGrowth {
    /// Requested bytes; estimated where allocations were sampled.
    pub bytes: f64,
    /// Variance of `bytes`.
    pub variance: f64,
}

impl LiveGrowth {
    /// As a whole number that sums of parts cannot overflow.
    fn rounded(&self) -> i64 {
        (self.bytes.round() as i64).clamp(-MOST, MOST)
    }

    fn margin(&self) -> i64 {
        ((crate::estimate::Z * self.variance.sqrt()).round() as i64).clamp(0, MOST)
    }
}

impl Parts {
    /// Of a span, where the resident set was measured.
    pub fn of(
        vitals: &Vitals,
        is_forked: bool,
        (from, to): (Nanos, Nanos),
        live: LiveGrowth,
    ) -> Option<Parts> {
        let change = |vital| Some(signed(vitals.at(vital, to)?) - signed(vitals.at(vital, from)?));
        Parts::split(change, is_forked, (from, to), live)
    }

    /// Of all that a process has at an instant, where the resident set was measured: what it would have grown by from nothing.
    pub fn at(vitals: &Evenly, time: Nanos, live: LiveGrowth) -> Option<Parts> {
        Parts::split(|vital| vitals.at(vital, time).map(signed), false, (time, time), live)
    }

    fn split(
        change: impl Fn(Vital) -> Option<i64>,
        is_forked: bool,
        (from, to): (Nanos, Nanos),
        live: LiveGrowth,
    ) -> Option<Parts> {
        let known = |vital| change(vital).unwrap_or(0);
        let anonymous = change(Vital::RssAnon)? + known(Vital::Swap);
        let file_shm = known(Vital::RssFile) + known(Vital::RssShmem);
        let rss_growth = anonymous + file_shm;
        let (margin, live) = (live.margin(), live.rounded());
        let in_use = change(Vital::AllocatorInUse);
        let system = change(Vital::AllocatorSystem);
        let overhead = in_use.map_or(0, |in_use| in_use - live);
        let stacks = known(Vital::ThreadStacksResident);
        let tracer = known(Vital::TracerMemory);
        let rest = anonymous - live - overhead - stacks - tracer;
        let freed =
            system.zip(in_use).map(|(system, in_use)| system - in_use - known(Vital::AllocatorReleased));
        let held = freed.map_or(0, |freed| if freed > 0 { rest.clamp(0, freed) } else { freed });
        let rest = rest - held;
        let mapped = change(Vital::Mapped).map_or(0, |mapped| rest.clamp(mapped.min(0), mapped.max(0)));
        let copies = match change(Vital::Uss) {
            Some(unique) if is_forked => (unique - rss_growth.max(0)).max(0),
            _ => 0,
        };
        let exact = |name, bytes, is_known| Part { name, bytes, ci95: (bytes, bytes), is_known };
        let about = |name, bytes, is_known| Part {
            ci95: (bytes - margin, bytes + margin),
            ..exact(name, bytes, is_known)
        };
        let unexplained = rest - mapped;
        let all = vec![
            about(Name::Live, live, true),
            match in_use {
                Some(_) => about(Name::AllocatorOverhead, overhead, true),
                None => exact(Name::AllocatorOverhead, 0, false),
            },
            exact(Name::AllocatorHeld, held, freed.is_some()),
            exact(Name::Mapped, mapped, change(Vital::Mapped).is_some()),
            exact(Name::ThreadStacks, stacks, change(Vital::ThreadStacksResident).is_some()),
            exact(Name::FileShm, file_shm, change(Vital::RssFile).is_some()),
            exact(Name::CopyOnWrite, copies, is_forked && change(Vital::Uss).is_some()),
            exact(Name::Tracer, tracer, change(Vital::TracerMemory).is_some()),
            match in_use {
                Some(_) => exact(Name::Unexplained, unexplained, true),
                None => about(Name::Unexplained, unexplained, true),
            },
        ];
        Some(Parts { from, to, rss_growth, growth: rss_growth + copies, all })
    }

    /// The bytes of one part.
    pub fn get(&self, name: Name) -> i64 {
        self.all.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
    }

    /// The same with its interval.
    pub fn estimated(&self, name: Name) -> Estimated {
        let part = self.all.iter().find(|part| part.name == name);
        part.map_or(Estimated::default(), |part| Estimated {
            value: part.bytes as f64,
            ci95: (part.ci95.0 as f64, part.ci95.1 as f64),
        })
    }

    /// Its share of all growth; 0 where nothing grew.
    pub fn share(&self, name: Name) -> f64 {
        if self.growth > 0 { self.get(name) as f64 / self.growth as f64 } else { 0.0 }
    }
}

/// No process has as much memory, and a few such numbers add up without overflow.
const MOST: i64 = i64::MAX / 64;

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(MOST).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_add_up(
            readings in prop::collection::vec((0..Vital::ALL.len(), 0..1u64 << 40, 0..2u64), 0..60),
            live in -1e9..1e9f64, is_forked: bool,
        ) {
            let mut vitals = Vitals::default();
            for (vital, value, time) in readings {
                vitals.note(Nanos(time), &[(Vital::ALL[vital], value)]);
            }
            let live = LiveGrowth { bytes: live, variance: 100.0 };
            if let Some(parts) = Parts::of(&vitals, is_forked, (Nanos(0), Nanos(1)), live) {
                prop_assert_eq!(parts.all.iter().map(|part| part.bytes).sum::<i64>(), parts.growth);
                let resident = |time| vitals.resident(Nanos(time)).unwrap() as i64;
                // Series that begin late hold from the start.
                if vitals.series(Vital::RssAnon).is_some() {
                    prop_assert_eq!(parts.rss_growth, resident(1) - resident(0));
                }
                prop_assert!(parts.get(Name::CopyOnWrite) >= 0);
            }
        }
    }
}
