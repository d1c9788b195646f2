//! Where the library is in its life; the diagram stands in `lib.rs`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::*};

/// See the diagram in `lib.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    Loading = 0,
    Tracing = 1,
    Stopped = 2,
}

static PHASE: AtomicU8 = AtomicU8::new(Phase::Loading as u8);

/// Mean bytes between samples; [`prof::weight::EVERY`] records every allocation.
static INTERVAL: AtomicU64 = AtomicU64::new(prof::weight::EVERY);

/// Whether every allocation is being recorded.
static EVERY: AtomicBool = AtomicBool::new(false);

/// Whether allocations are passed over for the time being; deaths of recorded blocks are not.
static PAUSED: AtomicBool = AtomicBool::new(false);

/// The present phase.
#[inline]
pub fn now() -> Phase {
    match PHASE.load(Acquire) {
        0 => Phase::Loading,
        1 => Phase::Tracing,
        _ => Phase::Stopped,
    }
}

/// Recording begins, at a mean of `interval` bytes between samples; whoever sees it sees what was made before.
pub fn trace(interval: u64) {
    INTERVAL.store(interval, Relaxed);
    PHASE.store(Phase::Tracing as u8, Release);
    EVERY.store(interval == prof::weight::EVERY && !is_paused(), Release);
}

/// Recording ends for good.
pub fn stop() {
    PHASE.store(Phase::Stopped as u8, SeqCst);
    EVERY.store(false, SeqCst);
}

/// From now on allocations are not recorded.
pub fn pause() {
    PAUSED.store(true, Relaxed);
    EVERY.store(false, SeqCst);
}

/// Allocations are recorded again; whoever sees it sees what was made before.
pub fn resume() {
    PAUSED.store(false, Release);
    if interval() == prof::weight::EVERY {
        EVERY.store(true, SeqCst);
        // Whoever stops tracing says so before it looks at `EVERY`: one of both sees the other.
        if PHASE.load(SeqCst) != Phase::Tracing as u8 {
            EVERY.store(false, SeqCst);
        }
    }
}

/// Whether recording is paused.
#[inline]
pub fn is_paused() -> bool {
    PAUSED.load(Acquire)
}

/// Samples are farther apart, or closer, from now on.
pub fn set_interval(bytes: u64) {
    INTERVAL.store(bytes, Relaxed);
}

/// Mean bytes between samples.
#[inline]
pub fn interval() -> u64 {
    INTERVAL.load(Relaxed)
}

/// Whether the present phase is tracing, and every allocation is recorded: one load.
#[inline]
pub fn is_every() -> bool {
    EVERY.load(Acquire)
}

/// The phase is the process's: tests that change it do so one at a time, and begin with [`Phase::Loading`].
#[cfg(test)]
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    PHASE.store(Phase::Loading as u8, Relaxed);
    guard
}

#[cfg(test)]
mod concurrent {
    use super::*;
    use std::thread;

    #[test]
    fn who_sees_tracing_sees_what_it_needs() {
        let _alone = alone();
        let sees_tracing: [fn() -> bool; 2] = [|| now() == Phase::Tracing, is_every];
        for sees in sees_tracing {
            for prepared in 1..=4 {
                stop();
                let is_prepared = AtomicU64::new(0);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !sees() {
                            thread::yield_now();
                        }
                        assert_eq!(is_prepared.load(Relaxed), prepared);
                        assert_eq!(interval(), prof::weight::EVERY);
                    });
                    set_interval(0);
                    is_prepared.store(prepared, Relaxed);
                    trace(prof::weight::EVERY);
                });
            }
        }
    }
}
