//! A finding in plain words: what happened, and what to do about it.

use crate::estimate::{Estimated, Sum};
use crate::shape::{Development, Kind};
use crate::survey::Survey;
use crate::units::{Bytes, Count, Duration, Net, Rate, Seconds, interval, with_interval};
use crate::verdict::{Class, Finding, Limit, Name, Parts};
use crate::weigh::LARGE;
use prof::Nanos;
use prof::record::Vital;

/// Something that is named in a sentence: a function, and what it has.
#[derive(Clone, PartialEq, Debug)]
pub struct Subject {
    /// The function, and its nearest callers.
    pub name: String,
    /// Bytes.
    pub bytes: Estimated,
    /// How many: threads or mappings.
    pub count: u64,
    /// Its slope, where it grows steadily.
    pub slope: Option<Estimated>,
    /// Bytes per mark.
    pub per_mark: Option<Estimated>,
}

/// Growth of the live heap at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// When.
    pub at: Nanos,
    /// By so many bytes.
    pub height: Estimated,
    /// The mark that it goes with.
    pub mark: Option<String>,
}

/// What sentences are made of.
#[derive(Debug)]
pub struct Figures<'a> {
    /// What was found.
    pub finding: &'a Finding,
    /// What the file says about itself.
    pub survey: &'a Survey,
    /// The live heap as a whole.
    pub heap: &'a Development,
    /// The end of the span.
    pub end: Nanos,
    /// As it is typed of a file F.
    pub last: &'static str,
    /// The stack that grows most.
    pub grower: Option<Subject>,
    /// The stack that most threads were created by.
    pub creator: Option<Subject>,
    /// The stack that most was mapped by.
    pub mapper: Option<Subject>,
    /// Where the live heap grew at one moment.
    pub step: Option<Step>,
    /// Live bytes at the peak, and those of large blocks among them; where the allocator holds memory.
    pub peak: Option<(Sum, Sum)>,
}

/// The verdict's sentences, the first of which says it all.
pub fn verdict(figures: &Figures) -> Vec<String> {
    let mut said = match figures.finding.class {
        Class::LiveGrowth => live_growth(figures),
        Class::AllocatorRetention => retention(figures),
        Class::ThreadGrowth => thread_growth(figures),
        Class::MappedGrowth => mapped_growth(figures),
        Class::CopyOnWrite => copy_on_write(figures),
        Class::WarmUp => warm_up(figures),
        Class::None => none(figures),
    };
    if figures.finding.whole.is_none() {
        said.push(
            "The recording has no measurements of the process's memory: this is about the live heap alone."
                .to_owned(),
        );
    }
    said.extend(figures.finding.limit.as_ref().map(limit));
    said
}

fn live_growth(figures: &Figures) -> Vec<String> {
    let fit = figures.heap.shape.fit;
    let mut said = vec![match figures.heap.shape.grows() {
        true => format!(
            "The live heap grows by {}{} and has not stopped: a leak, or a cache without a limit.",
            rate(fit.slope),
            between(fit.ci95())
        ),
        false => "Some stacks allocate more than is freed, and have not stopped: a leak, or a cache without a limit."
            .to_owned(),
    }];
    said.extend(figures.finding.parts().filter(|parts| parts.growth > 0).map(|parts| {
        let heap = parts.get(Name::Live) + parts.get(Name::AllocatorOverhead);
        format!(
            "{} {} of it is live heap with the allocator's overhead.",
            grew_by(figures, parts),
            bytes(heap),
        )
    }));
    said.extend(figures.grower.as_ref().map(|grower| {
        let slope = grower.slope.map_or(String::new(), |slope| format!(", {}", with_interval(slope, rate)));
        let mark = |bytes| format!(", {} per mark", with_interval(bytes, Bytes));
        let mark = grower.per_mark.map_or(String::new(), mark);
        format!("Most comes from {}: {}{slope}{mark}.", grower.name, with_interval(grower.bytes, Bytes))
    }));
    said
}

/// What a part that grew does now.
fn now(figures: &Figures) -> &'static str {
    if figures.finding.grows { "still growing" } else { "no longer growing" }
}

fn retention(figures: &Figures) -> Vec<String> {
    let Some(parts) = figures.finding.parts() else { return Vec::new() };
    let mut said = vec![format!(
        "Not a leak: the allocator holds {} that the program has freed, and it {}.",
        bytes(parts.get(Name::AllocatorHeld)),
        if figures.finding.grows { "still grows" } else { "has stopped growing" }
    )];
    said.push(format!(
        "{} The live heap grew by {} of that.",
        grew_by(figures, parts),
        with_interval(parts.estimated(Name::Live), Net)
    ));
    said.extend(
        sawtooth(figures).map(|sawtooth| format!("The {sawtooth}; what is freed waits for the next time.")),
    );
    said.extend(arenas(figures));
    let stacks = parts.get(Name::ThreadStacks);
    if stacks > parts.growth / 20 {
        said.push(format!("Another {} are stacks of threads.", bytes(stacks)));
        said.extend(created_by(figures));
    }
    said
}

/// `live heap goes up and down by 290 MiB every 2.4 s`, where it does.
fn sawtooth(figures: &Figures) -> Option<String> {
    match figures.heap.shape.kind {
        Kind::Sawtooth { period, amplitude } if amplitude.value >= figures.finding.least => Some(format!(
            "live heap goes up and down by {} every {}",
            with_interval(amplitude, Bytes),
            with_interval(period, Duration)
        )),
        _ => None,
    }
}

/// `12 arenas have 1.2 GiB from the system, of which 1.1 GiB is free.`
fn arenas(figures: &Figures) -> Option<String> {
    let arenas = figures.survey.vitals.arenas(figures.end);
    let (system, free) = arenas.iter().fold((0u64, 0u64), |(system, free), (_, arena)| {
        (system.saturating_add(arena.system), free.saturating_add(arena.free))
    });
    (!arenas.is_empty()).then(|| {
        format!(
            "{} arenas have {} from the system, of which {} are free.",
            arenas.len(),
            Bytes(system as f64),
            Bytes(free as f64)
        )
    })
}

fn thread_growth(figures: &Figures) -> Vec<String> {
    let Some(parts) = figures.finding.parts() else { return Vec::new() };
    let mut said = vec![format!(
        "The stacks of threads grew by {}, not the heap; {}.",
        bytes(parts.get(Name::ThreadStacks)),
        now(figures)
    )];
    said.push(grew_by(figures, parts));
    said.extend(figures.finding.threads.map(|(most, now)| {
        format!("There are {} threads at the end, {} at most.", Count(now as f64), Count(most as f64))
    }));
    said.extend(created_by(figures));
    said
}

fn created_by(figures: &Figures) -> Option<String> {
    let creator = figures.creator.as_ref()?;
    let (name, count) = (&creator.name, Count(creator.count as f64));
    Some(format!("Most threads are created by {name}: {count} of them."))
}

/// What most of the memory is that is neither the heap nor stacks of threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mapped {
    /// Anonymous memory.
    Itself,
    /// Memory that processes can share, as under /dev/shm.
    Shared,
    /// Pages of files, as of libraries.
    Files,
}

impl Mapped {
    fn most(figures: &Figures, parts: &Parts) -> Mapped {
        let grown = |vital| {
            let at = |time| figures.survey.vitals.at(vital, time).unwrap_or(0) as i64;
            at(parts.to) - at(parts.from)
        };
        if parts.get(Name::Mapped) >= parts.get(Name::FileShm) {
            Mapped::Itself
        } else if grown(Vital::RssShmem) >= grown(Vital::RssFile) {
            Mapped::Shared
        } else {
            Mapped::Files
        }
    }
}

fn mapped_growth(figures: &Figures) -> Vec<String> {
    let Some(parts) = figures.finding.parts() else { return Vec::new() };
    let most = Mapped::most(figures, parts);
    let (what, part) = match most {
        Mapped::Itself => ("Memory that the program maps itself", Name::Mapped),
        Mapped::Shared => ("Shared memory", Name::FileShm),
        Mapped::Files => ("Memory that holds pages of files", Name::FileShm),
    };
    let mut said =
        vec![format!("{what} grew by {}, not the heap; {}.", bytes(parts.get(part)), now(figures))];
    said.push(grew_by(figures, parts));
    said.extend(figures.mapper.as_ref().filter(|_| most == Mapped::Itself).map(|mapper| {
        format!(
            "Most is mapped by {}: {} in {} mappings.",
            mapper.name,
            Bytes(mapper.bytes.value),
            Count(mapper.count as f64)
        )
    }));
    said
}

fn mapped_advice(most: Mapped) -> Vec<String> {
    let advice: &[&str] = match most {
        Mapped::Itself => &[
            "Look for the mmap of the stacks below without its munmap.",
            "Python's own small objects are such memory: PYTHONMALLOC=malloc makes them part of the heap, and shows \
             their stacks.",
        ],
        Mapped::Shared => &[
            "Look in /dev/shm for files that are not removed, as of workers that pass tensors to each other, and for \
             shared mappings without their munmap.",
        ],
        Mapped::Files => &[
            "They are of libraries that were loaded and of files that were mapped. The kernel takes such pages back \
             where memory is short, unless they were changed or are locked: alone they lead to no OOM kill.",
        ],
    };
    advice.iter().copied().map(str::to_owned).collect()
}

fn copy_on_write(figures: &Figures) -> Vec<String> {
    let Some(parts) = figures.finding.parts() else { return Vec::new() };
    vec![
        format!(
            "Not growth of the heap: {} of pages that this process inherited when it was forked have become its own, as \
             they were written to (copy-on-write).",
            bytes(parts.get(Name::CopyOnWrite))
        ),
        format!(
            "The live heap grew by {}, and the resident set by {}.",
            with_interval(parts.estimated(Name::Live), Net),
            Net(parts.rss_growth as f64)
        ),
    ]
}

fn warm_up(figures: &Figures) -> Vec<String> {
    let mut said = vec![match &figures.step {
        Some(Step { at, height, mark }) => format!(
            "The live heap grew at one moment, by {} at {}{}, and has not grown since: a step, and no leak unless it comes \
             again.",
            with_interval(*height, Bytes),
            Seconds(figures.survey.seconds(*at)),
            mark.as_ref().map_or(String::new(), |mark| format!(", at the mark '{mark}'")),
        ),
        None => "Memory grew and has stopped growing: a warm-up that has ended.".to_owned(),
    }];
    said.extend(figures.finding.parts().map(|parts| {
        let largest = parts.all.iter().max_by_key(|part| part.bytes);
        let most = largest.map_or(String::new(), |part| format!(" Most of it is {}.", subject(part.name)));
        format!("{}{most}", grew_by(figures, parts))
    }));
    said
}

fn none(figures: &Figures) -> Vec<String> {
    match figures.finding.parts().filter(|_| figures.finding.grows) {
        Some(parts) if parts.get(Name::Unexplained) * 2 > parts.growth => vec![
            "Memory grows, but not by anything that was measured: not the heap, threads or mappings that were seen."
                .to_owned(),
            grew_by(figures, parts),
        ],
        _ => {
            let mut said = vec![match sawtooth(figures) {
                Some(sawtooth) => format!("Nothing grows that counts: the {sawtooth}."),
                None => "Nothing grows that counts.".to_owned(),
            }];
            said.extend(figures.finding.parts().map(|parts| grew_by(figures, parts)));
            said
        }
    }
}

/// A part in the middle of a sentence.
fn subject(name: Name) -> &'static str {
    name.words().split(':').next().unwrap_or("")
}

/// `From 12.0 s to 2m00s the process grew by 61.2 MiB.`
fn grew_by(figures: &Figures, parts: &Parts) -> String {
    let at = |time| Seconds(figures.survey.seconds(time));
    format!("From {} to {} the process grew by {}.", at(parts.from), at(parts.to), bytes(parts.growth))
}

fn limit(limit: &Limit) -> String {
    let used = format!(
        "The control group's limit is {}, and {} of it is used",
        Bytes(limit.bytes as f64),
        Bytes(limit.used as f64)
    );
    let kills = match limit.oom_kills {
        0 => String::new(),
        1 => " The OOM killer has ended a process of the group.".to_owned(),
        n => format!(" The OOM killer has ended {n} processes of the group."),
    };
    match limit.reached_in {
        Some((seconds, (low, high))) => {
            let range = match low < high {
                true => format!(" ({} – {})", Duration(low), Duration(high)),
                false => String::new(),
            };
            format!("{used}: at this rate it will be reached in {}{range}.{kills}", Duration(seconds))
        }
        None => format!("{used}.{kills}"),
    }
}

/// What to do about it, one thing a line.
pub fn advice(figures: &Figures) -> Vec<String> {
    let vitals = &figures.survey.vitals;
    let at_end = |vital| vitals.at(vital, figures.end);
    match figures.finding.class {
        Class::LiveGrowth => vec![
            "Look at the stacks below that are steady: each line says where the memory is allocated, not where it \
             should be freed."
                .to_owned(),
            format!("See it as a picture: analyzer diff F@50% {} -o growth.svg", figures.last),
        ],
        Class::AllocatorRetention => retention_advice(figures),
        Class::ThreadGrowth => {
            let stacks = at_end(Vital::ThreadStacks).zip(at_end(Vital::Threads).filter(|threads| *threads > 0));
            let each = stacks.map_or(String::new(), |(stacks, threads)| {
                format!(" ({} of address space each)", Bytes((stacks / threads) as f64))
            });
            vec![
                "End and join the threads that are no longer needed, or limit the pool that creates them.".to_owned(),
                format!("Smaller stacks: ulimit -s, or pthread_attr_setstacksize{each}."),
            ]
        }
        Class::MappedGrowth => {
            let parts = figures.finding.parts();
            parts.map_or(Vec::new(), |parts| mapped_advice(Mapped::most(figures, parts)))
        }
        Class::CopyOnWrite => vec![
            "Keep what workers read in few large blocks without reference counts: a numpy array or a tensor in place of a \
             list of Python objects."
                .to_owned(),
            "In Python, gc.freeze() before the fork keeps the collector from writing to inherited objects.".to_owned(),
        ],
        Class::WarmUp | Class::None => Vec::new(),
    }
}

fn retention_advice(figures: &Figures) -> Vec<String> {
    let Figures { survey, finding, .. } = figures;
    let at_end = |vital| survey.vitals.at(vital, figures.end);
    let allocator = survey.fact("allocator").unwrap_or("");
    let file = allocator.rsplit('/').next().unwrap_or("");
    let known = ["jemalloc", "tcmalloc", "mimalloc"].into_iter().find(|name| file.contains(name));
    let free = at_end(Vital::AllocatorSystem).zip(at_end(Vital::AllocatorInUse));
    let free = free.map_or(0, |(system, in_use)| {
        system.saturating_sub(in_use).saturating_sub(at_end(Vital::AllocatorReleased).unwrap_or(0))
    });
    let mut advice = vec![format!(
        "The proof, while it runs: analyzer ctl {} trim has the allocator return what it can of {} that are free.",
        survey.fact("pid").unwrap_or("PID"),
        Bytes(free as f64)
    )];
    if let Some(known) = known {
        advice.push(returning(known).to_owned());
        return advice;
    }
    advice.push("In the program: malloc_trim(0) from time to time, as after a burst or an epoch.".to_owned());
    advice.extend(at_end(Vital::Arenas).filter(|arenas| *arenas > 2).map(|arenas| {
        let threads = finding.threads.map_or(String::new(), |(most, _)| format!(" for up to {most} threads"));
        format!("MALLOC_ARENA_MAX=2 in the environment: there are {arenas} arenas{threads}.")
    }));
    advice.extend(
        threshold(figures).map(|why| format!("MALLOC_MMAP_THRESHOLD_=131072 in the environment: {why}.")),
    );
    advice.push(
        "Another allocator: LD_PRELOAD=\"libtrace.so libjemalloc.so.2\" shows what it would hold.".to_owned(),
    );
    if let Some((most, _)) = finding.threads.filter(|(most, _)| *most > 16) {
        advice.push(format!(
            "Fewer threads: there were {most}, and what each has freed waits for its own use."
        ));
    }
    advice
}

/// How another allocator is told to return more.
fn returning(allocator: &str) -> &'static str {
    match allocator {
        "jemalloc" => {
            "MALLOC_CONF=background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0 in the environment: jemalloc then returns \
             what has been free for a second."
        }
        "tcmalloc" => {
            "TCMALLOC_RELEASE_RATE=10 in the environment, or MallocExtension::ReleaseFreeMemory() from time to time."
        }
        _ => "MIMALLOC_PURGE_DELAY=0 in the environment: mimalloc then returns what is free at once.",
    }
}

/// Why glibc's threshold for blocks that are mapped one by one, and returned when they are freed, should be fixed: it is
/// known to have been raised, or more is held than the small blocks of the peak.
fn threshold(figures: &Figures) -> Option<String> {
    if let Some(threshold) = figures.survey.vitals.at(Vital::MapThreshold, figures.end) {
        let raised = format!(
            "glibc has raised its threshold to {}, and keeps freed blocks up to that size",
            Bytes(threshold as f64)
        );
        return (threshold > LARGE).then_some(raised);
    }
    let held = figures.finding.parts()?.get(Name::AllocatorHeld) as f64;
    let (live, large) = figures.peak?;
    (large.value > 0.25 * held && live.value - large.value < 0.75 * held).then(|| {
        format!(
            "{} of what was live at the peak were blocks of {} and more. glibc maps such blocks one by one and returns each \
             when it is freed, until it raises the threshold by itself; set, it stays",
            with_interval(large, Bytes),
            Bytes(LARGE as f64)
        )
    })
}

fn rate(slope: f64) -> String {
    Rate(slope).to_string().trim_start_matches('+').to_owned()
}

/// ` (95 % interval 3.60 – 4.30 MiB/s)`; nothing where it is exact.
fn between((low, high): (f64, f64)) -> String {
    if low == high { String::new() } else { format!(" (95 % interval {})", interval((low, high), rate)) }
}

fn bytes(value: i64) -> String {
    Bytes(value as f64).to_string()
}
