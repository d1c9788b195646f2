//! The writer thread: collects the threads' events and writes the stream.
//!
//! ```text
//!                       every allocation is recorded
//!                     ┌──────────────────────────────▶ Events blocks ──┐
//! buffers ─▶ Source ──┤                                                ├──▶ Output
//!                     └─▶ decode ─▶ Stacks, Samples ─▶ Records blocks ─┘
//!                       allocations are sampled
//! ```
//! It runs below the host's allocator and beside its threads: it takes no lock that the host could hold, and makes no
//! loader call. What goes wrong here ends tracing with one line, and nothing else.
//!
//! But for its sleep and its writes it is at work, and a fork waits for it (see [`safepoint`]).

mod economy;
mod facts;
mod held;
mod images;
mod inherit;
mod mappings;
mod orders;
mod output;
mod progress;
mod samples;
mod segments;
mod source;
mod stacks;
mod threads;
mod vitals;

#[cfg(test)]
mod concurrent;

pub use output::Output;
pub use progress::progress;

use crate::fork::Fork;
use crate::local::{Guard, local};
use crate::settings::{Interval, Settings};
use crate::{
    buffer, clock, control, coverage, descriptors, futex, live, mapping, own_thread, phase, safepoint, say,
    stream, watch,
};
use economy::Economy;
use facts::Facts;
use held::Held;
use images::Images;
use mappings::Mappings;
use orders::Said;
use prof::record::{EXITED, Lost};
use prof::{BlockKind, Event, Generation, Nanos, Record, RecordWriter, ThreadIndex, varint};
use rustc_hash::FxHashMap;
use samples::{Sample, Samples};
use segments::{Origin, Segments};
use source::{Source, State};
use stacks::Stacks;
use std::ffi::c_void;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use threads::Threads;
use vitals::Vitals;

const RUNNING: u32 = 1;
const FINISHING: u32 = 2;
const DONE: u32 = 3;
const FLUSHING: u32 = 4;

/// 0: there is no writer. Written by both sides, waited for by a thread that ends the process or executes a program.
static STATE: AtomicU32 = AtomicU32::new(0);

/// Bytes of the thread's stack.
const STACK: usize = 512 << 10;

/// What the writer keeps; a forked child goes on from its copy.
static WRITER: AtomicPtr<Writer> = AtomicPtr::new(std::ptr::null_mut());

/// How long a process that is about to go waits for its last events to be written.
const LAST_FLUSH: Nanos = Nanos(5_000_000_000);

/// Writes the facts and starts the thread. Signals are to be held back: a write may raise one.
///
/// # Errors
/// Where the facts cannot be written or the thread cannot be created.
pub fn start(output: Output, settings: Settings) -> io::Result<()> {
    safepoint::enter();
    let facts = Facts::new(&settings);
    let mut writer = Box::new(Writer::new(output, settings, facts));
    let path = writer.output.beside(writer.output.path());
    writer.listen(path, Nanos(0));
    writer.begin_file();
    writer.look_first();
    let started = writer.output.flush().and_then(|()| {
        progress::advanced(writer.output.size(), Nanos(0));
        WRITER.store(Box::into_raw(writer), Release);
        launch()
    });
    if started.is_err() {
        control::end();
        safepoint::leave();
    } else if descriptors::wait_until_separate() {
        output::abandon();
    }
    started
}

/// In a forked child that records for the first time: starts its writer. Signals are to be held back.
///
/// # Errors
/// Where the thread cannot be created.
pub fn resume(fork: Fork) -> io::Result<()> {
    safepoint::enter();
    // SAFETY: null, or from the box of the parent's writer. In the child no thread uses it, and `fork::resume` lets only
    // one thread come here.
    let writer = unsafe { WRITER.load(Acquire).as_mut() };
    let writer = writer.ok_or(io::ErrorKind::NotFound)?;
    writer.facts.renew();
    writer.listen(writer.own_path(), fork.time);
    writer.fork = Some(fork);
    let launched = launch();
    if launched.is_err() {
        control::end();
        safepoint::leave();
    }
    launched
}

/// Creates the thread, which begins at work.
fn launch() -> io::Result<()> {
    STATE.store(RUNNING, Release);
    // SAFETY: `run` does not use its argument.
    let created = unsafe { own_thread::spawn(run, std::ptr::null_mut(), STACK) };
    if created.is_err() {
        STATE.store(0, Release);
    }
    created
}

/// How many threads this module has now.
pub fn threads() -> u32 {
    u32::from(STATE.load(Acquire) != 0)
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    own_thread::begin(c"libtrace");
    // SAFETY: `launch` is only called where a box was stored, and this is the process's only writer.
    let mut writer = unsafe { Box::from_raw(WRITER.load(Acquire)) };
    // After a fork the file is the parent's, and the descriptor's number of its writer's table.
    let kept = writer.fork.is_none().then(|| writer.output.descriptor()).flatten();
    descriptors::separate(kept);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run()));
    phase::stop();
    control::end();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            own_thread::say(&format!("stopped tracing: failed to write {}: {error}", writer.output.path()))
        }
        Err(_) => own_thread::say("stopped tracing: the writer failed; this is a defect of libtrace"),
    }
    become_state(DONE);
    WRITER.store(std::ptr::null_mut(), Release);
    drop(writer);
    safepoint::leave();
    // Where the program's threads are gone, the last one calls `exit`, and has the larger stack for it.
    watch::stop();
    crate::vitals::stop();
    control::wait_for_end();
    std::ptr::null_mut()
}

fn become_state(state: u32) {
    STATE.store(state, Release);
    futex::wake(&STATE);
}

/// Has everything written that is under way, ends the stream, and waits for it, but not for ever.
pub fn finish() {
    let deadline = Nanos(clock::now().0 + LAST_FLUSH.0);
    // Another thread may be about to execute a program, and fail.
    futex::wait_while(&STATE, FLUSHING, deadline);
    ask(FINISHING, deadline);
}

/// Has everything written that is under way, and waits for it, but not for ever: the process may be about to go.
pub fn flush() {
    ask(FLUSHING, Nanos(clock::now().0 + LAST_FLUSH.0));
}

fn ask(state: u32, deadline: Nanos) {
    let Some(exchange) = buffer::exchange() else { return };
    if STATE.compare_exchange(RUNNING, state, AcqRel, Acquire).is_err() {
        return;
    }
    exchange.wake_writer();
    if !futex::wait_while(&STATE, state, deadline) {
        say::line("the last events were not written within 5 s");
    }
}

/// In a forked child: there is no writer, and the file is the parent's. Whether the parent was writing.
pub fn abandon() -> bool {
    output::abandon();
    descriptors::forked();
    matches!(STATE.swap(0, AcqRel), RUNNING | FLUSHING)
}

/// Why the file is brought up to date.
#[derive(Clone, Copy)]
enum Flush<'a> {
    /// It is time.
    Due,
    /// Somebody wants to read it: the budget looks at whole stretches only.
    Asked,
    /// The stream ends there, for this reason.
    Ending(&'a str),
}

struct Writer {
    settings: Settings,
    facts: Facts,
    output: Output,
    source: Source,
    images: Images,
    stacks: Stacks,
    samples: Samples,
    threads: Threads,
    mappings: Mappings,
    held: Held,
    vitals: Vitals,
    economy: Option<Economy>,
    /// What the file says was lost.
    lost: FxHashMap<Lost, u64>,
    /// Events that were lost before their thread had a stream.
    uncounted: u64,
    /// All that had been lost when that was last made up for.
    mended: u64,
    segments: Segments,
    /// Where the process was forked from.
    origin: Option<Origin>,
    /// What is to be said at the next flush.
    said: Vec<Said>,
    /// When recording was paused, with 0, and resumed, with the interval: a forked child's file says so too.
    pauses: Vec<(Nanos, u64)>,
    /// The process was forked, and what is here is its parent's.
    fork: Option<Fork>,
}

impl Writer {
    fn new(output: Output, settings: Settings, facts: Facts) -> Writer {
        Writer {
            output,
            images: Images::new(facts.executable()),
            facts,
            source: Source::default(),
            stacks: Stacks::default(),
            samples: Samples::default(),
            threads: Threads::default(),
            mappings: Mappings::default(),
            held: Held::default(),
            vitals: Vitals::default(),
            economy: None,
            lost: FxHashMap::default(),
            uncounted: 0,
            mended: 0,
            segments: Segments::new(&settings),
            origin: None,
            said: Vec::new(),
            pauses: if settings.paused { vec![(Nanos(0), 0)] } else { Vec::new() },
            fork: None,
            settings,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let Some(exchange) = buffer::exchange() else { return Ok(()) };
        if let Some(fork) = self.fork.take() {
            self.inherit(fork)?;
            self.look_first();
        }
        if self.settings.interval == Interval::Auto {
            self.economy.get_or_insert_with(Economy::new).look();
        }
        let mut next = clock::now().0 + self.settings.settle.0;
        let mut look = clock::now().0 + Nanos::SECOND.0;
        loop {
            let pause = next.min(look).saturating_sub(clock::now().0);
            safepoint::outside(|| exchange.sleep(Nanos(pause)));
            if let Some(request) = control::requested() {
                if self.obey(&request)? {
                    return Ok(());
                }
                next = clock::now().0 + self.settings.settle.0;
            }
            let state = STATE.load(Acquire);
            let is_time = clock::now().0 >= look;
            if is_time {
                look = clock::now().0 + Nanos::SECOND.0;
            }
            // The process ends with its last thread. That is this one then: it ends too, and the C library calls `exit`.
            let own = own_thread::running();
            let is_last = is_time && threads::are_gone(own);
            let ending = match state {
                FINISHING => Some(EXITED),
                FLUSHING => Some("the process executed another program"),
                _ if is_last => Some("the last thread ended"),
                _ => None,
            };
            if ending.is_some() {
                safepoint::outside(crate::vitals::look_again);
            }
            if ending.is_some() || clock::now().0 >= next {
                self.flush(ending.map_or(Flush::Due, Flush::Ending))?;
                next = clock::now().0 + self.settings.settle.0;
            } else {
                self.collect(false)?;
            }
            match state {
                _ if is_last => return Ok(()),
                FINISHING => return Ok(()),
                // The program may not be there to be executed.
                FLUSHING => become_state(RUNNING),
                _ => {}
            }
        }
    }

    /// What the process has before the program, or what a forked child does, begins: all that comes after is growth.
    fn look_first(&mut self) {
        let mut records = RecordWriter::new(clock::now());
        self.vitals.push(&mut records, clock::now(), false, &self.mappings, &self.held);
        self.output.block(BlockKind::Records, records.time(), records.payload());
    }

    /// Takes what the threads have; with `current` also from buffers that are still being filled.
    fn collect(&mut self, current: bool) -> io::Result<()> {
        let Writer { settings, output, source, images, stacks, samples, threads, mappings, .. } = self;
        mapping::collect(|change| mappings.apply(change));
        let every = settings.interval.is_every();
        let mut failed = None;
        source.collect(current, |index, state, bytes| {
            if every {
                failed = failed.take().or(pass_on(output, images, index, bytes).err());
            } else {
                settle(stacks, samples, threads, state, bytes);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Brings the file up to date. A file that is full ends there.
    fn flush(&mut self, why: Flush) -> io::Result<()> {
        let ending = match why {
            Flush::Ending(reason) => Some(reason),
            Flush::Due | Flush::Asked => None,
        };
        let is_full = ending.is_none() && self.segments.is_full(&self.output);
        let ending = ending.or(is_full.then_some(segments::FULL));
        clock::begin_round();
        let complete = clock::now();
        self.collect(true)?;
        self.mend();
        self.held.meet(&mut self.stacks);
        let mut records = RecordWriter::new(clock::now());
        for path in coverage::take() {
            self.facts.add("uncovered_caller", path, &mut records);
        }
        self.images.push(&mut records);
        self.threads.look(&mut records);
        self.stacks.push(&mut records, |records| self.output.spill(records));
        self.samples.push(&mut records, &mut self.threads, ending.is_some());
        self.held.push(&mut records, &self.mappings);
        self.vitals.push(&mut records, complete, ending.is_some(), &self.mappings, &self.held);
        self.stacks.forget_unused(|| self.samples.nodes());
        if matches!(why, Flush::Due) {
            self.adapt(&mut records);
        }
        self.threads.end(&mut records);
        self.threads.forget_unused(|| self.samples.threads());
        self.push_lost(&mut records);
        self.said.drain(..).for_each(|said| said.push(&mut records, complete));
        records.push(&Record::Complete { time: complete });
        if let Some(reason) = ending {
            records.push(&Record::End { reason });
        }
        self.output.block(BlockKind::Records, records.time(), records.payload());
        self.output.flush()?;
        if is_full {
            self.begin_segment(complete)?;
        }
        progress::advanced(self.output.size(), complete);
        Ok(())
    }

    /// Where the interval is ours to choose: chooses the next, and says so.
    fn adapt(&mut self, records: &mut RecordWriter) {
        if phase::is_paused() {
            return;
        }
        if let Some(bytes) = self.economy.as_mut().and_then(Economy::next) {
            phase::set_interval(bytes);
            records.push(&Record::Interval { time: records.time(), bytes });
        }
    }

    /// Where events have been lost, samples may seem to live for ever: the table of live blocks knows better.
    fn mend(&mut self) {
        if self.settings.interval.is_every() {
            return;
        }
        self.samples.bury(clock::now());
        let lost = stream::lost(Lost::BackPressure) + stream::lost(Lost::Reentrant) + self.uncounted;
        if std::mem::replace(&mut self.mended, lost) != lost {
            self.samples.miss(&live::samples().collect());
        }
    }

    fn push_lost(&mut self, records: &mut RecordWriter) {
        self.uncounted += stream::take_uncounted();
        for reason in Lost::ALL {
            let uncounted = if reason == Lost::Reentrant { self.uncounted } else { 0 };
            let lost = stream::lost(reason) + uncounted;
            let written = self.lost.entry(reason).or_default();
            if lost > *written {
                records.push(&Record::Lost { reason, events: lost - *written });
                *written = lost;
            }
        }
        progress::lost(self.lost.values().sum());
    }
}

/// Writes a stream's events as they are, behind the definitions of the images they speak of.
fn pass_on(output: &mut Output, images: &mut Images, stream: u32, bytes: &[u8]) -> io::Result<()> {
    let mut records = RecordWriter::new(clock::now());
    images.push(&mut records);
    if !records.payload().is_empty() {
        output.block(BlockKind::Records, records.time(), records.payload());
    }
    event_block(output, stream, bytes);
    output.flush_when_full()
}

fn event_block(output: &mut Output, stream: u32, bytes: &[u8]) {
    let mut index = Vec::with_capacity(varint::MAX_LEN);
    varint::push(&mut index, stream.into());
    output.events(clock::now(), &index, bytes);
}

/// Takes a stream's events into the samples.
fn settle(
    stacks: &mut Stacks,
    samples: &mut Samples,
    threads: &mut Threads,
    state: &mut State,
    mut bytes: &[u8],
) {
    // Bytes come whole from our own encoder, so an error would be a defect; the rest of the stretch is then skipped.
    while let Ok(Some(event)) = state.decoder.next(&mut bytes) {
        match event {
            Event::Interval(interval) => state.interval = interval,
            Event::Generation(Generation(generation)) => {
                state.generation = generation;
                state.stack.clear();
            }
            Event::Thread { thread, tid, stamp, name } => {
                state.thread = thread.0;
                threads.introduced(thread, tid, stamp, &name);
            }
            Event::ThreadEnd { stamp } => threads.ended(ThreadIndex(state.thread), stamp),
            Event::Alloc { key, stamp, size, kept, site } => {
                state.stack.truncate(kept);
                state.stack.extend_from_slice(state.decoder.pushed(site));
                let node = stacks.intern(state.generation, &state.stack);
                let (thread, interval) = (ThreadIndex(state.thread), state.interval);
                samples.born(key, Sample { node, thread, time: stamp, size, interval });
            }
            Event::Free { key, stamp } => samples.died(key, stamp),
            // In sampled mode a realloc is a free and an allocation.
            Event::Realloc { .. } | Event::Site(_) => {}
        }
    }
}
