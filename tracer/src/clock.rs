//! Stamps: nanoseconds since tracing began, on one clock for all threads.
//!
//! `CLOCK_MONOTONIC` is read through the vDSO without a system call or a lock, never runs backwards between threads
//! that synchronise (its reads of the hardware counter are ordered), and so orders the lives of one address.

use prof::Nanos;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

static BEGIN: AtomicU64 = AtomicU64::new(0);

/// Counts the writer's flushes, in its lower bits.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// Set in the count where each event has to have a stamp of its own.
const EACH: u32 = 1 << 31;

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; the clocks exist, or, a thread's, have stopped at zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time that a thread's or the process's clock has counted: a system call.
pub fn cpu(clock: libc::clockid_t) -> Nanos {
    Nanos(read(clock))
}

/// The clock of a thread's CPU time, as the kernel numbers them.
pub fn of_thread(tid: u32) -> libc::clockid_t {
    const PER_THREAD: i32 = 4;
    const SCHEDULER: i32 = 2;
    !(tid as i32) << 3 | PER_THREAD | SCHEDULER
}

/// From here on stamps count from this moment.
pub fn begin() {
    BEGIN.store(read(libc::CLOCK_MONOTONIC), Relaxed);
}

/// The present stamp.
#[inline]
pub fn now() -> Nanos {
    Nanos(read(libc::CLOCK_MONOTONIC).saturating_sub(BEGIN.load(Relaxed)))
}

/// As the C structure.
pub fn timespec(time: Nanos) -> libc::timespec {
    libc::timespec {
        tv_sec: (time.0 / 1_000_000_000) as libc::time_t,
        tv_nsec: (time.0 % 1_000_000_000) as libc::c_long,
    }
}

/// Sleeps, perhaps less. Unlike the C library's functions it is no cancellation point: a thread of the host's that is
/// cancelled meanwhile ends in the host's own code, and not in the middle of ours.
pub fn sleep(time: Nanos) {
    // SAFETY: a valid time, and no wish to know what was left of it.
    unsafe {
        libc::syscall(libc::SYS_nanosleep, &timespec(time), std::ptr::null_mut::<libc::timespec>());
    }
}

/// Changes with every flush, and when each event has to be stamped from then on: a stamp that was taken in another round
/// is out of date.
#[inline]
pub fn round() -> u32 {
    ROUNDS.load(Relaxed)
}

/// A flush begins.
pub fn begin_round() {
    // Only the writer does this, and the bit is not to be carried into.
    let _ = ROUNDS.fetch_update(Relaxed, Relaxed, |round| Some(round & EACH | round.wrapping_add(1) & !EACH));
}

/// From now on each event is stamped.
pub fn stamp_each() {
    ROUNDS.fetch_or(EACH, Relaxed);
}

/// Whether each event is stamped in a round.
pub fn stamps_each(round: u32) -> bool {
    round & EACH != 0
}

/// In a forked child, where one thread is left.
pub fn forked() {
    ROUNDS.fetch_and(!EACH, Relaxed);
}
