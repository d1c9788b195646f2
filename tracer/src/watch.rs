//! Watches the loader from a thread of its own, for what passes by our hooks: libraries that glibc unloads by itself
//! (character sets, name services) never come through `dlclose`.
//!
//! The loader counts what it loads and unloads, and tells in `dl_iterate_phdr`, under a lock that a host thread may hold
//! for as long as it likes. No hook may wait for that lock; nor may the writer, for which hooks wait where the stream is
//! to be lossless, and the end of the process. This thread may: nobody waits for it, but for `fork`, a little.
//!
//! ```text
//! dlclose, after the real one ──▶ look ──more unloaded than known──▶ rules forgotten, next generation
//! this thread, at every flush ─────┘
//! ```

use crate::local::{Guard, local};
use crate::phase::{self, Phase};
use crate::unwind::rules;
use crate::{clock, modules, own_thread};
use libc::dl_phdr_info as Info;
use prof::Nanos;
use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Bytes of the thread's stack: it formats nothing and writes nothing.
const STACK: usize = 128 << 10;

/// It looks at least this often.
const LONGEST_PAUSE: Nanos = Nanos::SECOND;

/// How long a `fork` waits for a look that is under way. It takes microseconds, once it has the loader's lock.
const FORK_PATIENCE: Nanos = Nanos(100_000_000);

/// Images unloaded since the process started, as far as consequences have been drawn, plus 1; 0: nobody has looked.
static UNLOADED: AtomicU64 = AtomicU64::new(0);

/// Whether the thread is looking, or about to.
static LOOKING: AtomicU32 = AtomicU32::new(0);

/// Threads that are in `fork`.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// Takes note of the present state, before anything depends on it.
pub fn first_look() {
    if let Some(unloaded) = unloaded() {
        UNLOADED.store(unloaded + 1, Release);
    }
}

/// Something may have been unloaded: draws the consequences.
pub fn closed() {
    if phase::now() == Phase::Tracing && !look() {
        forget();
    }
}

/// Where something has been unloaded since the last look, forgets what was known of the code. Takes the loader's lock.
/// False: the loader does not tell.
fn look() -> bool {
    let known = UNLOADED.load(Acquire);
    let Some(unloaded) = unloaded() else { return false };
    if unloaded + 1 != known {
        // Before the count is published: who finds it up to date relies on the rest.
        forget();
        UNLOADED.fetch_max(unloaded + 1, AcqRel);
    }
    true
}

fn forget() {
    rules::clear();
    modules::changed();
}

/// Asks the loader.
fn unloaded() -> Option<u64> {
    let mut told = None::<u64>;
    // SAFETY: the function is called with the place it expects, before this call returns.
    unsafe { libc::dl_iterate_phdr(Some(one), (&raw mut told).cast()) };
    told
}

/// Called with the first image, and not with the others.
///
/// # Safety
/// `told` is the place that [`unloaded`] passes; `info` is the loader's, of `size` bytes.
unsafe extern "C" fn one(info: *mut Info, size: usize, told: *mut c_void) -> c_int {
    const ENOUGH: usize = std::mem::offset_of!(Info, dlpi_subs) + size_of::<u64>();
    // SAFETY: by contract; the field is there where the structure is that long.
    unsafe {
        if size >= ENOUGH {
            *told.cast::<Option<u64>>() = Some((*info).dlpi_subs);
        }
    }
    1
}

/// Starts the thread; it looks once between two flushes. Signals are to be held back.
///
/// # Errors
/// Where the thread cannot be created.
pub fn start(settle: Nanos) -> io::Result<()> {
    let pause = settle.min(LONGEST_PAUSE).0;
    // SAFETY: `run` may be called with any number.
    unsafe { own_thread::spawn(run, std::ptr::without_provenance_mut(pause as usize), STACK) }
}

extern "C" fn run(pause: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    // SAFETY: a C string of less than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"libtrace-loader".as_ptr()) };
    let pause = Nanos(pause.addr() as u64);
    while phase::now() == Phase::Tracing {
        LOOKING.store(1, SeqCst);
        if FORKING.load(SeqCst) == 0 {
            look();
        }
        LOOKING.store(0, SeqCst);
        sleep(pause);
    }
    std::ptr::null_mut()
}

fn sleep(time: Nanos) {
    let time = libc::timespec {
        tv_sec: (time.0 / 1_000_000_000) as libc::time_t,
        tv_nsec: (time.0 % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: a valid time, and no wish to know what was left of it.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

/// Before a `fork`: a child that is made while this library's thread has the loader's lock would find it locked for ever.
/// Where the thread is itself waiting for the lock, it is not waited for: then the lock is the host's.
pub fn fork_begins() {
    const STEP: Nanos = Nanos(50_000);
    FORKING.fetch_add(1, SeqCst);
    let begin = clock::now();
    while LOOKING.load(SeqCst) != 0 && clock::now().0.saturating_sub(begin.0) < FORK_PATIENCE.0 {
        sleep(STEP);
    }
}

/// After a `fork`, in the parent.
pub fn fork_ends() {
    FORKING.fetch_sub(1, SeqCst);
}
