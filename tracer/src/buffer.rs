//! Events on their way from a thread to the writer.
//!
//! ```text
//!           take_empty                    commit, commit, …                  send
//!   pool ───────────────▶ thread's current ────────────────▶ thread's current ────▶ filled ──▶ writer ──▶ pool
//! ```
//! The thread appends and publishes a length; the writer reads what is published, in the current buffer too, so that an
//! idle thread's events do not wait for its buffer to fill. Both ends are bounded channels that nobody ever blocks on:
//! a hook only tries, and the writer sleeps on a futex of its own.

use crate::{futex, heap};
use crossbeam_channel::{Receiver, Sender, bounded};
use prof::Nanos;
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

/// Event bytes of one buffer. The longest event, 1025 frames of up to ten bytes, fits three times.
pub const CAPACITY: usize = 32 << 10;

/// Buffers there can be: 128 MiB of address space, resident as far as written. Miri takes its time to make channels.
const MOST_BUFFERS: usize = if cfg!(miri) { 64 } else { 4096 };

/// Buffers beyond one per stream that may be under way: back-pressure begins there.
const IN_FLIGHT: usize = 256;

/// The number of no stream.
pub const NO_STREAM: u32 = u32::MAX;

/// One stretch of a stream's events.
pub struct Buffer {
    /// The stream's number.
    stream: AtomicU32,
    /// Counts the stream's buffers.
    sequence: AtomicU32,
    /// Bytes that the writer may read.
    committed: AtomicU32,
    /// Bytes that the writer has read; only the writer uses it.
    taken: AtomicU32,
    /// The buffer that was mapped before it.
    before: AtomicPtr<Buffer>,
    bytes: UnsafeCell<[u8; CAPACITY]>,
}

/// A buffer that was mapped for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BufferRef(NonNull<Buffer>);

// SAFETY: the fields are atomic but for the bytes, of which those below `committed` are only read, and those above only
// touched by the one thread whose current buffer it is (`free_mut`'s contract).
unsafe impl Send for BufferRef {}

impl BufferRef {
    fn map() -> Option<BufferRef> {
        let buffer = BufferRef::from_ptr(heap::map(size_of::<Buffer>()).cast())?;
        buffer.get().stream.store(NO_STREAM, Relaxed);
        let mut last = LAST.load(Acquire);
        loop {
            buffer.get().before.store(last, Relaxed);
            match LAST.compare_exchange(last, buffer.as_ptr(), AcqRel, Acquire) {
                Ok(_) => return Some(buffer),
                Err(other) => last = other,
            }
        }
    }

    /// From a pointer stored with [`BufferRef::as_ptr`].
    pub fn from_ptr(at: *mut Buffer) -> Option<BufferRef> {
        NonNull::new(at).map(BufferRef)
    }

    /// To be stored in an atomic.
    pub fn as_ptr(self) -> *mut Buffer {
        self.0.as_ptr()
    }

    fn get(&self) -> &Buffer {
        // SAFETY: buffers are mapped for ever, and all access to the bytes goes through their cell.
        unsafe { self.0.as_ref() }
    }

    /// Empties it for a stream. A fork may come in between: at no step is it another buffer than the old or the new one.
    pub fn begin(self, stream: u32, sequence: u32) {
        let buffer = self.get();
        buffer.stream.store(NO_STREAM, Release);
        buffer.committed.store(0, Release);
        buffer.taken.store(0, Release);
        buffer.sequence.store(sequence, Release);
        buffer.stream.store(stream, Release);
    }

    /// The stream's number, and which of its buffers this is.
    pub fn origin(self) -> (u32, u32) {
        (self.get().stream.load(Relaxed), self.get().sequence.load(Relaxed))
    }

    /// The bytes behind the committed ones.
    ///
    /// # Safety
    /// The caller is the thread whose current buffer this is, and has no other such slice.
    #[inline(always)]
    pub unsafe fn free_mut<'a>(self) -> &'a mut [u8] {
        let committed = self.get().committed.load(Relaxed) as usize;
        let start = self.get().bytes.get().cast::<u8>();
        // SAFETY: inside the array, and by contract nobody else reads or writes there.
        unsafe { std::slice::from_raw_parts_mut(start.add(committed), CAPACITY - committed) }
    }

    /// Publishes the next `len` bytes.
    pub fn commit(self, len: usize) {
        let committed = &self.get().committed;
        committed.store(committed.load(Relaxed) + len as u32, Release);
    }

    /// For the writer: the bytes published since the last call.
    pub fn take(&self) -> &[u8] {
        let buffer = self.get();
        let taken = buffer.taken.load(Relaxed) as usize;
        let committed = buffer.committed.load(Acquire) as usize;
        buffer.taken.store(committed as u32, Relaxed);
        // SAFETY: inside the array; published bytes are not written again until the writer gives the buffer back.
        unsafe { std::slice::from_raw_parts(buffer.bytes.get().cast::<u8>().add(taken), committed - taken) }
    }
}

/// Both channels.
pub struct Exchange {
    filled: (Sender<BufferRef>, Receiver<BufferRef>),
    empty: (Sender<BufferRef>, Receiver<BufferRef>),
    mapped: AtomicUsize,
    streams: AtomicUsize,
    wake: AtomicU32,
}

static EXCHANGE: AtomicPtr<Exchange> = AtomicPtr::new(std::ptr::null_mut());

/// The buffer that was mapped last.
static LAST: AtomicPtr<Buffer> = AtomicPtr::new(std::ptr::null_mut());

/// Makes the channels; to be called once in a process, before any thread records.
pub fn create() {
    EXCHANGE.store(Box::into_raw(Box::new(Exchange::new())), Release);
}

/// The channels, once made. In a hook this is one load.
pub fn exchange() -> Option<&'static Exchange> {
    // SAFETY: null, or from a box that is never freed.
    unsafe { EXCHANGE.load(Acquire).as_ref() }
}

/// In a forked child: the channels are not used any more, since threads that are gone may have been at them.
pub fn forked() {
    EXCHANGE.store(std::ptr::null_mut(), Release);
}

/// Every buffer.
pub fn all() -> impl Iterator<Item = BufferRef> {
    let last = BufferRef::from_ptr(LAST.load(Acquire));
    std::iter::successors(last, |buffer| BufferRef::from_ptr(buffer.get().before.load(Relaxed)))
}

impl Exchange {
    fn new() -> Exchange {
        Exchange {
            filled: bounded(MOST_BUFFERS),
            empty: bounded(MOST_BUFFERS),
            mapped: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            wake: AtomicU32::new(0),
        }
    }

    /// One stream more holds a buffer.
    pub fn count_stream(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    /// An empty buffer: a used one, else a new one within the bound.
    pub fn take_empty(&self) -> Option<BufferRef> {
        if let Ok(buffer) = self.empty.1.try_recv() {
            return Some(buffer);
        }
        let bound = (self.streams.load(Relaxed) + IN_FLIGHT).min(MOST_BUFFERS);
        self.mapped.fetch_update(Relaxed, Relaxed, |n| (n < bound).then_some(n + 1)).ok()?;
        let buffer = BufferRef::map();
        if buffer.is_none() {
            self.mapped.fetch_sub(1, Relaxed);
        }
        buffer
    }

    /// For the writer of a forked child: takes a buffer that the parent's threads used.
    pub fn adopt(&self, buffer: BufferRef) {
        buffer.begin(NO_STREAM, 0);
        self.mapped.fetch_add(1, Relaxed);
        self.give_back(buffer);
    }

    /// Gives a buffer to the writer, and wakes it. There are never more buffers than places.
    pub fn send(&self, buffer: BufferRef) {
        let _ = self.filled.0.try_send(buffer);
        self.wake_writer();
    }

    /// For the writer: a filled buffer.
    pub fn receive(&self) -> Option<BufferRef> {
        self.filled.1.try_recv().ok()
    }

    /// For the writer: gives an emptied buffer back.
    pub fn give_back(&self, buffer: BufferRef) {
        let _ = self.empty.0.try_send(buffer);
    }

    /// Ends the writer's sleep, or keeps it from beginning.
    pub fn wake_writer(&self) {
        if self.wake.swap(1, AcqRel) == 0 {
            futex::wake(&self.wake);
        }
    }

    /// For the writer: sleeps until woken, for at most `most`.
    pub fn sleep(&self, most: Nanos) {
        futex::sleep(&self.wake, 0, most);
        // Takes the wake: what was done before it is seen from here on, and what is done later finds 0 and wakes again.
        self.wake.swap(0, AcqRel);
    }
}

#[cfg(test)]
mod concurrent {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicPtr};
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn what_was_done_before_a_wake_is_seen_after_the_sleep() {
        const LONG: Duration = Duration::from_secs(3600);
        let exchange = Exchange::new();
        for _ in 0..8 {
            let done = [const { AtomicBool::new(false) }; 4];
            let begin = Instant::now();
            thread::scope(|scope| {
                for done in &done {
                    scope.spawn(|| {
                        done.store(true, Relaxed);
                        exchange.wake_writer();
                    });
                }
                while !done.iter().all(|done| done.load(Relaxed)) {
                    exchange.sleep(Nanos(LONG.as_nanos() as u64));
                }
            });
            // Miri's clock jumps ahead where everybody sleeps; elsewhere this would take the hour.
            assert!(begin.elapsed() < LONG, "slept through a wake");
        }
    }

    #[test]
    fn committed_bytes_are_read_whole_and_once_while_the_buffer_goes_round() {
        const ROUNDS: u32 = if cfg!(miri) { 6 } else { 20_000 };
        const LEN: usize = 3;
        let exchange = Exchange::new();
        exchange.count_stream();
        let current = AtomicPtr::new(std::ptr::null_mut());
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let buffer = loop {
                        match exchange.take_empty() {
                            Some(buffer) => break buffer,
                            None => thread::yield_now(),
                        }
                    };
                    buffer.begin(1, round);
                    if let Some(full) = BufferRef::from_ptr(current.swap(buffer.as_ptr(), AcqRel)) {
                        exchange.send(full);
                    }
                    for _ in 0..2 {
                        // SAFETY: this thread took the buffer, and the slice is gone before the next.
                        let free = unsafe { buffer.free_mut() };
                        free[..LEN].fill((round + 1) as u8);
                        buffer.commit(LEN);
                    }
                }
            });
            let all: Vec<u8> = (1..=ROUNDS).flat_map(|round| [round as u8; 2 * LEN]).collect();
            let mut read = Vec::new();
            let mut next = 0;
            while read.len() < all.len() {
                if let Some(buffer) = BufferRef::from_ptr(current.load(Acquire))
                    && buffer.origin() == (1, next)
                {
                    read.extend_from_slice(buffer.take());
                }
                while let Some(buffer) = exchange.receive() {
                    assert_eq!(buffer.origin(), (1, next));
                    read.extend_from_slice(buffer.take());
                    exchange.give_back(buffer);
                    next += 1;
                }
            }
            assert_eq!(read, all);
        });
    }
}
