//! The slow paths of the hooks: decide whether to record, and do it.
//!
//! Policies at the edges:
//! - a block that was allocated before tracing began: its free is ignored in sampled mode, and is a free of an unknown
//!   block in the stream where every allocation is recorded;
//! - an allocation that failed: nothing is recorded;
//! - `realloc` that failed: the old block lives on, nothing is recorded;
//! - `realloc(block, 0)` that returned null: a free;
//! - an event while its own thread is recording, which only a signal handler can cause: lost, and counted;
//! - while recording is paused: an allocation is passed over, so that a block that is reallocated then is gone; gaps are
//!   drawn on, and every sample that is taken afterwards has the probability that it says; deaths are recorded;
//! - every path leaves `errno` as the real function left it.

use crate::append::{Born, Entry, append, birth, death, stream_of, unwind, usual_birth, usual_death};
use crate::arch::frame::Caller;
use crate::buffer::{BufferRef, Exchange};
use crate::errno::Errno;
use crate::holders::{self, HolderIndex};
use crate::local::{Guard, Local, local};
use crate::phase::{self, Phase};
use crate::{clock, early, filter, fork, live, sampler, start, stream};
use prof::Nanos;
use prof::record::Lost;
use prof::weight::EVERY;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// [`realloc_begin`]: the old block is one of the early arena's.
pub const EARLY_BLOCK: u64 = 1;

/// Tokens of [`realloc_begin`], and numbers of samples, begin here; 0 is "not recorded".
const FIRST_TOKEN: u64 = 2;

/// Bytes that a thread may allocate before it looks at the interval again: some 30 ns each time.
const STRETCH: u64 = 256 << 10;

/// Numbers of samples, never reused.
static SAMPLES: AtomicU64 = AtomicU64::new(FIRST_TOKEN);

/// Samples whose blocks are live.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// Whether threads wait for the writer.
static LOSSLESS: AtomicBool = AtomicBool::new(false);

/// From now on threads wait for the writer rather than lose events.
pub fn be_lossless() {
    LOSSLESS.store(true, Relaxed);
}

/// Whether a thread that cannot record now may wait for the writer: where it was asked to, but not for a stopped writer, and
/// not in the child of a vfork, where the thread that would wait is another process's.
pub fn may_wait() -> bool {
    LOSSLESS.load(Relaxed) && phase::now() == Phase::Tracing && fork::is_own_process()
}

/// After an allocation of `size` bytes.
pub extern "C" fn alloc(block: *mut c_void, size: usize, caller: Caller) -> *mut c_void {
    if !block.is_null() {
        let born = Born { block: block as u64, size: size as u64, caller };
        if !phase::is_every() {
            maybe_sample(born);
        } else if !record_usual(local(), |local| usual_birth(local, born)) {
            record_birth(born);
        }
    }
    block
}

/// Records the birth of one block where every allocation is recorded.
#[inline(never)]
fn record_birth(born: Born) {
    record(local(), |local| birth(local, born, None));
}

/// As [`birth`], kept out of what is quick.
#[inline(never)]
fn birth_elsewhere(local: &Local, born: Born, died: Option<(u64, Nanos)>) {
    birth(local, born, died);
}

/// Counts a block down, and takes it for a sample where that is due.
#[inline(never)]
fn maybe_sample(born: Born) {
    record(local(), |local| {
        if let Some(interval) = due(local, born.size) {
            record_as(local, born, interval, None);
        }
    });
}

/// Records a birth at the interval that was in force.
fn record_as(local: &Local, born: Born, interval: u64, died: Option<(u64, Nanos)>) {
    match interval {
        EVERY => birth_elsewhere(local, born, died),
        _ => sample(local, born, interval),
    }
}

/// After `posix_memalign`, which returned `status`.
///
/// # Safety
/// `place` is what the caller passed.
pub unsafe extern "C" fn posix_memalign(
    place: *mut *mut c_void,
    size: usize,
    caller: Caller,
    status: c_int,
) -> c_int {
    if status == 0 {
        // SAFETY: the call succeeded, so the place holds a block.
        alloc(unsafe { *place }, size, caller);
    }
    status
}

/// Before `free` of a block that passed the filter. Returns 1 where there is nothing to free.
pub extern "C" fn free(block: *mut c_void) -> u32 {
    if early::owns(block) {
        return 1;
    }
    if block.is_null() {
        return 0;
    }
    let key = block as u64;
    if !phase::is_every() {
        return maybe_death(key);
    }
    // A fresh stamp is a call, which is not for the usual case.
    if !clock::stamps_each(clock::round()) && record_usual(local(), |local| usual_death(local, key)) {
        return 0;
    }
    record_death(key)
}

/// Records a death where every allocation is recorded. As [`free`], which it ends: 0.
#[inline(never)]
fn record_death(block: u64) -> u32 {
    record(local(), |local| death(local, block, None));
    0
}

/// Records a death where the block is a sample's, or where every allocation is recorded. As [`record_death`]: 0.
#[inline(never)]
fn maybe_death(block: u64) -> u32 {
    if phase::now() != Phase::Tracing {
        return 0;
    }
    if phase::interval() == EVERY {
        return record_death(block);
    }
    if let Some(sample) = take_sample(block) {
        record(local(), |local| death(local, sample, Some(clock::now())));
    }
    0
}

/// Before `realloc`: 0, [`EARLY_BLOCK`], or a token for [`realloc`]: where every allocation is recorded the stamp, else
/// the old block's sample.
pub extern "C" fn realloc_begin(old: *mut c_void) -> u64 {
    if early::owns(old) {
        return EARLY_BLOCK;
    }
    if old.is_null() || phase::now() != Phase::Tracing {
        return 0;
    }
    if phase::interval() == EVERY {
        return clock::now().0 + FIRST_TOKEN;
    }
    take_sample(old as u64).unwrap_or(0)
}

/// After `realloc`, which returned `new`.
pub extern "C" fn realloc(
    new: *mut c_void,
    size: usize,
    caller: Caller,
    old: *mut c_void,
    token: u64,
) -> *mut c_void {
    let local = local();
    let every = phase::interval() == EVERY;
    let known = token >= FIRST_TOKEN;
    if new.is_null() && size != 0 {
        if known && !every && !enter_sample(old as u64, token) {
            stream::lose(local, Lost::TableFull);
        }
        return new;
    }
    let born = Born { block: new as u64, size: size as u64, caller };
    record(local, |local| {
        let due = if new.is_null() { None } else { due(local, born.size) };
        match (known, every, due) {
            (true, true, Some(interval)) => {
                record_as(local, born, interval, Some((old as u64, Nanos(token - FIRST_TOKEN))));
            }
            (true, true, None) => death(local, old as u64, Some(Nanos(token - FIRST_TOKEN))),
            (true, false, _) => death(local, token, Some(clock::now())),
            (false, ..) => {}
        }
        if let (Some(interval), false) = (due, known && every) {
            record_as(local, born, interval, None);
        }
    });
    new
}

/// Runs `work` guarded, unless the thread may not record now.
#[inline(always)]
pub fn record(local: &Local, work: impl FnOnce(&Local)) {
    if local.guard() != Guard::Open {
        return not_now(local);
    }
    local.set_guard(Guard::Recording);
    work(local);
    local.set_guard(Guard::Open);
}

/// As [`record`], for `work` that does the usual and says `None` to the rest, which is then for [`record`]: so the usual does
/// not carry what the rest needs. Whether it is done.
#[inline(always)]
fn record_usual(local: &Local, work: impl FnOnce(&Local) -> Option<()>) -> bool {
    if local.guard() != Guard::Open {
        return false;
    }
    local.set_guard(Guard::Recording);
    let done = work(local);
    local.set_guard(Guard::Open);
    done.is_some()
}

/// An event of a thread that is recording is lost; its own work is not recorded.
#[cold]
#[inline(never)]
fn not_now(local: &Local) {
    if local.guard() == Guard::Recording {
        stream::lose(local, Lost::Reentrant);
    }
}

/// Under which holder the stack of a caller is kept that acquires something beside blocks.
pub fn holder(local: &Local, caller: Caller) -> HolderIndex {
    let Some((stream, own)) = stream_of(local) else { return HolderIndex::NONE };
    let interval = if own.interval == 0 { phase::interval() } else { own.interval };
    if !unwind(local, Born { block: 0, size: 0, caller }, stream, own, interval) {
        return HolderIndex::NONE;
    }
    holders::of((own.stated - 1) as u32, own.trail.addresses(0))
}

/// Counts `size` bytes down. Where the block is to be recorded, the interval that it was sampled at.
#[inline]
fn due(local: &Local, size: u64) -> Option<u64> {
    if phase::now() == Phase::Loading {
        let _errno = Errno::save();
        local.set_guard(Guard::Own);
        start::prepare();
        local.set_guard(Guard::Recording);
    }
    if phase::now() != Phase::Tracing {
        if phase::now() == Phase::Stopped {
            local.countdown.set(sampler::NEVER);
        }
        return None;
    }
    if phase::interval() == EVERY {
        return unless_paused(EVERY);
    }
    if local.interval.get() == 0 {
        draw(local);
    }
    let left = local.countdown.get().saturating_add(local.rest.get());
    if size >= left {
        let interval = local.interval.get();
        draw(local);
        return unless_paused(interval);
    }
    if local.interval.get() == phase::interval() {
        set_left(local, left - size);
    } else {
        // The interval has changed. The distribution of gaps has no memory: what is left of this one may be drawn anew.
        draw(local);
    }
    None
}

/// What is due at `interval`. A forked child that would record now gets its writer all the same: with it comes the socket
/// over which it can be resumed.
fn unless_paused(interval: u64) -> Option<u64> {
    if !phase::is_paused() {
        return Some(interval);
    }
    let _errno = Errno::save();
    fork::resume();
    None
}

/// Draws the gap to the next sample. The sample will carry the interval that its gap was drawn for.
fn draw(local: &Local) {
    let interval = phase::interval();
    local.interval.set(interval);
    set_left(local, sampler::gap(interval));
}

/// Counts a gap down in stretches, so that a change of the interval is noticed soon.
fn set_left(local: &Local, left: u64) {
    let stretch = left.min(STRETCH);
    local.countdown.set(stretch);
    local.rest.set(left - stretch);
}

/// Samples taken so far.
pub fn samples() -> u64 {
    SAMPLES.load(Relaxed) - FIRST_TOKEN
}

/// Samples that are live now.
pub fn live_samples() -> u64 {
    LIVE.load(Relaxed)
}

fn enter_sample(block: u64, sample: u64) -> bool {
    let entered = live::insert(block, sample);
    if entered {
        filter::add(block);
        LIVE.fetch_add(1, Relaxed);
    }
    entered
}

fn take_sample(block: u64) -> Option<u64> {
    let sample = live::remove(block)?;
    filter::remove(block);
    LIVE.fetch_sub(1, Relaxed);
    Some(sample)
}

/// Records a block's birth as a sample's.
#[inline(never)]
fn sample(local: &Local, born: Born, interval: u64) {
    let Some((stream, own)) = stream_of(local) else { return };
    let stamp = clock::now();
    let sample = SAMPLES.fetch_add(1, Relaxed);
    if !enter_sample(born.block, sample) {
        return stream.lose(Lost::TableFull);
    }
    let entry = Entry { key: sample, size: born.size, stamp, died: None };
    if !unwind(local, born, stream, own, interval) || !append(stream, own, &entry) {
        stream.lose(Lost::BackPressure);
        take_sample(born.block);
    }
    stream.spend(Nanos(clock::now().0.saturating_sub(stamp.0)));
}

/// An empty buffer; where there is none the caller waits for one if it was asked to, but not for a stopped writer.
pub fn wait_for_empty(exchange: &Exchange) -> Option<BufferRef> {
    const PAUSE: Nanos = Nanos(100_000);
    loop {
        let buffer = exchange.take_empty();
        if buffer.is_some() || !may_wait() {
            return buffer;
        }
        exchange.wake_writer();
        clock::sleep(PAUSE);
    }
}
