//! A stream: one encoder, one current buffer, counts of what was lost. A thread has one to itself from the first event
//! it records to its end; then another thread goes on with it. So there are as many streams as threads recorded at the
//! same time, however many come and go, and nothing has to be handed over when one ends.
//!
//! ```text
//!          first event of a thread            end of the thread
//!   Free ─────────────────────────▶ Occupied ───────────────────▶ Free
//!                                       └── the kernel no longer knows the thread: the writer ──▲
//! ```
//! A thread ends in a `pthread` key's destructor. One that records again after that, in a later destructor, takes a
//! stream again, as the same thread; where no destructor runs any more, the writer frees its stream.

use crate::buffer::{self, Buffer, BufferRef};
use crate::errno::Errno;
use crate::local::{Guard, Local, local};
use crate::unwind::rules;
use crate::unwind::trail::Trail;
use crate::{clock, fork, heap, phase};
use prof::event::{LONGEST, ThreadName};
use prof::record::Lost;
use prof::{EventEncoder, Nanos, ThreadIndex};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

/// Values of [`Stream::occupancy`]; from the last one on the thread's number is added.
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const OCCUPIED: u64 = 2;

/// See above. All but `own` is shared with the writer.
pub struct Stream {
    /// Its number.
    pub index: AtomicU32,
    /// Who has it: names the thread, so that whoever takes a stream from a thread takes it from no other.
    occupancy: AtomicU64,
    tid: AtomicU32,
    start: AtomicU64,
    current: AtomicPtr<Buffer>,
    lost: [AtomicU64; Lost::ALL.len()],
    spent: AtomicU64,
    next: AtomicPtr<Stream>,
    own: UnsafeCell<Own>,
}

// SAFETY: the fields are atomic but for `own`, which only the stream's thread reaches (`own_mut`'s contract); whoever has
// the stream next has taken it with acquire where that thread left it with release.
unsafe impl Sync for Stream {}

/// The part of a stream that only its thread uses, while it is guarded.
pub struct Own {
    /// The stream's state.
    pub encoder: EventEncoder,
    /// The last stack.
    pub trail: Trail,
    /// How many of the trail's outermost frames the stream's last stack has too: fewer than the trail has in common with
    /// the stack before it where events between them were lost.
    pub said: usize,
    /// The generation that the stream last said it is, plus 1, if it has said the thread too; else 0.
    pub stated: u64,
    /// What the stream last said the interval is; 0: nothing yet.
    pub interval: u64,
    /// As `stated`, where the trail's addresses mean what they did then; 0 where they may have changed their meaning since.
    pub settled: u64,
    sequence: u32,
    /// How often the last stamp may be used again, and in which round.
    stamp_left: u32,
    stamp_round: u32,
}

impl Own {
    /// Whether the trail's addresses mean in this generation what they did, and the interval is as the stream last said.
    #[inline(always)]
    pub fn is_settled(&self, generation: u32, interval: u64) -> bool {
        self.settled == u64::from(generation) + 1 && self.interval == interval && !rules::is_unloading()
    }

    /// A stamp for an event of a process that has but this one stream: every few events is often enough, because the
    /// stream's order is the events' order. Before a second stream's first event the round is changed to one in which each
    /// event is stamped: whatever comes after that event, in the sense in which a block comes from one thread to another,
    /// sees that round, or a later one.
    #[inline(always)]
    pub fn stamp(&mut self) -> Nanos {
        const EVENTS: u32 = 64;
        if self.repeats_stamp() {
            return self.encoder.stamp();
        }
        let round = clock::round();
        self.stamp_left = if clock::stamps_each(round) { 0 } else { EVENTS };
        self.stamp_round = round;
        clock::now()
    }

    /// The event that the last stamp was for is not in the stream: so the stream's last one is an older one, which may be out
    /// of date.
    pub fn forget_stamp(&mut self) {
        self.stamp_left = 0;
    }

    /// Whether the next event may have the stamp of the last one; to be asked once for each.
    #[inline(always)]
    pub fn repeats_stamp(&mut self) -> bool {
        let left = self.stamp_left.checked_sub(1);
        let repeats = left.is_some() && self.stamp_round == clock::round();
        if let (Some(left), true) = (left, repeats) {
            self.stamp_left = left;
        }
        repeats
    }
}

/// The thread that has a stream.
#[derive(Clone, Copy, Debug)]
pub struct Occupant {
    /// Its number.
    pub thread: ThreadIndex,
    /// The kernel's number.
    pub tid: u32,
    /// When it took the stream.
    pub start: Nanos,
}

static LIST: AtomicPtr<Stream> = AtomicPtr::new(std::ptr::null_mut());
/// Of this process.
static STREAMS: AtomicU32 = AtomicU32::new(0);
/// The number of its first: a forked child's streams are numbered on from its parent's.
static FIRST: AtomicU32 = AtomicU32::new(0);
/// Streams that are free and not about to be claimed: where there is none, none is looked for.
static FREED: AtomicU32 = AtomicU32::new(0);
static THREADS: AtomicU32 = AtomicU32::new(0);
static KEY: AtomicU32 = AtomicU32::new(u32::MAX);

/// Events lost in streams that stayed with a parent.
static GONE: [AtomicU64; Lost::ALL.len()] = [const { AtomicU64::new(0) }; Lost::ALL.len()];

/// Events lost by threads that had no stream to count them in.
static UNCOUNTED: AtomicU64 = AtomicU64::new(0);

/// Makes the key whose destructor ends a thread. False where there is none left.
pub fn create_key() -> bool {
    let mut key = 0;
    // SAFETY: `key` is a valid place, and the destructor asks nothing of its argument.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(ended)) } == 0;
    if made {
        KEY.store(key, Release);
    }
    made
}

/// Every stream. They are never unmapped.
pub fn all() -> impl Iterator<Item = &'static Stream> {
    let shared = |at: *mut Stream| {
        // SAFETY: streams in the list are mapped for ever; what is shared of them is atomic, and `own` is only reached
        // through `own_mut`.
        unsafe { at.as_ref() }
    };
    std::iter::successors(shared(LIST.load(Acquire)), move |stream| shared(stream.next.load(Acquire)))
}

/// In a forked child: the parent's streams stay with the parent; the calling thread, the only one, has none. The number of
/// the child's first stream.
pub fn forked(local: &Local) -> u32 {
    for reason in Lost::ALL {
        GONE[reason as usize].store(lost(reason), Relaxed);
    }
    LIST.store(std::ptr::null_mut(), Release);
    FREED.store(0, Relaxed);
    local.stream.set(std::ptr::null_mut());
    local.thread.set(0);
    clock::forked();
    FIRST.fetch_add(STREAMS.swap(0, Relaxed), Relaxed);
    FIRST.load(Relaxed)
}

/// For the writer: events lost so far, in a forked child with those that the parent had lost.
pub fn lost(reason: Lost) -> u64 {
    GONE[reason as usize].load(Relaxed) + all().map(|stream| stream.lost(reason)).sum::<u64>()
}

/// Counts one lost event of the calling thread, without taking a stream for it.
pub fn lose(local: &Local, reason: Lost) {
    // SAFETY: the pointer is null or to a stream, which is mapped for ever.
    match unsafe { local.stream.get().as_ref() } {
        Some(stream) => stream.lose(reason),
        None => {
            UNCOUNTED.fetch_add(1, Relaxed);
        }
    }
}

/// For the writer: events lost by threads without a stream, since the last call.
pub fn take_uncounted() -> u64 {
    UNCOUNTED.swap(0, Relaxed)
}

impl Stream {
    /// The calling thread's stream. `None` where the system refuses the memory.
    #[inline]
    pub fn of(local: &Local) -> Option<&'static Stream> {
        Stream::present(local).or_else(|| Stream::take(local))
    }

    /// The calling thread's stream, where it has one.
    #[inline(always)]
    pub fn present(local: &Local) -> Option<&'static Stream> {
        // SAFETY: the pointer is null or to a stream, which is mapped for ever.
        unsafe { local.stream.get().as_ref() }
    }

    #[cold]
    fn take(local: &Local) -> Option<&'static Stream> {
        let _errno = Errno::save();
        if !fork::resume() {
            return None;
        }
        let stream = Stream::claim().or_else(Stream::map)?;
        if local.thread.get() == 0 {
            local.thread.set(u64::from(THREADS.fetch_add(1, Relaxed)) + 1);
        }
        // SAFETY: has no arguments and cannot fail.
        stream.tid.store(unsafe { libc::syscall(libc::SYS_gettid) } as u32, Release);
        stream.start.store(clock::now().0, Release);
        stream.occupancy.store(OCCUPIED + local.thread.get() - 1, Release);
        // SAFETY: the stream was claimed by this thread, which is guarded: nobody else has such a reference.
        let own = unsafe { stream.own_mut() };
        (own.stated, own.settled) = (0, 0);
        local.stream.set(std::ptr::from_ref(stream).cast_mut());
        let guard = local.guard();
        // glibc may allocate for a key of a high number: that is our own doing.
        local.set_guard(Guard::Own);
        // SAFETY: the key is ours, and any value but null has its destructor called.
        unsafe { libc::pthread_setspecific(KEY.load(Acquire), std::ptr::from_ref(stream).cast::<c_void>()) };
        local.set_guard(guard);
        Some(stream)
    }

    /// A free stream. All may be looked at for it: a thread that is one of many is not to write to theirs.
    fn claim() -> Option<&'static Stream> {
        FREED.fetch_update(AcqRel, Relaxed, |freed| freed.checked_sub(1)).ok()?;
        let claimed = all().find(|stream| {
            stream.occupancy.load(Relaxed) == FREE
                && stream.occupancy.compare_exchange(FREE, CLAIMED, AcqRel, Relaxed).is_ok()
        });
        if claimed.is_none() {
            FREED.fetch_add(1, AcqRel);
        }
        claimed
    }

    fn map() -> Option<&'static Stream> {
        let at = heap::map(size_of::<Stream>()).cast::<Stream>();
        // SAFETY: null, or fresh zero bytes, which are a valid stream: numbers and null pointers.
        let stream = unsafe { at.as_ref() }?;
        stream.occupancy.store(CLAIMED, Relaxed);
        let before = STREAMS.fetch_add(1, Relaxed);
        if before > 0 {
            clock::stamp_each();
        }
        stream.index.store(FIRST.load(Relaxed) + before, Relaxed);
        if let Some(exchange) = buffer::exchange() {
            exchange.count_stream();
        }
        let mut first = LIST.load(Acquire);
        loop {
            stream.next.store(first, Relaxed);
            match LIST.compare_exchange(first, at, AcqRel, Acquire) {
                Ok(_) => return Some(stream),
                Err(other) => first = other,
            }
        }
    }

    /// At least `bytes` free bytes of the current buffer, or of a fresh one; what is written there is published by
    /// [`BufferRef::commit`]. `None`: there is no empty buffer.
    #[inline(always)]
    pub fn room<'a>(&self, own: &mut Own, bytes: usize) -> Option<(BufferRef, &'a mut [u8])> {
        match self.rest() {
            Some(room) if room.1.len() >= bytes => Some(room),
            _ => {
                let fresh = self.renew(own)?;
                // SAFETY: as in `rest`.
                Some((fresh, unsafe { fresh.free_mut() }))
            }
        }
    }

    /// The free bytes of the current buffer.
    #[inline(always)]
    fn rest<'a>(&self) -> Option<(BufferRef, &'a mut [u8])> {
        let buffer = self.current()?;
        // SAFETY: it is the calling thread's current buffer. Callers are done with one slice before they ask for the next:
        // they all are in this file and in `append`, and commit it or return.
        Some((buffer, unsafe { buffer.free_mut() }))
    }

    /// As [`room`](Self::room), for an event.
    #[inline(always)]
    pub fn room_for_event<'a>(&self, own: &mut Own) -> Option<(BufferRef, &'a mut [u8; LONGEST])> {
        let (buffer, out) = self.room(own, LONGEST)?;
        Some((buffer, out.first_chunk_mut()?))
    }

    /// As [`room_for_event`](Self::room_for_event), where the current buffer has it.
    #[inline(always)]
    pub fn rest_for_event<'a>(&self) -> Option<(BufferRef, &'a mut [u8; LONGEST])> {
        let (buffer, out) = self.rest()?;
        Some((buffer, out.first_chunk_mut()?))
    }

    /// Appends what `encode` writes. False: there is no empty buffer.
    pub fn append(
        &self,
        own: &mut Own,
        encode: impl FnOnce(&mut EventEncoder, &mut [u8; LONGEST]) -> usize,
    ) -> bool {
        let Some((buffer, out)) = self.room_for_event(own) else { return false };
        buffer.commit(encode(&mut own.encoder, out));
        true
    }

    /// States the thread in the stream; false where there is no empty buffer.
    #[cold]
    #[inline(never)]
    pub fn introduce(&self, own: &mut Own) -> bool {
        let _errno = Errno::save();
        let mut name: ThreadName = [0; 16];
        // Miri has no such call.
        if cfg!(not(miri)) {
            // SAFETY: the kernel writes at most 16 bytes, a thread's longest name with its zero.
            unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        }
        let Some(Occupant { thread, tid, start }) = self.occupied(self.occupancy.load(Relaxed)) else {
            return false;
        };
        self.append(own, |encoder, out| encoder.thread(out, thread, tid, start, &name))
    }

    #[cold]
    #[inline(never)]
    fn renew(&self, own: &mut Own) -> Option<BufferRef> {
        let _errno = Errno::save();
        if fork::is_unnoticed() {
            phase::stop();
            return None;
        }
        let exchange = buffer::exchange()?;
        let fresh = crate::record::wait_for_empty(exchange)?;
        fresh.begin(self.index.load(Relaxed), own.sequence);
        own.sequence += 1;
        let full = BufferRef::from_ptr(self.current.swap(fresh.as_ptr(), AcqRel));
        if let Some(full) = full {
            exchange.send(full);
        }
        Some(fresh)
    }

    /// The part of the stream that is the thread's alone.
    ///
    /// # Safety
    /// The caller is the stream's thread, guarded against its own signal handlers, and has no other such reference.
    #[expect(clippy::mut_from_ref, reason = "the contract is what makes it exclusive")]
    pub unsafe fn own_mut(&self) -> &mut Own {
        // SAFETY: exclusiveness is the caller's contract.
        unsafe { &mut *self.own.get() }
    }

    /// Counts an event that will not be in the stream; the thread itself does so.
    pub fn lose(&self, reason: Lost) {
        let slot = &self.lost[reason as usize];
        slot.store(slot.load(Relaxed) + 1, Relaxed);
    }

    fn lost(&self, reason: Lost) -> u64 {
        self.lost[reason as usize].load(Relaxed)
    }

    /// Adds what one sample has cost the thread. What takes longer was not the sample's doing: the thread was not running.
    pub fn spend(&self, time: Nanos) {
        const MOST: u64 = 20_000;
        self.spent.store(self.spent.load(Relaxed) + time.0.min(MOST), Relaxed);
    }

    /// For the writer: what samples have cost the stream's threads so far.
    pub fn spent(&self) -> Nanos {
        Nanos(self.spent.load(Relaxed))
    }

    /// The buffer that the thread appends to.
    pub fn current(&self) -> Option<BufferRef> {
        BufferRef::from_ptr(self.current.load(Acquire))
    }

    /// For the writer: the thread that has the stream. One that the kernel no longer knows has it no longer.
    pub fn occupant(&self) -> Option<Occupant> {
        self.occupant_among(|tid| {
            // SAFETY: signal 0 is never delivered; the call only checks.
            let status = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, 0) };
            // SAFETY: errno is the calling thread's own.
            status == 0 || unsafe { *libc::__errno_location() } != libc::ESRCH
        })
    }

    /// As [`occupant`](Self::occupant), where `is_running` knows the threads. While it looks the stream may change hands.
    pub fn occupant_among(&self, is_running: impl FnOnce(u32) -> bool) -> Option<Occupant> {
        let occupancy = self.occupancy.load(Acquire);
        let occupant = self.occupied(occupancy)?;
        if !is_running(occupant.tid) {
            if self.occupancy.compare_exchange(occupancy, FREE, AcqRel, Relaxed).is_ok() {
                FREED.fetch_add(1, AcqRel);
            }
            return None;
        }
        (self.occupancy.load(Relaxed) == occupancy).then_some(occupant)
    }

    /// The thread that `occupancy` names, if it still has the stream.
    fn occupied(&self, occupancy: u64) -> Option<Occupant> {
        let thread = occupancy.checked_sub(OCCUPIED)?;
        Some(Occupant {
            thread: ThreadIndex(thread as u32),
            tid: self.tid.load(Acquire),
            start: Nanos(self.start.load(Acquire)),
        })
    }
}

const _: () = assert!(Lost::BackPressure as usize == 0 && Lost::Reentrant as usize == Lost::ALL.len() - 1);

/// Runs when a thread ends: its stream is another thread's to take.
unsafe extern "C" fn ended(_stream: *mut c_void) {
    let local = local();
    let guard = local.guard();
    local.set_guard(Guard::Recording);
    // SAFETY: the pointer is null or to a stream, which is mapped for ever.
    if let Some(stream) = unsafe { local.stream.get().as_ref() } {
        // SAFETY: it is this thread's stream, and the guard is set.
        let own = unsafe { stream.own_mut() };
        if own.stated != 0 {
            stream.append(own, |encoder, out| encoder.thread_end(out, clock::now()));
        }
        local.stream.set(std::ptr::null_mut());
        stream.occupancy.store(FREE, Release);
        FREED.fetch_add(1, AcqRel);
    }
    local.set_guard(guard);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_no_event_has_is_not_given_again() {
        // SAFETY: zero bytes are valid: numbers.
        let mut own: Box<Own> = unsafe { Box::new_zeroed().assume_init() };
        let first = own.stamp();
        own.forget_stamp();
        assert!(own.stamp() >= first, "the encoder's, which is older");
    }
}
