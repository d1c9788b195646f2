//! What a file says about itself: everything but its events and stacks, in bounded memory.

use crate::estimate::Estimate;
use crate::pauses::Pauses;
use crate::threads::Threads;
use crate::units::Bytes;
use crate::vitals::{Steps, Vitals};
use prof::read::What;
use prof::record::EXITED;
use prof::{Damage, Generation, Header, Lost, ModuleId, Nanos, Record, RunId, weight};
use std::fmt;
use std::path::PathBuf;

/// An image that was loaded at some time.
#[derive(Clone, PartialEq, Debug)]
pub struct Image {
    /// Its number in the file.
    pub id: ModuleId,
    /// As the loader knew it.
    pub path: String,
    /// Build-id in hex, or the content hash.
    pub identity: String,
    /// First generation of the module map that has it, and the first without it.
    pub generations: (Generation, Option<Generation>),
}

/// Changes of the sampling interval that are kept.
const INTERVAL_CHANGES: usize = 1024;

/// What a file says about itself; everything but events and stacks.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Version and run id.
    pub header: Header,
    /// Whether every block was read, or those of events passed over.
    is_checked: bool,
    /// Key and value, in the order of the file.
    pub facts: Vec<(String, String)>,
    /// Named instants, in the order of the file.
    pub marks: Vec<(String, Nanos)>,
    /// When recording was paused.
    pub pauses: Pauses,
    /// Those that records tell of; others are in the events.
    pub threads: Threads,
    /// In order of first appearance.
    pub images: Vec<Image>,
    /// Events that are not in the file, by reason.
    pub lost: Vec<(Lost, u64)>,
    /// Where the process comes from, if it was forked from a traced one.
    pub fork: Option<Fork>,
    /// Where the file is not the first of its process.
    pub segment: Option<Segment>,
    /// Why the stream ended, where it ended as intended.
    pub ended: Option<String>,
    /// What is wrong with the rest.
    pub damage: Option<Damage>,
    /// Length up to which blocks are sound.
    pub sound_bytes: u64,
    /// Sound blocks.
    pub blocks: u64,
    /// Records by kind.
    pub records: Records,
    /// Bytes of event streams.
    pub event_bytes: u64,
    complete: Option<Nanos>,
    pub(crate) last_block: Nanos,
    /// The smallest and the largest that the tracer chose, in bytes.
    intervals: Option<(u64, u64)>,
    /// When the tracer chose which sampling interval, in bytes.
    pub interval_changes: Steps<u64>,
    /// What was measured of the process as a whole.
    pub vitals: Vitals,
}

/// Where a process that was forked comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct Fork {
    /// When it was forked.
    pub time: Nanos,
    /// The parent's run.
    pub run: RunId,
    /// The parent's file, where it was recorded.
    pub path: PathBuf,
    /// Where every allocation is recorded: how much of that file is the process's past.
    pub bytes: u64,
}

/// Where a file begins that goes on from an earlier one: with what was live then.
#[derive(Clone, PartialEq, Debug)]
pub struct Segment {
    /// When.
    pub time: Nanos,
    /// Its number; the process's first file is number 1.
    pub number: u64,
    /// The file before, where it was recorded.
    pub path: PathBuf,
    /// Bytes allocated since the start, up to here.
    pub bytes: u64,
    /// Blocks likewise.
    pub blocks: u64,
}

impl Segment {
    /// What had been allocated before.
    pub fn allocated(&self, survey: &Survey) -> Estimate {
        Estimate::of_sums(self.bytes as f64, self.blocks as f64, survey.interval_at(None))
    }
}

/// How densely allocations were recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recording {
    /// All of them.
    Every,
    /// Samples.
    Sampled {
        /// The smallest and the largest mean interval in force, in bytes, where the file says.
        intervals: Option<(u64, u64)>,
    },
}

impl Recording {
    /// That of two files together.
    pub fn with(self, other: Recording) -> Recording {
        match (self, other) {
            (Recording::Every, other) | (other, Recording::Every) => other,
            (Recording::Sampled { intervals: a }, Recording::Sampled { intervals: b }) => {
                let both = a.zip(b).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
                Recording::Sampled { intervals: both.or(a).or(b) }
            }
        }
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Recording::Every => write!(f, "every allocation recorded"),
            Recording::Sampled { intervals: None } => write!(f, "estimated from samples"),
            Recording::Sampled { intervals: Some((low, high)) } if low == high => {
                write!(f, "estimated from samples every {}", Bytes(low as f64))
            }
            Recording::Sampled { intervals: Some((low, high)) } => {
                write!(f, "estimated from samples every {} to {}", Bytes(low as f64), Bytes(high as f64))
            }
        }
    }
}

/// Numbers of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Records {
    /// Of every kind.
    pub all: u64,
    /// Nodes of the stack tree.
    pub nodes: u64,
    /// Samples that outlived the settle time.
    pub samples: u64,
    /// Of which freed.
    pub freed: u64,
    /// Sums of samples that did not.
    pub folded: u64,
}

impl Survey {
    pub(crate) fn new(header: Header, is_checked: bool) -> Survey {
        Survey {
            header,
            is_checked,
            facts: Vec::new(),
            marks: Vec::new(),
            pauses: Pauses::default(),
            threads: Threads::default(),
            images: Vec::new(),
            lost: Vec::new(),
            fork: None,
            segment: None,
            ended: None,
            damage: None,
            sound_bytes: prof::header::LEN as u64,
            blocks: 0,
            records: Records::default(),
            event_bytes: 0,
            complete: None,
            last_block: Nanos::default(),
            intervals: None,
            interval_changes: Steps::new(INTERVAL_CHANGES),
            vitals: Vitals::default(),
        }
    }

    /// Whether the file states nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.all == 0 && self.event_bytes == 0
    }

    /// Whether the file turns out to be less than the survey took for sound.
    pub fn is_refuted_by(&self, damage: Damage) -> bool {
        !self.is_checked && matches!(damage, Damage::Corrupt { what: What::Checksum, .. })
    }

    /// The last instant of which everything is in the file.
    pub fn end(&self) -> Nanos {
        self.complete.unwrap_or(self.last_block)
    }

    /// Whether the file goes on to the end of its process, which ended by itself.
    pub fn has_exited(&self) -> bool {
        self.ended.as_deref() == Some(EXITED)
    }

    /// The first instant of the process that tracing saw.
    fn origin(&self) -> Nanos {
        self.fork.as_ref().map_or(Nanos(0), |fork| fork.time)
    }

    /// The first instant that can be known from the file.
    pub fn start(&self) -> Nanos {
        self.segment.as_ref().map_or(self.origin(), |segment| segment.time)
    }

    /// Whether the file says of any instant that everything before it is there.
    pub fn is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// The value of a fact.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whose allocations the tracer could not see, in a sentence about the file at `path`.
    pub fn uncovered(&self, path: &str) -> Option<String> {
        if let Some(owner) = self.fact("uncovered") {
            let what = "has a malloc of its own ahead of the tracer: what it gives out is not recorded";
            return Some(format!("{path}: {owner} {what}"));
        }
        let callers = self.facts.iter().filter(|(key, _)| key == "uncovered_caller");
        let callers: Vec<&str> = callers.map(|(_, path)| path.as_str()).collect();
        let what =
            "malloc past the tracer: what is allocated there is not recorded, what is freed there seems live";
        (!callers.is_empty()).then(|| format!("{path}: calls of {}: {what}", callers.join(", ")))
    }

    /// How long the process had lived when tracing started.
    pub fn process_age(&self) -> Nanos {
        Nanos(self.fact("process_age_ns").and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Seconds from the start of the process to `time`.
    pub fn seconds(&self, time: Nanos) -> f64 {
        Nanos(self.process_age().0.saturating_add(time.0.saturating_sub(self.origin().0))).seconds()
    }

    /// The instant at a time since the start of the process.
    pub fn instant(&self, since_start: Nanos) -> Nanos {
        Nanos(self.origin().0.saturating_add(since_start.0.saturating_sub(self.process_age().0)))
    }

    /// How densely allocations were recorded.
    pub fn recording(&self) -> Recording {
        match self.fact("interval") {
            Some("every") => Recording::Every,
            fixed => {
                let fixed = fixed.and_then(|bytes| bytes.parse().ok()).map(|bytes| (bytes, bytes));
                let fixed = Recording::Sampled { intervals: fixed };
                fixed.with(Recording::Sampled { intervals: self.intervals })
            }
        }
    }

    /// The sampling interval in force at an instant, in bytes; the largest, where that is not known.
    pub fn interval_at(&self, time: Option<Nanos>) -> u64 {
        let largest = match self.recording() {
            Recording::Every => weight::EVERY,
            Recording::Sampled { intervals } => intervals.map_or(weight::EVERY, |(_, largest)| largest),
        };
        time.and_then(|time| self.interval_changes.at_or_first(time)).unwrap_or(largest)
    }

    /// What dies within this time dies young. Where samples are recorded, it counts as allocated, and is never live.
    pub fn settle_time(&self) -> Nanos {
        Nanos(self.fact("settle_ns").and_then(|text| text.parse().ok()).unwrap_or(1_000_000_000))
    }

    /// Events that are not in the file.
    pub fn lost_events(&self) -> u64 {
        self.lost.iter().fold(0, |sum, (_, events)| sum.saturating_add(*events))
    }

    pub(crate) fn note(&mut self, record: &Record) {
        self.records.all += 1;
        match *record {
            Record::Fact { key, value } => self.facts.push((key.to_owned(), value.to_owned())),
            Record::Module { id, generation, identity, path, .. } => self.images.push(Image {
                id,
                path: path.to_owned(),
                identity: crate::modules::identity_text(identity),
                generations: (generation, None),
            }),
            Record::ModuleGone { id, generation } => {
                if let Some(image) = self.images.iter_mut().rev().find(|image| image.id == id) {
                    image.generations.1 = Some(generation);
                }
            }
            Record::Thread { thread, tid, start, name } => self.threads.note(thread, tid, start, name),
            Record::ThreadEnd { thread, time } => self.threads.end(thread, time),
            Record::Generation(_) | Record::Held { .. } => {}
            Record::Vitals { time, ref values } => self.vitals.note(time, values),
            Record::Arena { time, arena, system, free } => self.vitals.note_arena(time, arena, system, free),
            Record::Node { .. } => self.records.nodes += 1,
            Record::Sample { .. } => self.records.samples += 1,
            Record::Freed { .. } => self.records.freed += 1,
            Record::Folded { .. } => self.records.folded += 1,
            Record::Lost { reason, events, .. } => match self.lost.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, sum)) => *sum = sum.saturating_add(events),
                None => self.lost.push((reason, events)),
            },
            Record::Mark { time, name } => self.marks.push((name.to_owned(), time)),
            Record::Complete { time } => {
                self.complete = self.complete.max(Some(time));
                self.ended = None;
            }
            Record::Fork { time, run, path, bytes } => {
                self.fork = Some(Fork { time, run, path: path.into(), bytes });
            }
            Record::Segment { time, number, path, blocks, bytes } => {
                self.segment = Some(Segment { time, number, path: path.into(), bytes, blocks });
            }
            Record::End { reason } => self.ended = Some(reason.to_owned()),
            Record::Interval { time, bytes } => {
                self.pauses.note(time, bytes);
                if bytes > 0 {
                    self.interval_changes.push(time, bytes);
                    let (low, high) = self.intervals.unwrap_or((bytes, bytes));
                    self.intervals = Some((low.min(bytes), high.max(bytes)));
                }
            }
        }
    }
}
