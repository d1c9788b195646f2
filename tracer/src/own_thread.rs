//! Threads of the library's own: the writer, the watcher of the module map, the one that reads vitals, and that of the
//! control socket.

use crate::{clock, control, descriptors, loader, say, vitals, watch, writer};
use prof::Nanos;
use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// How often, and how far apart, it is looked whether one has ended.
const LOOKS: (u32, Nanos) = (100, Nanos(1_000_000));

/// The kernel's numbers of those that have begun.
static THREADS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

/// In a new thread: names it, and takes note of it.
pub fn begin(name: &CStr) {
    // SAFETY: a C string, of which the kernel takes 15 bytes; the other call has no arguments and cannot fail.
    let tid = unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::syscall(libc::SYS_gettid) as u32
    };
    let _ = THREADS.iter().find(|place| place.compare_exchange(0, tid, AcqRel, Relaxed).is_ok());
}

/// On one of them: says a line on the process's stderr, which its own table of descriptors does not have.
pub fn say(text: &str) {
    match descriptors::of_process(libc::STDERR_FILENO) {
        Some(stderr) => say::line_to(stderr.as_raw_fd(), text),
        None => say::line(text),
    }
}

/// In a forked child: they are the parent's.
pub fn forked() {
    THREADS.iter().for_each(|place| place.store(0, Relaxed));
}

/// How many the kernel counts: one that was just created may not have begun, and one that is done may not have ended.
pub fn running() -> u32 {
    let at_work = writer::threads() + watch::threads() + vitals::threads() + control::threads();
    let process = std::process::id();
    // SAFETY: asks whether a thread of this process exists; no signal is sent.
    let exists = |tid: u32| unsafe { libc::syscall(libc::SYS_tgkill, process, tid, 0) } == 0;
    let alive = THREADS.iter().map(|place| place.load(Acquire)).filter(|&tid| tid != 0 && exists(tid));
    at_work.max(alive.count() as u32)
}

/// The CPU time of those that have begun and not ended.
pub fn cpu() -> Nanos {
    let threads = THREADS.iter().map(|place| place.load(Acquire)).filter(|&tid| tid != 0);
    Nanos(threads.map(|tid| clock::cpu(clock::of_thread(tid)).0).sum())
}

/// One of them that the writer's end waits for.
pub struct OwnThread {
    /// Whether it is there.
    count: AtomicU32,
}

impl OwnThread {
    /// Before it is started.
    pub const fn new() -> OwnThread {
        OwnThread { count: AtomicU32::new(0) }
    }

    /// Starts it; `function` says when it [ends](Self::ends). Otherwise as [`spawn`].
    ///
    /// # Errors
    /// Where the thread cannot be created.
    ///
    /// # Safety
    /// As for [`spawn`].
    pub unsafe fn start(
        &self,
        function: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
        stack: usize,
    ) -> io::Result<()> {
        self.count.store(1, Release);
        // SAFETY: by contract.
        let started = unsafe { spawn(function, argument, stack) };
        if started.is_err() {
            self.count.store(0, Release);
        }
        started
    }

    /// On the thread: it has done its work.
    pub fn ends(&self) {
        self.count.store(0, Release);
    }

    /// In a forked child: the thread is the parent's.
    pub fn forked(&self) {
        self.count.store(0, SeqCst);
    }

    /// How many there are: one, or none.
    pub fn count(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// Waits a little for the end of a thread that has been told to end; it may be held up by a lock of the program's.
    pub fn wait_for_end(&self) {
        let (looks, apart) = LOOKS;
        for _ in 0..looks {
            let is_over = self.count() == 0;
            clock::sleep(apart);
            if is_over {
                // Meanwhile it has left the C library.
                return;
            }
        }
    }
}

/// Creates a thread that nobody joins, past our own hook. It inherits that all signals are held back, which the caller
/// sees to: the host's signals are the host's threads' to take.
///
/// # Safety
/// `function` may be called with `argument`, once.
pub unsafe fn spawn(
    function: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
    stack: usize,
) -> io::Result<()> {
    // SAFETY: every place is valid, the attributes are destroyed after their use, and the function and its argument are
    // the caller's promise. `extern "C" fn` can be called as the `unsafe` type wants.
    let status = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setstacksize(&mut attributes, stack);
        libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut id = 0;
        let function: unsafe extern "C" fn(*mut c_void) -> *mut c_void = function;
        let status = loader::real_pthread_create()(&mut id, &attributes, function, argument);
        libc::pthread_attr_destroy(&mut attributes);
        status
    };
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}
