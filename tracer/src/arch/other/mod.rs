//! Every other processor with 64 bits, little end first: no assembly of our own. Stacks come from the `backtrace` crate, which
//! is too slow for every allocation and is asked for samples only. It goes through libgcc's unwinder, which takes the loader's
//! lock where the C library has no `_dl_find_object`; there nothing is traced.

pub mod calls;
pub mod caller;
pub mod frame;
pub mod hooks;
pub mod step;
pub mod thread;

use crate::unwind::objects;

/// Why the library cannot record what it is asked to, if it cannot.
pub fn refusal(every: bool) -> Option<&'static str> {
    if every {
        return Some("key 'interval': expected auto or bytes, not 'every', on this processor");
    }
    if objects::by_table() {
        return Some("this C library has no _dl_find_object (glibc 2.35 and later do)");
    }
    (!thread::has_blocks()).then_some("failed to reserve memory or a thread key")
}
