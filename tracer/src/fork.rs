//! What becomes of the library when the process forks.
//!
//! ```text
//!            fork                                first event, or first thread
//!  Settled ────────▶ Forked: streams and buffers ───────────────────────────▶ Settled, with a writer and a file of its own
//!          the child         are set aside
//! ```
//! A child that only goes on to execute a program, as a shell's, so costs nothing and leaves no file. What other threads of the
//! parent were at is never gone on with: the child makes its streams and channels anew. Where the parent's writer was not
//! [safe](crate::safepoint) to copy, or the fork comes from a signal handler that interrupted a recording, the child is not
//! traced.
//!
//! Children that come without `fork` are told by their process id, which `vfork` and `posix_spawn` leave them, and
//! by a page that the kernel empties in every copy of the process.

use crate::local::{Guard, as_own, local};
use crate::phase::{self, Phase};
use crate::unwind::rules;
use crate::{
    buffer, clock, control, heap, holders, loader, mapping, own_thread, safepoint, sampler, say, stream,
    thread_stacks, vitals, watch, writer,
};
use prof::Nanos;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

const SETTLED: u8 = 0;
const FORKED: u8 = 1;
const RESUMING: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(SETTLED);

/// The process that is traced.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Holds 1 in the process that made it and what shares memory with it; null where the kernel cannot do that.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// Whether forked children go on.
static FOLLOWS: AtomicBool = AtomicBool::new(false);

/// When this process was forked, and the number of its first stream.
static TIME: AtomicU64 = AtomicU64::new(0);
static FIRST_STREAM: AtomicU32 = AtomicU32::new(0);

/// What the writer has to know.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// When the process was forked.
    pub time: Nanos,
    /// Streams with smaller numbers are the parent's.
    pub first_stream: u32,
}

/// Notes which process this is; before anything is recorded.
pub fn begin() {
    PROCESS.store(std::process::id(), Relaxed);
    const LEN: usize = 4096;
    let page = heap::map(LEN);
    // SAFETY: the mapping is ours.
    if !page.is_null() && unsafe { libc::madvise(page.cast(), LEN, libc::MADV_WIPEONFORK) } == 0 {
        PAGE.store(page.cast(), Release);
        mark();
    }
}

/// Has forks noticed; to be called once, by the constructor.
pub fn install(follows: bool) {
    FOLLOWS.store(follows, Relaxed);
    // SAFETY: the first call is one that the crate wants before its lock is used in children; handlers are functions that
    // live as long as the library. They run in the opposite order before a fork: the heap's lock is taken last.
    unsafe {
        dlmalloc::enable_alloc_after_fork();
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    }
}

fn mark() {
    // SAFETY: null, or the page, which stays mapped.
    if let Some(page) = unsafe { PAGE.load(Acquire).as_ref() } {
        page.store(1, Relaxed);
    }
}

/// Whether this process is a copy of the traced one that was made without `fork`.
pub fn is_unnoticed() -> bool {
    // SAFETY: as in `mark`.
    unsafe { PAGE.load(Acquire).as_ref() }.is_some_and(|page| page.load(Relaxed) == 0)
}

/// Whether this process is the traced one, and not one that shares its memory or was made without `fork`.
pub fn is_own_process() -> bool {
    std::process::id() == PROCESS.load(Relaxed)
}

unsafe extern "C" fn before() {
    if is_unnoticed() {
        // There is no writer to wait for.
        phase::stop();
    } else {
        watch::fork_begins();
        safepoint::hold();
    }
}

unsafe extern "C" fn in_parent() {
    if !is_unnoticed() {
        safepoint::release();
        watch::fork_ends();
    }
}

unsafe extern "C" fn in_child() {
    let is_safe = safepoint::reset();
    watch::forked();
    vitals::forked();
    own_thread::forked();
    let writes = writer::abandon();
    control::abandon();
    PROCESS.store(std::process::id(), Relaxed);
    mark();
    let local = local();
    if phase::now() != Phase::Tracing {
        return;
    }
    if !FOLLOWS.load(Relaxed) {
        return phase::stop();
    }
    let goes_on = writes || STATE.load(Relaxed) == FORKED;
    if !is_safe || !goes_on || local.guard() != Guard::Open {
        phase::stop();
        return say::line("a forked child is not traced: the fork came while the tracer was at work");
    }
    if STATE.swap(FORKED, Relaxed) == SETTLED {
        FIRST_STREAM.store(stream::forked(local), Relaxed);
        buffer::forked();
    }
    TIME.store(clock::now().0, Relaxed);
    sampler::reseed();
    // The countdown ran towards the parent's next sample.
    local.interval.set(0);
    local.countdown.set(0);
    local.rest.set(0);
    // No holder of this process has created the thread.
    local.creator.set(0);
}

/// Makes what a forked child needs to record, where that has not been done. False where it cannot record.
#[inline]
pub fn resume() -> bool {
    STATE.load(Acquire) == SETTLED || resume_now()
}

#[cold]
fn resume_now() -> bool {
    if phase::now() != Phase::Tracing {
        return false;
    }
    match STATE.compare_exchange(FORKED, RESUMING, AcqRel, Acquire) {
        Ok(_) => {}
        // Another thread is at it, or is done.
        Err(state) => return state == SETTLED,
    }
    let fork = Fork { time: Nanos(TIME.load(Relaxed)), first_stream: FIRST_STREAM.load(Relaxed) };
    let resumed = as_own(|| {
        loader::forked();
        holders::forked();
        thread_stacks::forked();
        mapping::forked();
        rules::forked();
        buffer::create();
        without_signals(|| {
            watch::resume()?;
            vitals::resume()?;
            writer::resume(fork)
        })
    });
    STATE.store(SETTLED, Release);
    if let Err(error) = &resumed {
        phase::stop();
        as_own(|| say::line(&format!("failed to create a thread: {error}; the forked child runs untraced")));
    }
    resumed.is_ok()
}

/// Runs `work` with all signals held back, as the threads that it makes will have them.
fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: zero bytes are valid signal sets, all places are valid, and the calls only concern this thread.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}
