//! The ways out of a program's image: what has been recorded is written before the kernel takes it away.
//!
//! | way | what is done |
//! |---|---|
//! | `exit`, a return from `main` | the destructor: the stream ends |
//! | `quick_exit` | the same, registered there |
//! | `_exit`, `_Exit` | hooked: the stream ends |
//! | `execve` and its relatives | hooked: the stream is brought up to date, and goes on where the call fails; the control socket goes, and comes back |
//! | a signal, `abort`, the system call itself | nothing: what the writer has not flushed is missing |
//!
//! All of them may be called in a signal handler, and, but for `exit`, in the child of a `vfork`, where nothing is touched. The
//! wait for the writer has a limit.

use crate::{control, entry, fork, phase, writer};
use std::ffi::c_void;

#[used]
#[cfg_attr(not(test), unsafe(link_section = ".fini_array"))]
static END: extern "C" fn() = end;

unsafe extern "C" {
    fn __cxa_at_quick_exit(function: unsafe extern "C" fn(*mut c_void), library: *mut c_void) -> i32;
}

/// Has `quick_exit` call us, after everybody who registers later.
pub fn install() {
    // SAFETY: the handler lives as long as the library; without a library it is called whoever is unloaded.
    unsafe { __cxa_at_quick_exit(quick_exit, std::ptr::null_mut()) };
}

unsafe extern "C" fn quick_exit(_: *mut c_void) {
    end();
}

/// The destructor.
extern "C" fn end() {
    if fork::is_own_process() {
        phase::stop();
        writer::finish();
    }
}

/// Before `_exit`.
pub extern "C" fn before_exit() {
    entry::wait_for_entries();
    end();
}

/// Before the process becomes another program.
pub extern "C" fn before_exec() {
    entry::wait_for_entries();
    if phase::now() == phase::Phase::Tracing && fork::is_own_process() {
        writer::flush();
        control::hide();
    }
}
