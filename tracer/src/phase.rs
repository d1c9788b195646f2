//! Where the library is in its life; the diagram stands in `lib.rs`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

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

/// The present phase.
#[inline]
pub fn now() -> Phase {
    match PHASE.load(Relaxed) {
        0 => Phase::Loading,
        1 => Phase::Tracing,
        _ => Phase::Stopped,
    }
}

/// Recording begins, at a mean of `interval` bytes between samples.
pub fn trace(interval: u64) {
    INTERVAL.store(interval, Relaxed);
    PHASE.store(Phase::Tracing as u8, Relaxed);
    EVERY.store(interval == prof::weight::EVERY, Relaxed);
}

/// Recording ends for good.
pub fn stop() {
    EVERY.store(false, Relaxed);
    PHASE.store(Phase::Stopped as u8, Relaxed);
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
    EVERY.load(Relaxed)
}
