//! What a recording thread has: its encoder, its current buffer, its counts of what was lost.
//!
//! A thread gets this state when it first records something. At its end (a `pthread` key's destructor) it hands the
//! last buffer over; the writer, when it has read that, frees the state for another thread. A thread that records again
//! after that, in a later destructor, gets a new state as if it were a new thread; where no destructor runs any more,
//! the writer notices that the kernel no longer knows the thread.

use crate::buffer::{self, Buffer, BufferRef};
use crate::x86_64::local::{Guard, Local, local};
use crate::{clock, heap};
use prof::record::Lost;
use prof::{EventEncoder, MAX_DEPTH, Nanos};
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

/// A thread's recording state. The first half is shared with the writer.
pub struct Thread {
    /// Its number; also tells one use of a state from the next.
    pub index: AtomicU32,
    /// The kernel's number.
    pub tid: AtomicU32,
    /// When it was first seen.
    pub start: AtomicU64,
    /// When it ended, or 0.
    pub end: AtomicU64,
    occupancy: AtomicU8,
    name: [AtomicU64; 2],
    current: AtomicPtr<Buffer>,
    lost: [AtomicU64; Lost::ALL.len()],
    next: AtomicPtr<Thread>,
    /// Only the thread itself uses it, while it is guarded.
    pub own: Own,
}

/// [`Thread::occupancy`]: nobody has the state; a thread is filling it in; a thread, or what it left, is in it.
const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const OCCUPIED: u8 = 2;

/// The half of the state that only its thread uses.
pub struct Own {
    /// The stream's state.
    pub encoder: EventEncoder,
    /// The stack just unwound, leaf first.
    pub stack: [u64; MAX_DEPTH + 1],
    /// What the stream last said the interval is; 0: nothing yet.
    pub interval: u64,
    /// What the stream last said the generation is, plus 1; 0: nothing yet.
    pub generation: u64,
    sequence: u32,
}

static LIST: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
static INDEX: AtomicU32 = AtomicU32::new(0);
static KEY: AtomicU32 = AtomicU32::new(u32::MAX);

/// Makes the key whose destructor ends a thread. False where there is none left.
pub fn create_key() -> bool {
    let mut key = 0;
    // SAFETY: `key` is a valid place, and the destructor takes what `Thread::take` stores.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(ended)) } == 0;
    if made {
        KEY.store(key, Release);
    }
    made
}

/// Every state, occupied or not. They are never unmapped.
pub fn all() -> impl Iterator<Item = &'static Thread> {
    let shared = |at: *mut Thread| {
        // SAFETY: states in the list are mapped for ever; what is shared of them is atomic, and `own` is only reached
        // through `own_mut`.
        unsafe { at.as_ref() }
    };
    std::iter::successors(shared(LIST.load(Acquire)), move |thread| shared(thread.next.load(Acquire)))
}

impl Thread {
    /// The calling thread's state; a new one where it has none yet. `None` where the system refuses.
    #[inline]
    pub fn of(local: &Local) -> Option<&'static Thread> {
        // SAFETY: the pointer is null or to a state, which is mapped for ever.
        match unsafe { local.thread.get().as_ref() } {
            Some(thread) => Some(thread),
            None => Thread::take(local),
        }
    }

    #[cold]
    fn take(local: &Local) -> Option<&'static Thread> {
        let claim =
            |thread: &&Thread| thread.occupancy.compare_exchange(FREE, CLAIMED, AcqRel, Relaxed).is_ok();
        let thread = match all().find(claim) {
            Some(free) => free,
            None => Thread::map()?,
        };
        thread.index.store(INDEX.fetch_add(1, Relaxed), Relaxed);
        // SAFETY: has no arguments and cannot fail.
        thread.tid.store(unsafe { libc::syscall(libc::SYS_gettid) } as u32, Relaxed);
        thread.start.store(clock::now().0, Relaxed);
        thread.note_name();
        // SAFETY: this thread just took the state, and is guarded.
        let own = unsafe { thread.own_mut() };
        own.encoder.reset();
        (own.interval, own.generation, own.sequence) = (0, 0, 0);
        thread.occupancy.store(OCCUPIED, Release);
        local.thread.set(std::ptr::from_ref(thread).cast_mut());
        if let Some(exchange) = buffer::exchange() {
            exchange.count_threads(true);
        }
        let guard = local.guard();
        // glibc may allocate for a key of a high number: that is our own doing.
        local.set_guard(Guard::Own);
        // SAFETY: the key is ours; the value is the state.
        unsafe { libc::pthread_setspecific(KEY.load(Acquire), std::ptr::from_ref(thread).cast::<c_void>()) };
        local.set_guard(guard);
        Some(thread)
    }

    fn map() -> Option<&'static Thread> {
        let at = heap::map(size_of::<Thread>()).cast::<Thread>();
        // SAFETY: null, or fresh zero bytes, which are a valid state: numbers, null pointers, `false`.
        let thread = unsafe { at.as_ref() }?;
        thread.occupancy.store(CLAIMED, Relaxed);
        let mut first = LIST.load(Acquire);
        loop {
            thread.next.store(first, Relaxed);
            match LIST.compare_exchange(first, at, AcqRel, Acquire) {
                Ok(_) => return Some(thread),
                Err(other) => first = other,
            }
        }
    }

    /// Keeps the name that the thread has now: a short-lived one has none left when the writer asks.
    fn note_name(&self) {
        let mut name = [0u8; 16];
        // SAFETY: the kernel writes at most 16 bytes, a thread's longest name with its zero.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let value = u128::from_le_bytes(name);
        self.name[0].store(value as u64, Relaxed);
        self.name[1].store((value >> 64) as u64, Relaxed);
    }

    /// For the writer: the name that the thread had when it first recorded something.
    pub fn name(&self) -> String {
        let value = u128::from(self.name[0].load(Relaxed)) | u128::from(self.name[1].load(Relaxed)) << 64;
        let bytes = value.to_le_bytes();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// The half that belongs to the thread.
    ///
    /// # Safety
    /// The caller is the state's thread, guarded against its own signal handlers, and has no other such reference.
    #[expect(clippy::mut_from_ref, reason = "the contract is what makes it exclusive")]
    pub unsafe fn own_mut(&self) -> &mut Own {
        let own = (&raw const self.own).cast_mut();
        // SAFETY: states live in mapped memory that is only ever reached through raw pointers from the list, so it may
        // be written; exclusiveness is the caller's contract.
        unsafe { &mut *own }
    }

    /// Counts events that will not be in the stream; the thread itself does so.
    pub fn lose(&self, reason: Lost, events: u64) {
        let slot = &self.lost[reason as usize];
        slot.store(slot.load(Relaxed) + events, Relaxed);
    }

    /// For the writer: events lost so far, for this and earlier users of the state.
    pub fn lost(&self, reason: Lost) -> u64 {
        self.lost[reason as usize].load(Relaxed)
    }

    /// For the writer: the buffer that the thread appends to.
    pub fn current(&self) -> Option<BufferRef> {
        BufferRef::from_ptr(self.current.load(Acquire))
    }

    /// For the writer: whether a thread is in the state, or what an ended one left.
    pub fn is_occupied(&self) -> bool {
        self.occupancy.load(Acquire) == OCCUPIED
    }

    /// When the thread ended.
    pub fn ended(&self) -> Option<Nanos> {
        Some(Nanos(self.end.load(Acquire))).filter(|end| *end != Nanos(0))
    }

    /// For the writer: lets another thread have the state.
    pub fn release(&self) {
        self.current.store(std::ptr::null_mut(), Relaxed);
        self.end.store(0, Relaxed);
        self.occupancy.store(FREE, Release);
    }

    /// Appends what `encode` writes to the current buffer, or to a fresh one where there is no room. False: there is no
    /// empty buffer.
    ///
    /// # Safety
    /// As [`own_mut`](Self::own_mut): `own` is this thread's own half.
    #[inline]
    pub unsafe fn append(
        &self,
        own: &mut Own,
        mut encode: impl FnMut(&mut Own, &mut [u8]) -> Option<usize>,
    ) -> bool {
        for _ in 0..2 {
            if let Some(buffer) = self.current() {
                // SAFETY: it is the calling thread's current buffer, and the slice ends with this block.
                if let Some(len) = encode(own, unsafe { buffer.free_mut() }) {
                    buffer.commit(len);
                    return true;
                }
            }
            if !self.renew(own) {
                return false;
            }
        }
        false
    }

    #[cold]
    fn renew(&self, own: &mut Own) -> bool {
        let Some(exchange) = buffer::exchange() else { return false };
        let Some(fresh) = crate::record::wait_for_empty(exchange) else { return false };
        fresh.begin(self.index.load(Relaxed), own.sequence);
        own.sequence += 1;
        let full = BufferRef::from_ptr(self.current.swap(fresh.as_ptr(), AcqRel));
        if let Some(full) = full {
            exchange.send(full);
        }
        true
    }
}

/// Runs when a thread ends: from now on the state is the writer's.
unsafe extern "C" fn ended(_state: *mut c_void) {
    let local = local();
    let guard = local.guard();
    local.set_guard(Guard::Own);
    // SAFETY: the pointer is null or to a state, which is mapped for ever.
    if let Some(thread) = unsafe { local.thread.replace(std::ptr::null_mut()).as_ref() } {
        thread.end(clock::now());
    }
    local.set_guard(guard);
}

impl Thread {
    /// Marks the state as left by its thread.
    pub fn end(&self, when: Nanos) {
        self.end.store(when.0.max(1), Release);
        if let Some(exchange) = buffer::exchange() {
            exchange.count_threads(false);
        }
    }

    /// Whether the kernel still knows the thread.
    pub fn exists(&self) -> bool {
        let tid = self.tid.load(Relaxed);
        // SAFETY: signal 0 is never delivered; the call only checks.
        unsafe {
            libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, 0) == 0
                || *libc::__errno_location() != libc::ESRCH
        }
    }
}

/// Events lost by threads that had no state to count them in.
static UNCOUNTED: AtomicU64 = AtomicU64::new(0);

/// Counts one lost event of the calling thread, without making a state for it.
pub fn lose(local: &Local, reason: Lost) {
    // SAFETY: the pointer is null or to a state, which is mapped for ever.
    match unsafe { local.thread.get().as_ref() } {
        Some(thread) => thread.lose(reason, 1),
        None => {
            UNCOUNTED.fetch_add(1, Relaxed);
        }
    }
}

/// For the writer: events lost by threads without a state, since the last call.
pub fn take_uncounted() -> u64 {
    UNCOUNTED.swap(0, Relaxed)
}
