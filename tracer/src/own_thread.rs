//! Threads of the library's own: the writer, and the watcher of the module map.

use crate::loader;
use std::ffi::c_void;
use std::io;

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
