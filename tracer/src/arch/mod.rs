//! What depends on the processor: one folder each, with the same files and the same names in them.
//!
//! | file | what |
//! |---|---|
//! | `hooks` | the shapes of hooks, in assembly |
//! | `thread` | the thread's block of static TLS, and its own stack |
//! | `frame` | registers and their DWARF numbers; what a hook says of its caller |
//! | `step` | packed unwind rules, and the step from a frame to its caller's |

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{frame, hooks, step, thread};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{frame, hooks, step, thread};
