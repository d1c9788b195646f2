//! Watches the loader from a thread of its own, for what passes by our hooks: libraries that glibc unloads by itself
//! (character sets, name services) never come through `dlclose`.
//!
//! The loader counts what it loads and unloads, and tells in `dl_iterate_phdr`, under a lock that a host thread may hold
//! for as long as it likes. No hook may wait for that lock; nor may the writer, for which hooks wait where the stream is
//! to be lossless, and the end of the process. This thread may: nobody waits for it, but for `fork`, a little.
//!
//! ```text
//! dlclose, after the real one ───────────────────────────────────────▶ rules forgotten, next generation
//! this thread, at every flush ──▶ look ──more unloaded than known───────┘
//! ```

use crate::coverage::Coverage;
use crate::local::{Guard, local};
use crate::own_thread::{self, OwnThread};
use crate::phase::{self, Phase};
use crate::unwind::table::{Image, Sealed, TABLE};
use crate::unwind::{objects, rules};
use crate::{clock, descriptors, futex, modules};
use libc::dl_phdr_info as Info;
use prof::Nanos;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Segments begin at a multiple of at least this many bytes.
const PAGE: u64 = 4096;

/// Bytes of the thread's stack: it formats nothing and writes nothing.
const STACK: usize = 128 << 10;

/// After a look that a hook has asked for. Code that is made at run time belongs to no image: hooks would ask without end.
const SHORTEST_PAUSE: Nanos = Nanos(5_000_000);

/// It looks at least this often.
const LONGEST_PAUSE: Nanos = Nanos::SECOND;

/// How long a `fork` waits for a look that is under way. It takes microseconds, once it has the loader's lock.
const FORK_PATIENCE: Nanos = Nanos(100_000_000);

/// Images unloaded since the process started, as far as consequences have been drawn, plus 1; 0: nobody has looked.
static UNLOADED: AtomicU64 = AtomicU64::new(0);

/// Whether a hook has asked for a look.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Whether the thread is looking, or about to.
static LOOKING: AtomicU32 = AtomicU32::new(0);

/// Threads that are in `fork`.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// The thread.
static THREAD: OwnThread = OwnThread::new();

/// The time between looks that nobody asks for, in nanoseconds.
static PAUSE: AtomicU64 = AtomicU64::new(LONGEST_PAUSE.0);

/// Takes note of the present state, before anything depends on it.
pub fn first_look() {
    let counts = learn();
    if let Some(counts) = counts {
        UNLOADED.store(counts.unloaded + 1, Release);
    }
}

/// After the program's `dlclose`: something may have been unloaded. The loader is not asked here, since the program may have
/// arranged its locks around the loader's.
pub fn closed() {
    if phase::now() == Phase::Tracing {
        forget();
        if objects::by_table() {
            ask();
        }
    }
}

/// In a hook: an address is of no image that is known.
pub fn ask() {
    if ASKED.swap(1, AcqRel) == 0 {
        futex::wake(&ASKED);
    }
}

/// Brings the table of images up to date, where one is kept, and where something has been unloaded since the last look,
/// forgets what was known of the code. Takes the loader's lock.
pub fn look() {
    let known = UNLOADED.load(Acquire);
    let Some(counts) = learn() else { return };
    if counts.unloaded + 1 != known {
        // Before the count is published: who finds it up to date relies on the rest.
        forget();
        UNLOADED.fetch_max(counts.unloaded + 1, AcqRel);
    }
}

fn forget() {
    rules::clear();
    modules::changed();
}

/// The loader's counts since the process started.
#[derive(Clone, Copy)]
struct Counts {
    loaded: u64,
    unloaded: u64,
}

impl Counts {
    /// How often its list has changed.
    fn changes(self) -> u64 {
        self.loaded + self.unloaded
    }
}

/// What one call of the loader's tells.
struct List {
    /// Whether the images are wanted too.
    wanted: fn(Counts) -> bool,
    counts: Option<Counts>,
    images: Option<Vec<Image>>,
}

fn list(wanted: fn(Counts) -> bool) -> List {
    let mut list = List { wanted, counts: None, images: None };
    // SAFETY: the function is called with the place it expects, before this call returns.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut list).cast()) };
    list
}

/// Asks the loader, and where a table is kept and is not up to date, makes it anew.
fn learn() -> Option<Counts> {
    let list = list(|counts| objects::by_table() && TABLE.changes() != counts.changes());
    let counts = list.counts?;
    if let Some(images) = list.images {
        TABLE.fill(counts.changes(), images, keep);
    }
    Some(counts)
}

/// Called with each image, until it returns 1; with the loader's lock held.
///
/// # Safety
/// `place` is one that [`list`] passes; `info` is the loader's, of `size` bytes.
unsafe extern "C" fn each(info: *mut Info, size: usize, place: *mut c_void) -> c_int {
    const ENOUGH: usize = std::mem::offset_of!(Info, dlpi_subs) + size_of::<u64>();
    if size < ENOUGH {
        return 1;
    }
    // SAFETY: by contract; the fields are there where the structure is that long.
    let (info, list) = unsafe { (&*info, &mut *place.cast::<List>()) };
    if list.counts.is_none() {
        let counts = Counts { loaded: info.dlpi_adds, unloaded: info.dlpi_subs };
        list.counts = Some(counts);
        list.images = (list.wanted)(counts).then(Vec::new);
    }
    let Some(images) = &mut list.images else { return 1 };
    // SAFETY: by contract it describes a loaded image, which stays as long as the loader's lock is held.
    images.extend(unsafe { image(info) });
    0
}

/// # Safety
/// `info` describes a loaded image.
unsafe fn image(info: &Info) -> Option<Image> {
    if info.dlpi_phdr.is_null() {
        return None;
    }
    // SAFETY: by contract.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let of = |kind| headers.iter().filter(move |header| header.p_type == kind);
    let at = |address: u64| info.dlpi_addr.wrapping_add(address);
    let name = if info.dlpi_name.is_null() {
        c""
    } else {
        // SAFETY: a C string of the loader's.
        unsafe { CStr::from_ptr(info.dlpi_name) }
    };
    Some(Image {
        start: at(of(libc::PT_LOAD).map(|header| header.p_vaddr).min()? & !(PAGE - 1)),
        end: at(of(libc::PT_LOAD).map(|header| header.p_vaddr.wrapping_add(header.p_memsz)).max()?),
        bias: info.dlpi_addr,
        unwind_table: of(libc::PT_GNU_EH_FRAME).next().map_or(0, |header| at(header.p_vaddr)),
        headers: Sealed::now(info.dlpi_phdr as u64, size_of_val(headers) as u64)?,
        note: of(libc::PT_NOTE)
            .next()
            .and_then(|header| Sealed::now(at(header.p_vaddr), header.p_filesz.min(PAGE)))
            .unwrap_or_default(),
        name: name.to_owned(),
    })
}

/// The one copy of a path, which stays: a library that comes and goes does not add up.
fn keep(name: CString) -> &'static CStr {
    static NAMES: Mutex<BTreeSet<&CStr>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(known) = names.get(name.as_c_str()) {
        return known;
    }
    let kept: &'static CStr = Box::leak(name.into_boxed_c_str());
    names.insert(kept);
    kept
}

/// Starts the thread; it looks once between two flushes. Signals are to be held back.
///
/// # Errors
/// Where the thread cannot be created.
pub fn start(settle: Nanos) -> io::Result<()> {
    PAUSE.store(settle.min(LONGEST_PAUSE).0, Relaxed);
    resume()
}

/// As [`start`], in a forked child, which has no such thread any more.
///
/// # Errors
/// Where the thread cannot be created.
pub fn resume() -> io::Result<()> {
    // SAFETY: `run` does not use its argument.
    unsafe { THREAD.start(run, std::ptr::null_mut(), STACK) }
}

/// How many threads this module has now.
pub fn threads() -> u32 {
    THREAD.count()
}

/// After the end of tracing: ends the thread, and waits for it a little.
pub fn stop() {
    ask();
    THREAD.wait_for_end();
}

/// In a forked child: nobody looks or forks.
pub fn forked() {
    FORKING.store(0, SeqCst);
    LOOKING.store(0, SeqCst);
    THREAD.forked();
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    local().set_guard(Guard::Own);
    own_thread::begin(c"libtrace-loader");
    descriptors::leave(None);
    let pause = Nanos(PAUSE.load(Relaxed));
    let mut asked = false;
    let mut coverage = Coverage::default();
    while phase::now() == Phase::Tracing {
        LOOKING.store(1, SeqCst);
        if FORKING.load(SeqCst) == 0 {
            look();
            coverage.look();
        }
        LOOKING.store(0, SeqCst);
        if asked {
            clock::sleep(SHORTEST_PAUSE);
        }
        asked = wait(pause);
    }
    THREAD.ends();
    std::ptr::null_mut()
}

/// Until a hook asks, but no longer than `most`. Whether one has asked.
fn wait(most: Nanos) -> bool {
    futex::sleep(&ASKED, 0, most);
    ASKED.swap(0, AcqRel) != 0
}

/// Before a `fork`: a child that is made while this library's thread has the loader's lock would find it locked for ever.
/// Where the thread is itself waiting for the lock, it is not waited for: then the lock is the host's.
pub fn fork_begins() {
    const STEP: Nanos = Nanos(50_000);
    FORKING.fetch_add(1, SeqCst);
    let begin = clock::now();
    while LOOKING.load(SeqCst) != 0 && clock::now().0.saturating_sub(begin.0) < FORK_PATIENCE.0 {
        clock::sleep(STEP);
    }
}

/// After a `fork`, in the parent.
pub fn fork_ends() {
    FORKING.fetch_sub(1, SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::table::Table;
    use crate::unwind::{objects, stack};

    /// Every image, asked for by its first byte, its last one, and others in between.
    #[test]
    fn the_table_says_what_glibc_says() {
        static OURS: Table = Table::new();
        assert!(objects::init(), "glibc 2.35 or later is needed to compare with");
        stack::init();
        let list = list(|_| true);
        let images = list.images.unwrap();
        OURS.fill(list.counts.unwrap().changes(), images.clone(), keep);
        assert!(images.len() > 2, "{images:?}");
        for Image { start, end, .. } in images {
            let theirs = objects::find(start + 1).unwrap();
            // glibc may end a main program with its code.
            assert!(theirs.end <= end, "{theirs:x?} ends after {end:x}");
            for address in [start, theirs.end - 1, start + (end - start) / 2, end - 1] {
                let ours = OURS.find(address).unwrap();
                assert_eq!((ours.start, ours.end), (theirs.start, end));
                assert_eq!((ours.bias(), ours.unwind_table), (theirs.bias(), theirs.unwind_table));
                assert_eq!(ours.name(), theirs.name());
            }
            assert!(OURS.find(end).is_none_or(|other| other.start == end));
        }
        assert!(OURS.find(0).is_none() && OURS.find(u64::MAX).is_none());
    }
}
