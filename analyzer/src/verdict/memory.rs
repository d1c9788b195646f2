//! How the process's memory grows, and how far the limit of its control group is.

use crate::shape::Grid;
use crate::shape::fit::{Fit, Level};
use crate::vitals::Vitals;
use prof::Nanos;
use prof::record::Vital;

/// The resident set and swap over a span.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By seconds from the span's start.
    pub level: Level,
    /// Its slope since `since`.
    pub fit: Fit,
    /// From where on it can be taken for a straight line.
    pub since: Nanos,
    /// When it was first measured, in the span.
    pub first: Nanos,
    /// Seconds from `since` to the span's end.
    duration: f64,
}

/// A control group's limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// What is charged at the span's end, without page cache that can be dropped.
    pub used: u64,
    /// In how many seconds it will be reached at the present slope, with its 95 % interval; where memory grows.
    pub reached_in: Option<(f64, (f64, f64))>,
    /// Processes of the group that the OOM killer has ended.
    pub oom_kills: u64,
}

impl Memory {
    /// Of a span, where it was measured.
    pub fn of(vitals: &Vitals, grid: &Grid) -> Option<Memory> {
        let (start, end) = (grid.time(0), grid.time(grid.steps()));
        let first = vitals.resident_times().next()?.clamp(start, end);
        let times: Vec<Nanos> = grid.times().iter().copied().filter(|time| *time >= first).collect();
        let seconds = |time: &Nanos| Nanos(time.0.saturating_sub(start.0)).seconds();
        let level = Level {
            times: times.iter().map(seconds).collect(),
            values: times.iter().map(|time| vitals.resident(*time).unwrap_or(0) as f64).collect(),
        };
        let from = level.settled();
        let fit = level.part(from..level.len()).fit();
        let since = times.get(from).copied().unwrap_or(first);
        Some(Memory { level, fit, since, first, duration: Nanos(end.0.saturating_sub(since.0)).seconds() })
    }

    /// Whether it still grows, by more than `least` bytes over the straight part.
    pub fn grows(&self, least: f64) -> bool {
        self.fit.rises() && self.fit.slope * self.duration >= least
    }
}

impl Limit {
    /// At the end of a span, where the process is in a group with a limit.
    pub fn of(vitals: &Vitals, end: Nanos, memory: &Memory, grows: bool) -> Option<Limit> {
        let bytes = vitals.at(Vital::CgroupLimit, end).filter(|limit| *limit < 1 << 60)?;
        let cache = vitals.at(Vital::CgroupInactiveFile, end).unwrap_or(0);
        let current = vitals.at(Vital::CgroupCurrent, end).or_else(|| vitals.resident(end))?;
        let used = current.saturating_sub(cache);
        let room = bytes.saturating_sub(used) as f64;
        let (low, high) = memory.fit.ci95();
        let reached_in =
            grows.then(|| (room / memory.fit.slope, (room / high, room / low.max(f64::MIN_POSITIVE))));
        Some(Limit { bytes, used, reached_in, oom_kills: vitals.at(Vital::CgroupOomKills, end).unwrap_or(0) })
    }
}
