//! The library's beginning in a process.

use crate::local::{as_own, local};
use crate::settings::{Interval, Settings};
use crate::unwind::{objects, stack};
use crate::writer::{self, Output};
use crate::{
    allocator, arch, budget, buffer, clock, entry, environment, exits, filter, fork, holders, live, loader,
    lookup, mapping, phase, record, sampler, say, stream, vitals, watch,
};
use prof::RunId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::*};

#[used]
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
static BEGIN: extern "C" fn() = begin;

static PREPARED: AtomicBool = AtomicBool::new(false);

/// From `prepare` to `begin`.
static PREPARATION: Mutex<Option<(Settings, RunId)>> = Mutex::new(None);

/// Makes what recording needs, once: called with the first allocation, which may come before the constructor. Events
/// are kept in buffers until the writer starts.
pub fn prepare() {
    if PREPARED.swap(true, AcqRel) {
        return;
    }
    say::remember_stderr();
    match ready() {
        Ok(interval) => phase::trace(interval),
        Err(why) => give_up(&why),
    }
}

/// Everything is forwarded from now on.
fn give_up(why: &str) {
    phase::stop();
    say::line(&format!("{why}; running untraced"));
}

fn ready() -> Result<u64, String> {
    entry::find_entries(0);
    fork::begin();
    let settings = Settings::parse(&environment::variable("LIBTRACE").unwrap_or_default())?;
    stack::init();
    if !objects::init() && !stack::kernel_checks() {
        let missing = "this C library has no _dl_find_object (glibc 2.35 and later do)";
        return Err(format!("{missing}, and the kernel does not check addresses"));
    }
    if let Some(why) = arch::refusal(settings.interval.is_every()) {
        return Err(why.into());
    }
    watch::first_look();
    clock::begin();
    mapping::begin();
    note_main_stack();
    let entropy = entropy();
    sampler::seed(entropy as u64);
    if settings.lossless {
        record::be_lossless();
    }
    let every = settings.interval.is_every();
    let tables = (every || live::create()) && holders::create();
    if !stream::create_key() || !loader::create_key() || !tables {
        return Err("failed to reserve memory or a thread key".into());
    }
    if settings.paused {
        phase::pause();
    } else if every {
        filter::mark_all();
    }
    buffer::create();
    let interval = match settings.interval {
        Interval::Auto => budget::FIRST_INTERVAL,
        Interval::Fixed(bytes) => bytes,
    };
    *PREPARATION.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
        Some((settings, entropy.to_le_bytes()));
    Ok(interval)
}

/// The constructor.
extern "C" fn begin() {
    as_own(|| {
        prepare();
        entry::install();
        allocator::find();
        let preparation = PREPARATION.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some((settings, run)) = preparation else { return };
        if !fork::is_own_process() {
            // Another library's constructor has forked, and what is in the buffers is the parent's.
            return phase::stop();
        }
        fork::install(settings.follow.forks());
        exits::install();
        vitals::find_allocator();
        if !settings.follow.executes() {
            environment::leave_preload();
        }
        if let Some(path) = lookup::preempted_by() {
            say::line(&format!(
                "{path} has a malloc of its own ahead of libtrace.so: what it gives out is not recorded"
            ));
        }
        let (path, _) = settings.path(std::process::id());
        vitals::set_time(settings.vitals);
        let settle = settings.settle;
        let begin = |output| {
            watch::start(settle)?;
            vitals::start()?;
            writer::start(output, settings)
        };
        let started = Output::create(&path, run).and_then(|output| without_signals(|| begin(output)));
        if let Err(error) = started {
            give_up(&format!("failed to write {path}: {error}"));
        }
    });
}

/// Runs `work` with all signals held back. Those that a write raises, beyond a limit on file sizes or to a pipe without a
/// reader, are not the host's and never reach it.
fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    const OURS: [libc::c_int; 2] = [libc::SIGXFSZ, libc::SIGPIPE];
    // SAFETY: zero bytes are valid signal sets, all places are valid, and the calls only concern this thread.
    unsafe {
        let pending = || {
            let mut set = std::mem::zeroed();
            libc::sigpending(&mut set);
            OURS.map(|signal| libc::sigismember(&set, signal) == 1)
        };
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let earlier = pending();
        let result = work();
        for ((signal, was), is) in OURS.into_iter().zip(earlier).zip(pending()) {
            if is && !was {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, signal);
                let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                libc::sigtimedwait(&set, std::ptr::null_mut(), &now);
            }
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// From the kernel; where it refuses, from what differs between processes.
pub fn entropy() -> u128 {
    let mut bytes = [0u8; 16];
    // SAFETY: the place has as many bytes as it says.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
    if got == bytes.len() as i64 {
        return u128::from_le_bytes(bytes);
    }
    let clock =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    clock ^ u128::from(std::process::id()) << 64 ^ (std::ptr::from_ref(&clock) as usize as u128) << 32
}

/// The main thread's stack ends where the loader says, and is no longer than the limit: the kernel maps nothing else
/// in between.
fn note_main_stack() {
    const DEFAULT_LIMIT: u64 = 8 << 20;
    const MOST: u64 = 1 << 30;
    // SAFETY: has no arguments and cannot fail.
    if unsafe { libc::syscall(libc::SYS_gettid) } != i64::from(std::process::id()) {
        return;
    }
    // SAFETY: the name is a C string; the symbol is a pointer variable of the loader.
    let end = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_stack_end".as_ptr()).cast::<u64>().as_ref() };
    let Some(&end) = end else { return };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) } == 0
        && limit.rlim_cur != libc::RLIM_INFINITY;
    let size = if known { limit.rlim_cur.min(MOST) } else { DEFAULT_LIMIT };
    local().stack_high.set(end);
    local().stack_low.set(end.saturating_sub(size));
}
