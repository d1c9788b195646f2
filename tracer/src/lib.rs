//! `libtrace.so`: preloaded into a process, it records the process's native allocations.
//!
//! # Levels
//! Code here runs below `malloc`. What a level may use:
//!
//! | level | modules | may not |
//! |---|---|---|
//! | hook, nothing recorded | `arch::hooks` | lock, write shared memory, call anything but the real function |
//! | hook, recording | `record`, `append`, `unwind`, `stream`, `buffer`, `live`, `filter`, `sampler` | allocate, lock, call the loader, use `thread_local!`, panic |
//! | writer thread | `writer` | call the host's allocator or the loader, take a lock that a hook could wait for |
//! | watcher thread | `watch`, `coverage` | be waited for by any of the others; call the host's allocator |
//! | vitals thread | `vitals` | be waited for, but at the end, a little; allocate from the host's allocator |
//! | control thread | `control`, `allocator` | be waited for by any of the others; run what a client says but for its commands |
//! | start and end | `start`, `entry`, `lookup`, `settings` | abort or block the host |
//! | around a fork, an exit, an `exec` | `fork`, `exits`, `safepoint` | wait without a limit; touch anything in the child of a `vfork` |
//!
//! Two rare calls do go to the loader: the first one of an entry point where that comes before the constructor, and an
//! `operator new` that has failed (see [`entry`]). And the first event of a forked child makes its writer: once, it creates
//! a thread and allocates on our heap.
//!
//! Rust's own heap in this library is private ([`heap`]), so that no level can re-enter the host's allocator.
//!
//! # Life
//! ```text
//!            start::prepare              the writer fails, exits::end, a fork that is not followed
//!  Loading ────────────────▶ Tracing ──────────────────────────────────────────────────▶ Stopped
//!     └──────────── start::prepare or start::begin, where it cannot trace ─────────────────▲
//! ```
//! A forked child is `Tracing` too, but has neither writer nor file until it records something (see [`fork`]).
//! Before `Tracing` and after it every hook forwards and returns. Blocks allocated before tracing and freed during
//! it are not known and their frees are ignored.
//!
//! # Data flow
//! hooks → sampler → unwind → events in the thread's buffer → channel → writer thread → file.

#[cfg(not(all(
    target_pointer_width = "64",
    target_endian = "little",
    target_os = "linux",
    target_env = "gnu"
)))]
compile_error!("libtrace.so is for 64-bit little-endian Linux with glibc");

mod phase;
mod say;
mod errno;
mod futex;
mod descriptors;
mod heap;
mod clock;
mod environment;
mod settings;
mod arch;
mod local;
mod lookup;
mod entry;
mod early;
mod filter;
mod live;
mod sampler;
mod budget;
mod unwind;
mod modules;
mod holders;
mod buffer;
mod stream;
mod append;
mod record;
mod thread_stacks;
mod loader;
mod mapping;
mod coverage;
mod watch;
mod own_thread;
mod safepoint;
mod vitals;
mod writer;
mod allocator;
mod control;
mod fork;
mod exits;
mod start;
