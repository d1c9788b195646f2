//! The control socket beside the file, and the thread that serves it.
//!
//! ```text
//! client ─▶ Listener ─▶ Client ─▶ line ─▶ perform ─┬─ status, trim: here
//!                                                  └─ Request ─▶ writer's next step ─▶ answer
//! ```
//! One client at a time, one line of bounded length, a limit on every wait; neither hooks nor the writer nor the process's
//! end wait for this thread. What it asks of the writer waits in one place, where the writer finds it when it wakes.
//!
//! Once a second it looks whether clients can still reach the socket, and makes it anew where the host has closed it, or an
//! `exec` that failed has removed it.

mod perform;
mod request;
mod socket;

pub use request::{Order, Request, Values, requested};
pub use socket::remove as hide;

use crate::local::{Guard, local};
use crate::own_thread::{self, OwnThread};
use crate::{clock, descriptors, futex};
use prof::{Nanos, control::failed};
use socket::Listener;
use std::ffi::c_void;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{Arc, OnceLock};

/// Bytes of the thread's stack; an allocator's own trimming runs on it.
const STACK: usize = 256 << 10;

/// After a failure to make the socket anew: the first pause, doubled each time, and the longest.
const PAUSES: (Nanos, Nanos) = (Nanos::SECOND, Nanos(64_000_000_000));

/// The thread.
static THREAD: OwnThread = OwnThread::new();

/// 1: it is to end.
static ENDING: AtomicU32 = AtomicU32::new(0);

/// How long the start of tracing waits for the thread's first steps.
const PATIENCE: Nanos = Nanos(1_000_000_000);

/// The socket that the thread is to make, and what became of it.
struct Beginning {
    path: PathBuf,
    result: OnceLock<io::Result<()>>,
    is_known: AtomicU32,
}

/// Starts the thread, which makes the socket of an output file. Signals are to be held back. Where the socket is.
///
/// # Errors
/// Why there is none; tracing goes on without.
pub fn start(output: &str) -> Result<String, String> {
    let path = Listener::path_beside(output).ok_or("the output has no name")?;
    let beginning = Arc::new(Beginning { path, result: OnceLock::new(), is_known: AtomicU32::new(0) });
    ENDING.store(0, Release);
    let argument = Arc::into_raw(beginning.clone());
    // SAFETY: `run` takes the reference, once.
    let started = unsafe { THREAD.start(run, argument.cast_mut().cast(), STACK) };
    started.map_err(|error| {
        // SAFETY: from above, and there is no thread that takes it.
        drop(unsafe { Arc::from_raw(argument) });
        error.to_string()
    })?;
    futex::wait_while(&beginning.is_known, 0, Nanos(clock::now().0 + PATIENCE.0));
    match beginning.result.get() {
        Some(Ok(())) => Ok(beginning.path.to_string_lossy().into_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("its thread did not begin in time".into()),
    }
}

/// How many threads this module has now.
pub fn threads() -> u32 {
    THREAD.count()
}

/// Tracing ends: the socket's file is removed and the thread told to end. Waits for nothing.
pub fn end() {
    // First, lest the thread makes the socket anew.
    ENDING.store(1, Release);
    futex::wake(&ENDING);
    socket::interrupt();
    hide();
}

/// After [`end`]: waits for the thread a little.
pub fn wait_for_end() {
    THREAD.wait_for_end();
}

/// In a forked child: thread and socket are the parent's.
pub fn abandon() {
    THREAD.forked();
    socket::abandon();
    request::abandon();
}

fn is_ending() -> bool {
    ENDING.load(Acquire) != 0
}

/// Sleeps, but not beyond the end.
fn pause(time: Nanos) {
    futex::sleep(&ENDING, 0, time);
}

extern "C" fn run(beginning: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    own_thread::begin(prof::control::THREAD);
    // SAFETY: `start` passes a reference, once.
    let beginning = unsafe { Arc::from_raw(beginning.cast_const().cast::<Beginning>()) };
    descriptors::leave(None);
    let (listener, result) = match Listener::bind(&beginning.path) {
        Ok(listener) => (Some(listener), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let _ = beginning.result.set(result);
    beginning.is_known.store(1, Release);
    futex::wake(&beginning.is_known);
    drop(beginning);
    let serve = || listener.into_iter().for_each(serve);
    let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve));
    if served.is_err() {
        hide();
    }
    THREAD.ends();
    std::ptr::null_mut()
}

fn serve(listener: Listener) {
    let path = listener.path().to_owned();
    let mut listener = Some(listener);
    let mut wait = PAUSES.0;
    while !is_ending() {
        match listener.take().filter(Listener::is_whole) {
            Some(whole) => {
                attend(&whole);
                listener = Some(whole);
                wait = PAUSES.0;
            }
            // The old one's descriptors are closed by now.
            None => listener = restore(&path, &mut wait),
        }
    }
    // A socket that was made anew while tracing ended.
    hide();
}

fn restore(path: &Path, wait: &mut Nanos) -> Option<Listener> {
    match Listener::bind(path) {
        Ok(listener) => Some(listener),
        Err(_) => {
            pause(*wait);
            *wait = Nanos((wait.0 * 2).min(PAUSES.1.0));
            None
        }
    }
}

/// Serves the next client, if one comes within a second.
fn attend(listener: &Listener) {
    const AFTER_FAILURE: Nanos = Nanos(100_000_000);
    let client = match listener.accept(Nanos::SECOND) {
        Ok(Some(client)) => client,
        Ok(None) => return,
        Err(_) => return pause(AFTER_FAILURE),
    };
    if !client.is_allowed() {
        return client.reply(&failed("permission denied"));
    }
    match client.request() {
        Ok(line) if line.is_empty() => {}
        Ok(line) => client.reply(&perform::perform(&line)),
        Err(why) => client.reply(&failed(why)),
    }
}
