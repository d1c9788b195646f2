//! What hooks may do, read off the library's machine code: an unrecorded call is a few instructions and the jump to the
//! real function; and nothing that a recorded one can reach allocates, locks or calls the loader, but for what is listed
//! here with its reason.
//!
//! Calls are followed through the whole library, Rust's own parts included. A call through a pointer whose value is not
//! plain from the code fails the test unless it is listed. x86-64 only: AArch64 is compiled from the same sources.

use crate::code::{Code, Instruction, Target};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

/// Instructions from a hook's first to the jump to the real function, where nothing is recorded.
const FAST_PATHS: [(&str, usize); 33] = [
    ("malloc", 4),
    ("calloc", 7),
    ("realloc", 9),
    ("posix_memalign", 4),
    ("aligned_alloc", 4),
    ("memalign", 4),
    ("valloc", 4),
    ("pvalloc", 4),
    ("free", 6),
    ("cfree", 6),
    ("free_sized", 6),
    ("free_aligned_sized", 6),
    // Goes on to our realloc.
    ("reallocarray", 5),
    // To the C++ runtime's operator, or to the hook of the next allocator's.
    ("_Znwm", 1),
    ("_Znam", 1),
    ("_ZnwmRKSt9nothrow_t", 1),
    ("_ZnamRKSt9nothrow_t", 1),
    ("_ZnwmSt11align_val_t", 1),
    ("_ZnamSt11align_val_t", 1),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t", 1),
    ("_ZnamSt11align_val_tRKSt9nothrow_t", 1),
    ("_ZdlPv", 1),
    ("_ZdaPv", 1),
    ("_ZdlPvm", 1),
    ("_ZdaPvm", 1),
    ("_ZdlPvRKSt9nothrow_t", 1),
    ("_ZdaPvRKSt9nothrow_t", 1),
    ("_ZdlPvSt11align_val_t", 1),
    ("_ZdaPvSt11align_val_t", 1),
    ("_ZdlPvmSt11align_val_t", 1),
    ("_ZdaPvmSt11align_val_t", 1),
    ("_ZdlPvSt11align_val_tRKSt9nothrow_t", 1),
    ("_ZdaPvSt11align_val_tRKSt9nothrow_t", 1),
];

/// The hooks' slow paths.
const RECORDERS: [&str; 13] = [
    "trace::record::alloc",
    "trace::record::posix_memalign",
    "trace::record::free",
    "trace::record::realloc_begin",
    "trace::record::realloc",
    "trace::loader::holder_of",
    "trace::loader::thread_ends",
    "trace::mapping::has_mapped",
    "trace::mapping::will_unmap",
    "trace::mapping::has_protected",
    "trace::mapping::will_remap",
    "trace::mapping::has_remapped",
    "trace::holders::thread_begins",
];

/// Functions of other libraries that recorders may call, and why that is safe. None is a cancellation point.
const IMPORTS: [(&str, &str); 14] = [
    ("__errno_location", "an address in the thread's static TLS"),
    ("bcmp", "touches the bytes it is given"),
    ("memcmp", "touches the bytes it is given"),
    ("memcpy", "touches the bytes it is given"),
    ("memmove", "touches the bytes it is given"),
    ("memset", "touches the bytes it is given"),
    ("strlen", "reads a path that is kept for ever"),
    ("clock_gettime", "reads the clock, without a lock"),
    (
        "syscall",
        "futex wakes, the thread's number, whether a page is readable, a pause with lossless=on; a mapping for a buffer, a \
      stream or the module list: no allocator is involved",
    ),
    ("getpid", "whether this is a child of `vfork`, where a thread waits for the writer"),
    ("prctl", "the thread's name, once a thread"),
    ("pthread_setspecific", "once a thread; what glibc may allocate for it is forwarded and not recorded"),
    ("sched_yield", "another thread is halfway through taking or giving a buffer"),
    ("_Unwind_Resume", "only behind a panic"),
];

/// Functions that are not followed, by a part of their names, and why.
const NOT_FOLLOWED: [(&str, &str); 14] = [
    ("trace::start::prepare", "once in the process, before anything is recorded"),
    ("trace::fork::resume", "once in a forked child, before anything is recorded in it"),
    ("core::panicking::", PANIC),
    ("core::slice::index::slice_index_fail", PANIC),
    ("core::option::unwrap_failed", PANIC),
    ("core::option::expect_failed", PANIC),
    (" as core::fmt::", "formats a value for a panic's message: nothing but its address is taken"),
    ("_Unwind_Resume", "only behind a panic"),
    ("crossbeam_channel::flavors::list::", BOUNDED),
    ("crossbeam_channel::flavors::zero::", BOUNDED),
    ("crossbeam_channel::flavors::at::", BOUNDED),
    ("crossbeam_channel::flavors::tick::", BOUNDED),
    ("crossbeam_channel::flavors::never::", BOUNDED),
    ("crossbeam_channel::waker::SyncWaker::notify", "wakes who waits on a channel, and nobody does"),
];

const PANIC: &str = "a panic, which is a bug and not a path";
const BOUNDED: &str = "the channels are bounded ones: array::Channel";

/// A part of every library in which the flavours of channels are functions of their own. In an optimised one they have
/// become part of [`CHANNELS`], which are then not followed: the library of `cargo build` shows what they call.
const APART: &str = "crossbeam_channel::flavors::array::Channel<T>::start_send";
const CHANNELS: [&str; 2] =
    ["crossbeam_channel::channel::Sender<T>::try_send", "crossbeam_channel::channel::Receiver<T>::try_recv"];

/// May call what a variable points to: glibc's `_dl_find_object`, found at the start, which takes no lock. Where glibc has
/// none, our own table is read.
const THROUGH_POINTERS: [&str; 1] = ["trace::unwind::objects::find"];

/// The library's code, where these tests can read it.
fn code() -> Option<&'static Code> {
    static CODE: LazyLock<Option<Code>> = LazyLock::new(Code::read);
    if CODE.is_none() {
        eprintln!("not for x86-64: its machine code is not read");
    }
    CODE.as_ref()
}

#[test]
fn unrecorded_calls_are_a_few_instructions() {
    let Some(code) = code() else { return };
    let mut found = Vec::new();
    for (name, _) in FAST_PATHS {
        let body = code.body(code.export(name));
        let jump = body.iter().position(|instruction| instruction.mnemonic == "jmp");
        let path = &body[..=jump.unwrap_or_else(|| panic!("{name} has no jump: {body:x?}"))];
        let harmless = |instruction: &Instruction| {
            const KNOWN: [&str; 13] =
                ["mov", "lea", "shr", "sub", "add", "mul", "imul", "cmp", "cmpb", "jbe", "jne", "jo", "jmp"];
            KNOWN.contains(&instruction.mnemonic.as_str())
        };
        assert!(path.iter().all(harmless), "{name}: {path:x?}");
        found.push((name, path.len()));
    }
    assert_eq!(found, FAST_PATHS, "instructions of unrecorded calls");
    let exported: BTreeSet<_> = include_str!("exported.txt").lines().collect();
    let mut listed: BTreeSet<_> = FAST_PATHS.map(|(name, _)| name).into();
    listed.extend(["malloc_usable_size", "pthread_create", "dlclose"]);
    listed.extend(["mmap", "mmap64", "mremap", "munmap", "mprotect"]);
    listed.extend([
        "_exit", "_Exit", "execl", "execle", "execlp", "execv", "execve", "execvp", "execvpe", "fexecve",
    ]);
    assert_eq!(listed, exported, "hooks");
}

/// Everything that can be reached, and from where.
struct Reached {
    from: BTreeMap<Target, u64>,
}

impl Reached {
    fn walk(code: &Code, roots: &[&str], is_followed: impl Fn(&str) -> bool) -> Reached {
        let mut from = BTreeMap::new();
        let mut queue: VecDeque<_> = roots.iter().map(|name| code.find(name)).collect();
        let mut seen: BTreeSet<_> = queue.iter().copied().collect();
        while let Some(function) = queue.pop_front() {
            for target in code.targets(function) {
                if let Target::Own(at) = target {
                    if !is_followed(code.name(at)) || !seen.insert(at) {
                        continue;
                    }
                    queue.push_back(at);
                }
                from.entry(target).or_insert(function);
            }
        }
        Reached { from }
    }

    /// From a root to `function`, for a person.
    fn way(&self, code: &Code, mut function: u64) -> String {
        let mut way = code.name(function).to_owned();
        while let Some(&caller) = self.from.get(&Target::Own(function)) {
            way = format!("{} > {way}", code.name(caller));
            function = caller;
        }
        way
    }
}

#[test]
fn recorders_neither_allocate_nor_lock_nor_call_the_loader() {
    let Some(code) = code() else { return };
    let flavours_are_apart = code.has(APART);
    let reached = Reached::walk(code, &RECORDERS, |name| {
        let followed = !NOT_FOLLOWED.iter().any(|(part, _)| name.contains(part));
        followed && (flavours_are_apart || !CHANNELS.contains(&name))
    });
    let mut wrong = String::new();
    for (target, &function) in &reached.from {
        let allowed = match target {
            Target::Own(_) => true,
            Target::Import(name) => IMPORTS.iter().any(|(allowed, _)| allowed == name),
            Target::Pointer(_) => THROUGH_POINTERS.contains(&code.name(function)),
        };
        if !allowed {
            wrong += &format!("{target:x?}: {}\n", reached.way(code, function));
        }
    }
    assert!(wrong.is_empty(), "a hook can reach:\n{wrong}");
}

/// The same walk finds the loader, a lock and the file system where they are.
#[test]
fn preparation_is_seen_to_do_what_recorders_may_not() {
    let Some(code) = code() else { return };
    let reached = Reached::walk(code, &["trace::start::prepare"], |_| true);
    for name in ["dlsym", "pthread_mutex_lock", "open64", "write"] {
        assert!(reached.from.contains_key(&Target::Import(name.into())), "{name} is not seen");
    }
}
