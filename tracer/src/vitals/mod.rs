//! What is measured of the process as a whole, beside its events.
//!
//! | source | read by | at least |
//! |---|---|---|
//! | [`process`]: `/proc/self/status`, clocks, page faults | the writer, which waits for nothing there | a second apart |
//! | [`share`]: `/proc/self/smaps_rollup`, which holds up changes of the address space | this module's thread | 10 s apart |
//! | [`groups`]: the control groups' files | this thread | a second apart |
//! | [`allocator`]: what the allocator says, under locks that the program may hold for ever | this thread | a second apart |
//! | [`own`]: pages of our own tables, and of the program's stacks, in RAM | this thread | 10 s apart |
//!
//! Nobody waits for this thread, but for the end of the process, a little. Looks take no more than 0.1 % of a core, all
//! sources together: the longer one takes, the later the next ([`pace`]). A source that takes 50 ms of CPU time is not
//! looked at again, because other threads may have waited as long for a lock. Where `vitals` is set, every source is looked
//! at that often.

mod allocator;
mod glibc;
mod groups;
mod own;
mod pace;
mod pages;
pub mod process;
mod share;

pub use allocator::find as find_allocator;
pub use pace::Pace;

use crate::local::{Guard, local};
use crate::own_thread::{self, OwnThread};
use crate::phase::{self, Phase};
use crate::{clock, descriptors, futex};
use allocator::Allocator;
use crossbeam_channel::{Receiver, Sender, bounded};
use groups::Groups;
use prof::Nanos;
use prof::record::Vital;
use std::ffi::c_void;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

/// One arena of the C library's allocator.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Arena {
    /// Its number.
    pub number: u32,
    /// Bytes that it has from the system.
    pub system: u64,
    /// Bytes of it that are free.
    pub free: u64,
}

/// What one look at a source has found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reading {
    /// When.
    pub time: Nanos,
    /// What was measured.
    pub values: Vec<(Vital, u64)>,
    /// Where the source knows them.
    pub arenas: Vec<Arena>,
}

/// Readings that may be on their way. Where the writer does not come for them, later ones are not worth keeping either.
const MOST_READINGS: usize = 64;

/// Bytes of the thread's stack; `malloc_info` takes some 20 KiB.
const STACK: usize = 256 << 10;

/// How long the end of the process waits for a last look.
const PATIENCE: Nanos = Nanos(100_000_000);

type Channel = (Sender<Reading>, Receiver<Reading>);

static CHANNEL: AtomicPtr<Channel> = AtomicPtr::new(std::ptr::null_mut());

/// The thread.
static THREAD: OwnThread = OwnThread::new();

/// Whether a look out of turn is asked for.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Nanoseconds between looks, where they were set; else 0.
static SET: AtomicU64 = AtomicU64::new(0);

/// Counts the looks out of turn.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

fn channel() -> Option<&'static Channel> {
    // SAFETY: null, or from a box that is never freed.
    unsafe { CHANNEL.load(Acquire).as_ref() }
}

/// Sets the time between looks, for this process and what is forked from it.
pub fn set_time(apart: Option<Nanos>) {
    SET.store(apart.map_or(0, |apart| apart.0), Relaxed);
}

/// What was set.
fn set_apart() -> Option<Nanos> {
    Some(Nanos(SET.load(Relaxed))).filter(|apart| apart.0 > 0)
}

/// Looks that are `shortest` apart and take one part in `share` of the time, or as far apart as was set.
pub fn paced(shortest: Nanos, share: u64) -> Pace {
    set_apart().map_or(Pace::new(shortest, share), |apart| Pace::new(apart, 0))
}

/// For the constructor: looks at the allocator before the program begins, and starts the thread. Signals are to be held
/// back.
///
/// # Errors
/// Where the thread cannot be created.
pub fn start() -> io::Result<()> {
    open();
    let mut reading = Reading { time: clock::now(), ..Reading::default() };
    Allocator::get().read(&mut reading);
    if let Some((sender, _)) = channel() {
        let _ = sender.try_send(reading);
    }
    launch()
}

/// Starts the thread of a forked child, which has none any more. Signals are to be held back.
///
/// # Errors
/// Where the thread cannot be created.
pub fn resume() -> io::Result<()> {
    open();
    launch()
}

/// A parent's channel may be in the middle of a change.
fn open() {
    CHANNEL.store(Box::into_raw(Box::new(bounded(MOST_READINGS))), Release);
}

fn launch() -> io::Result<()> {
    ASKED.store(0, Relaxed);
    // SAFETY: `run` does not use its argument.
    unsafe { THREAD.start(run, std::ptr::null_mut(), STACK) }
}

/// How many threads this module has now.
pub fn threads() -> u32 {
    THREAD.count()
}

/// In a forked child: the thread is the parent's.
pub fn forked() {
    THREAD.forked();
    CHANNEL.store(std::ptr::null_mut(), Release);
}

/// For the writer: what has been found since the last call.
pub fn readings() -> impl Iterator<Item = Reading> {
    channel().into_iter().flat_map(|(_, receiver)| receiver.try_iter())
}

/// For the writer, at the end of the process: has every source looked at once more, and waits for it a little.
pub fn look_again() {
    if threads() == 0 {
        return;
    }
    let answered = ANSWERED.load(Acquire);
    ask();
    futex::wait_while(&ANSWERED, answered, Nanos(clock::now().0 + PATIENCE.0));
}

/// After the end of tracing: ends the thread, and waits for it a little.
pub fn stop() {
    ask();
    THREAD.wait_for_end();
}

fn ask() {
    ASKED.store(1, Release);
    futex::wake(&ASKED);
}

/// Sleeps until a look out of turn is asked for, but no longer than `most`. Whether one is.
fn sleep(most: Nanos) -> bool {
    futex::sleep(&ASKED, 0, most);
    ASKED.swap(0, AcqRel) != 0
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    own_thread::begin(c"libtrace-vitals");
    descriptors::leave(None);
    // What goes wrong here costs the readings, and nothing else.
    let _ = std::panic::catch_unwind(look_on);
    THREAD.ends();
    ANSWERED.fetch_add(1, AcqRel);
    futex::wake(&ANSWERED);
    std::ptr::null_mut()
}

type Source<'a> = &'a mut dyn FnMut(&mut Reading);

/// Looks at each source in its time, until tracing ends.
fn look_on() {
    const SECOND: Nanos = Nanos::SECOND;
    const RARELY: Nanos = Nanos(10 * SECOND.0);
    let Some((sender, _)) = channel() else { return };
    let groups = Groups::of(Path::new("/proc/self"), Path::new("/"));
    let mut allocator = Allocator::get();
    let mut sources: [(Pace, Source); 4] = [
        (paced(SECOND, 2_000), &mut |reading| allocator.read(reading)),
        (paced(SECOND, 10_000), &mut |reading| reading.values = groups.read()),
        (paced(RARELY, 10_000), &mut |reading| reading.values = share::read(Path::new("/proc/self"))),
        (paced(RARELY, 10_000), &mut |reading| reading.values = own::read(Path::new("/proc/self"))),
    ];
    let mut is_asked = false;
    loop {
        for (pace, source) in &mut sources {
            let mut reading = Reading { time: clock::now(), ..Reading::default() };
            let is_due = if is_asked { pace.is_quick() } else { pace.is_due(reading.time) };
            if is_due {
                pace.measure(|| source(&mut reading));
                // The values are of some moment of the look, and no event before this one is missing from them.
                let _ = sender.try_send(reading);
            }
        }
        if is_asked {
            ANSWERED.fetch_add(1, AcqRel);
            futex::wake(&ANSWERED);
        }
        if phase::now() != Phase::Tracing {
            return;
        }
        let next = sources.iter().filter_map(|(pace, _)| pace.next()).min().unwrap_or(Nanos(u64::MAX));
        is_asked = sleep(Nanos(next.0.saturating_sub(clock::now().0).min(SECOND.0)));
    }
}
