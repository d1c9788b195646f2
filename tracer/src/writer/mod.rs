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

mod economy;
mod facts;
mod images;
mod output;
mod samples;
mod source;
mod stacks;
mod threads;

pub use output::Output;

use crate::buffer::{FUTEX_WAIT, FUTEX_WAKE};
use crate::local::{Guard, local};
use crate::settings::{Interval, Settings};
use crate::{buffer, clock, own_thread, phase, say, stream};
use economy::Economy;
use images::Images;
use prof::record::Lost;
use prof::{BlockKind, Event, Generation, Nanos, Record, RecordWriter, ThreadIndex, varint};
use rustc_hash::FxHashMap;
use samples::{Sample, Samples};
use source::{Source, State};
use stacks::Stacks;
use std::ffi::c_void;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};
use threads::Threads;

const RUNNING: u32 = 1;
const FINISHING: u32 = 2;
const DONE: u32 = 3;

/// Written by both sides, waited for by the one that ends the process.
static STATE: AtomicU32 = AtomicU32::new(0);
static REASON: Mutex<&'static str> = Mutex::new("");
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// Bytes of the thread's stack.
const STACK: usize = 512 << 10;

/// How long an exiting process waits for its last events to be written.
const LAST_FLUSH: Nanos = Nanos(5_000_000_000);

/// Writes the facts and starts the thread. Signals are to be held back: a write may raise one.
///
/// # Errors
/// Where the facts cannot be written or the thread cannot be created.
pub fn start(mut output: Output, settings: Settings) -> io::Result<()> {
    let mut records = RecordWriter::new(clock::now());
    facts::push(&mut records, &settings);
    if settings.interval == Interval::Auto {
        records.push(&Record::Interval { time: records.time(), bytes: phase::interval() });
    }
    output.block(BlockKind::Records, records.time(), records.payload());
    output.flush()?;
    DESCRIPTOR.store(output.descriptor(), Release);
    STATE.store(RUNNING, Release);
    let writer = Box::into_raw(Box::new(Writer::new(output, settings)));
    // SAFETY: `run` takes the box that is passed.
    let created = unsafe { own_thread::spawn(run, writer.cast(), STACK) };
    if let Err(error) = created {
        STATE.store(0, Release);
        // SAFETY: no thread took the box.
        drop(unsafe { Box::from_raw(writer) });
        return Err(error);
    }
    Ok(())
}

extern "C" fn run(writer: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    // SAFETY: a C string of less than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"libtrace".as_ptr()) };
    // SAFETY: `start` passed a box, once.
    let mut writer = unsafe { Box::from_raw(writer.cast::<Writer>()) };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run()));
    phase::stop();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            say::line(&format!("stopped tracing: failed to write {}: {error}", writer.output.path()))
        }
        Err(_) => say::line("stopped tracing: the writer failed; this is a defect of libtrace"),
    }
    STATE.store(DONE, Release);
    // SAFETY: wakes sleepers on an address of ours.
    unsafe { libc::syscall(libc::SYS_futex, STATE.as_ptr(), FUTEX_WAKE, i32::MAX) };
    std::ptr::null_mut()
}

/// Has everything written that is under way, and waits for it, but not for ever.
pub fn finish(reason: &'static str) {
    *REASON.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = reason;
    if STATE.compare_exchange(RUNNING, FINISHING, AcqRel, Acquire).is_err() {
        return;
    }
    let Some(exchange) = buffer::exchange() else { return };
    exchange.wake_writer();
    let deadline = clock::now().0 + LAST_FLUSH.0;
    while STATE.load(Acquire) == FINISHING {
        let left = deadline.saturating_sub(clock::now().0);
        if left == 0 {
            say::line("the last events were not written within 5 s");
            return;
        }
        let limit = clock::timespec(Nanos(left));
        // SAFETY: waits on an address of ours while it holds FINISHING, with a valid time limit.
        unsafe { libc::syscall(libc::SYS_futex, STATE.as_ptr(), FUTEX_WAIT, FINISHING, &limit) };
    }
}

/// In a forked child: the file is not its own.
pub fn abandon() {
    STATE.store(0, Release);
    let descriptor = DESCRIPTOR.swap(-1, AcqRel);
    if descriptor >= 0 {
        // SAFETY: the descriptor was ours; the parent's copy stays open. As a bare system call it is no cancellation point
        // of the host's thread.
        unsafe { libc::syscall(libc::SYS_close, descriptor) };
    }
}

struct Writer {
    settings: Settings,
    output: Output,
    source: Source,
    images: Images,
    stacks: Stacks,
    samples: Samples,
    threads: Threads,
    economy: Option<Economy>,
    /// What the file says was lost.
    lost: FxHashMap<Lost, u64>,
}

impl Writer {
    fn new(output: Output, settings: Settings) -> Writer {
        Writer {
            output,
            source: Source::default(),
            images: Images::default(),
            stacks: Stacks::default(),
            samples: Samples::default(),
            threads: Threads::default(),
            economy: None,
            lost: FxHashMap::default(),
            settings,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let Some(exchange) = buffer::exchange() else { return Ok(()) };
        self.economy = (self.settings.interval == Interval::Auto).then(Economy::new);
        let mut next = clock::now().0 + self.settings.settle.0;
        loop {
            exchange.sleep(Nanos(next.saturating_sub(clock::now().0)));
            let finishing = STATE.load(Acquire) == FINISHING;
            if finishing || clock::now().0 >= next {
                self.flush(finishing)?;
                next = clock::now().0 + self.settings.settle.0;
            } else {
                self.collect(false)?;
            }
            if finishing {
                return Ok(());
            }
        }
    }

    /// Takes what the threads have; with `current` also from buffers that are still being filled.
    fn collect(&mut self, current: bool) -> io::Result<()> {
        let Writer { settings, output, source, images, stacks, samples, threads, .. } = self;
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

    /// Brings the file up to date.
    fn flush(&mut self, last: bool) -> io::Result<()> {
        clock::begin_round();
        let complete = clock::now();
        self.collect(true)?;
        let mut records = RecordWriter::new(clock::now());
        self.images.push(&mut records);
        self.threads.look(&mut records);
        self.stacks.push(&mut records);
        self.samples.push(&mut records, &mut self.threads, last);
        if !last {
            self.adapt(&mut records);
        }
        self.threads.forget(&mut records);
        self.push_lost(&mut records);
        records.push(&Record::Complete { time: complete });
        if last {
            let reason = *REASON.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            records.push(&Record::End { reason });
        }
        self.output.block(BlockKind::Records, records.time(), records.payload());
        self.output.flush()
    }

    /// Where the interval is ours to choose: chooses the next, and says so.
    fn adapt(&mut self, records: &mut RecordWriter) {
        if let Some(bytes) = self.economy.as_mut().and_then(Economy::next) {
            phase::set_interval(bytes);
            records.push(&Record::Interval { time: records.time(), bytes });
        }
    }

    fn push_lost(&mut self, records: &mut RecordWriter) {
        for reason in Lost::ALL {
            let lost: u64 = stream::all().map(|stream| stream.lost(reason)).sum();
            let written = self.lost.entry(reason).or_default();
            if lost > *written {
                records.push(&Record::Lost { reason, events: lost - *written });
                *written = lost;
            }
        }
        let events = stream::take_uncounted();
        if events > 0 {
            records.push(&Record::Lost { reason: Lost::Reentrant, events });
        }
    }
}

/// Writes a stream's events as they are, behind the definitions of the images they speak of.
fn pass_on(output: &mut Output, images: &mut Images, stream: u32, bytes: &[u8]) -> io::Result<()> {
    let mut records = RecordWriter::new(clock::now());
    images.push(&mut records);
    if !records.payload().is_empty() {
        output.block(BlockKind::Records, records.time(), records.payload());
    }
    let mut payload = Vec::with_capacity(bytes.len() + varint::MAX_LEN);
    varint::push(&mut payload, stream.into());
    payload.extend_from_slice(bytes);
    output.block(BlockKind::Events, clock::now(), &payload);
    output.flush_when_full()
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
