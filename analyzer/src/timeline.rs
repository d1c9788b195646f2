//! Live heap, resident set and their parts over a span of one process.

use crate::compare::{Error, file_warnings};
use crate::evenly::Evenly;
use crate::input::Input;
use crate::levels::Level;
use crate::replay::{Instant, Plan};
use crate::shape::Grid;
use crate::survey::{Recording, Survey};
use crate::units::Seconds;
use crate::verdict::parts::{LiveGrowth, Name, Parts};
use crate::vitals::Vitals;
use prof::Nanos;
use prof::record::Vital;
use std::path::PathBuf;

/// Limits from here on are none.
const NO_LIMIT: u64 = 1 << 60;

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The file.
    pub path: PathBuf,
    /// Command and process id.
    pub process: String,
    /// How densely allocations were recorded.
    pub recording: Recording,
    /// The instants of which values are known, in seconds since the start of the process.
    pub times: Vec<f64>,
    /// Resident set and swap; where it was measured.
    pub resident: Option<Series>,
    /// What the resident set is by the kernel's account.
    pub kinds: Vec<Series>,
    /// What it is by the verdict's account; they add up to it. Where it was not measured, the live heap alone.
    pub parts: Vec<Series>,
    /// Parts that were not measured.
    pub unknown: Vec<Name>,
    /// Every reading of the resident set: seconds and bytes.
    pub readings: Vec<(f64, i64)>,
    /// The control group's limit at the span's end.
    pub limit: Option<i64>,
    /// Named instants of the span: name and seconds.
    pub marks: Vec<(String, f64)>,
    /// When recording was paused in the span, in seconds.
    pub pauses: Vec<(f64, Option<f64>)>,
    /// The sampling interval at the span's start, where it is known, and its changes: seconds and bytes.
    pub intervals: Vec<(f64, u64)>,
    /// Events that are not in the file, up to the span's end.
    pub lost_events: u64,
    /// What makes the evidence incomplete.
    pub warnings: Vec<String>,
}

/// One quantity over time.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// As machine-readable output names it.
    pub text: &'static str,
    /// As a person reads it.
    pub words: &'static str,
    /// The part that it is of all memory, if it is one.
    pub name: Option<Name>,
    /// At each of the timeline's instants, where it is known.
    pub values: Vec<Option<i64>>,
    /// The most in the span, with seconds; between those instants too, where it was measured there.
    pub peak: Option<(i64, f64)>,
}

impl Series {
    /// The first known value.
    pub fn start(&self) -> Option<i64> {
        self.values.iter().copied().flatten().next()
    }

    /// The last known value.
    pub fn end(&self) -> Option<i64> {
        self.values.iter().rev().copied().flatten().next()
    }

    /// Whether it is nothing all the time.
    pub fn is_zero(&self) -> bool {
        self.values.iter().flatten().all(|value| *value == 0) && self.peak.is_none_or(|(most, _)| most == 0)
    }

    fn new(text: &'static str, words: &'static str, values: Vec<Option<i64>>, times: &[f64]) -> Series {
        let known = times.iter().zip(&values).filter_map(|(time, value)| Some(((*value)?, *time)));
        let peak = most(known);
        Series { text, words, name: None, values, peak }
    }

    fn with_peak(self, others: impl Iterator<Item = (i64, f64)>) -> Series {
        Series { peak: most(self.peak.into_iter().chain(others)), ..self }
    }
}

/// The largest, and of equals the earliest.
fn most(values: impl Iterator<Item = (i64, f64)>) -> Option<(i64, f64)> {
    values.max_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
}

impl Timeline {
    /// Its first and last instant, in seconds since the start of the process.
    pub fn span(&self) -> (f64, f64) {
        let first = self.times.first().copied().unwrap_or(0.0);
        (first, self.times.last().copied().unwrap_or(first))
    }

    /// `server --port 8500, pid 4711: 0.5 s to 20.5 s`
    pub fn title(&self) -> String {
        let (from, to) = self.span();
        format!("{}: {} to {}", self.process, Seconds(from), Seconds(to))
    }

    /// The parts at one of the instants, as areas upon each other: what is negative (memory that was never touched, a live
    /// heap that is overestimated) is taken from the others, the first of them first. So they end at the resident set.
    pub fn areas(&self, at: usize) -> Vec<i64> {
        let values = self.parts.iter().map(|part| part.values.get(at).copied().flatten().unwrap_or(0));
        let mut areas: Vec<i64> = values.collect();
        let mut missing = areas.iter().fold(0i64, |sum, area| sum.saturating_sub((*area).min(0)));
        for area in &mut areas {
            let taken = missing.min((*area).max(0));
            *area = (*area).max(0) - taken;
            missing -= taken;
        }
        areas
    }

    /// The live heap at one of the instants.
    pub fn live(&self, at: usize) -> i64 {
        self.parts.first().and_then(|live| live.values.get(at).copied().flatten()).unwrap_or(0)
    }

    /// The largest value of all.
    pub fn highest(&self) -> i64 {
        let resident = self.resident.iter().filter_map(|series| series.peak).map(|(most, _)| most);
        let live = self.parts.first().and_then(|live| live.peak).map(|(most, _)| most);
        resident.chain(live).max().unwrap_or(0)
    }

    /// The limit, where a picture of the highest value has room for it.
    pub fn limit_in_sight(&self) -> Option<i64> {
        self.limit.filter(|limit| *limit <= self.highest().saturating_mul(3))
    }
}

/// Runs the whole line for a span of one file.
///
/// # Errors
/// Where the file cannot be read any more, or the instants are in the wrong order.
pub fn draw(before: &Input, after: &Input) -> Result<Timeline, Error> {
    match draw_surveyed(before, after) {
        Err(error) if error.is_damage() => draw_surveyed(&before.checked()?, &after.checked()?),
        result => result,
    }
}

fn draw_surveyed(before: &Input, after: &Input) -> Result<Timeline, Error> {
    let (from, to) = (before.at, after.at);
    if from > to {
        return Err(Error::Backwards(before.side(Default::default()), after.side(Default::default())));
    }
    let instants = vec![Instant { at: to, since: to }];
    let plan = Plan { instants, levels: Grid::new(from, to).times().to_vec(), ..Plan::default() };
    let replayed = after.replay(&plan)?;
    let survey = &after.survey;
    let seconds = |time| survey.seconds(time);
    let times: Vec<f64> = replayed.levels.iter().map(|level| seconds(level.at)).collect();
    let (resident, readings) = resident(survey, (from, to), &replayed.levels, &times);
    let (parts, unknown) = parts(survey, &replayed.levels, &times);
    let marks = survey.marks.iter().filter(|(_, time)| (from..=to).contains(time));
    let pauses = survey.pauses.until(to);
    let pauses = pauses.all().iter().filter(|(_, end)| end.is_none_or(|end| end >= from));
    Ok(Timeline {
        path: after.profile.path().to_owned(),
        process: process(survey),
        recording: survey.recording(),
        kinds: kinds(survey, (from, to), &replayed.levels, &times),
        times,
        resident,
        parts,
        unknown,
        readings,
        limit: survey
            .vitals
            .at(Vital::CgroupLimit, to)
            .filter(|limit| *limit < NO_LIMIT)
            .and_then(|limit| i64::try_from(limit).ok()),
        marks: marks.map(|(name, time)| (name.clone(), seconds(*time))).collect(),
        pauses: pauses
            .map(|(begin, end)| (seconds((*begin).max(from)), end.filter(|end| *end <= to).map(seconds)))
            .collect(),
        intervals: intervals(survey, from, to),
        lost_events: replayed.lost_events,
        warnings: file_warnings(after, &replayed),
    })
}

/// Command and process id, as far as the file has them.
fn process(survey: &Survey) -> String {
    let command = survey.fact("command").or(survey.fact("executable")).unwrap_or("unknown");
    let pid = survey.fact("pid").map_or(String::new(), |pid| format!(", pid {pid}"));
    format!("{command}{pid}")
}

/// When the resident set was first read.
fn first_read(vitals: &Vitals) -> Option<Nanos> {
    vitals.resident_times().next()
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn resident(
    survey: &Survey,
    (from, to): (Nanos, Nanos),
    levels: &[Level],
    times: &[f64],
) -> (Option<Series>, Vec<(f64, i64)>) {
    let (vitals, evenly) = (&survey.vitals, Evenly::new(&survey.vitals));
    let Some(first) = first_read(vitals) else { return (None, Vec::new()) };
    let kinds = [Vital::RssAnon, Vital::RssFile, Vital::RssShmem, Vital::Swap];
    let sum = |time| kinds.iter().filter_map(|vital| evenly.at(*vital, time)).fold(0, u64::saturating_add);
    let value = |time| (time >= first).then(|| whole(sum(time)));
    let values: Vec<Option<i64>> = levels.iter().map(|level| value(level.at)).collect();
    let within = vitals.resident_times().filter(|time| (from..=to).contains(time));
    let readings: Vec<(f64, i64)> =
        within.filter_map(|time| Some((survey.seconds(time), whole(vitals.resident(time)?)))).collect();
    let series = Series::new("rss", "resident set and swap", values, times);
    (Some(series.with_peak(readings.iter().map(|(at, bytes)| (*bytes, *at)))), readings)
}

fn kinds(survey: &Survey, (from, to): (Nanos, Nanos), levels: &[Level], times: &[f64]) -> Vec<Series> {
    const KINDS: [(Vital, &str, &str); 4] = [
        (Vital::RssAnon, "rss_anon", "anonymous memory in RAM"),
        (Vital::RssFile, "rss_file", "pages of files in RAM"),
        (Vital::RssShmem, "rss_shmem", "shared memory in RAM"),
        (Vital::Swap, "swap", "anonymous memory in swap"),
    ];
    let (vitals, evenly) = (&survey.vitals, Evenly::new(&survey.vitals));
    let of = |(vital, text, words): (Vital, &'static str, &'static str)| {
        let steps = vitals.series(vital)?;
        let first = first_read(vitals)?;
        let value = |time| evenly.at(vital, time).filter(|_| time >= first).map(whole);
        let values = levels.iter().map(|level| value(level.at)).collect();
        let within = steps.iter().filter(|(time, _)| (from..=to).contains(time));
        let most = within.map(|(time, reading)| (whole(reading.max), survey.seconds(time)));
        Some(Series::new(text, words, values, times).with_peak(most))
    };
    KINDS.into_iter().filter_map(of).collect()
}

/// The parts in the verdict's order; without measurements the live heap alone. And those that were not measured.
fn parts(survey: &Survey, levels: &[Level], times: &[f64]) -> (Vec<Series>, Vec<Name>) {
    let (vitals, evenly) = (&survey.vitals, Evenly::new(&survey.vitals));
    let first = first_read(vitals);
    let at = |level: &Level| {
        let live = LiveGrowth { bytes: level.bytes.value, variance: 0.0 };
        first.filter(|first| level.at >= *first).and_then(|_| Parts::at(&evenly, level.at, live))
    };
    let all: Vec<Option<Parts>> = levels.iter().map(at).collect();
    let live = levels.iter().map(|level| Some(level.bytes.value.round() as i64)).collect();
    let crests =
        levels.iter().map(|level| (level.most.bytes.value.round() as i64, survey.seconds(level.most.time)));
    let live = Series::new(Name::Live.text(), Name::Live.words(), live, times).with_peak(crests);
    let mut series = vec![Series { name: Some(Name::Live), ..live }];
    let mut unknown = Vec::new();
    let Some(last) = all.iter().rev().flatten().next() else { return (series, unknown) };
    // What was inherited is no part of its own: it is in the resident set from the start.
    let others = last.all.iter().filter(|part| part.name != Name::Live && part.name != Name::CopyOnWrite);
    for part in others {
        if !part.is_known {
            unknown.push(part.name);
            continue;
        }
        let values = all.iter().map(|parts| parts.as_ref().map(|parts| parts.get(part.name))).collect();
        let of_part = Series::new(part.name.text(), part.name.words(), values, times);
        series.push(Series { name: Some(part.name), ..of_part });
    }
    (series, unknown)
}

/// The interval in force at the start, as of the start, and its changes in the span.
fn intervals(survey: &Survey, from: Nanos, to: Nanos) -> Vec<(f64, u64)> {
    let changes = &survey.interval_changes;
    let at_start = changes.at(from).map(|bytes| (survey.seconds(from), bytes));
    let within = changes.iter().filter(|(time, _)| from < *time && *time <= to);
    let mut all: Vec<(f64, u64)> =
        at_start.into_iter().chain(within.map(|(time, bytes)| (survey.seconds(time), bytes))).collect();
    all.dedup_by_key(|(_, bytes)| *bytes);
    all
}
