//! The process's environment.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;

/// A variable; from the kernel where the C library does not know its environment yet, which is so before its own
/// constructor has run.
pub fn variable(name: &str) -> Option<String> {
    if let Some(value) = std::env::var_os(name) {
        return Some(value.to_string_lossy().into_owned());
    }
    let all = std::fs::read("/proc/self/environ").ok()?;
    let mut variables = all.split(|&byte| byte == 0);
    variables.find_map(|variable| {
        let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// Takes this library out of `LD_PRELOAD`: programs that the process executes are not traced. For the constructor, when
/// nobody else looks at the environment. The text is changed in its place, so that everyone who has it sees the same.
pub fn leave_preload() {
    let Some(own) = own_path() else { return };
    // SAFETY: the name is a C string, and so is the result where there is one. It lies in the environment, which may be
    // written, and only this thread knows of it yet.
    unsafe {
        let value = libc::getenv(c"LD_PRELOAD".as_ptr());
        if value.is_null() {
            return;
        }
        let rest = without(CStr::from_ptr(value).to_bytes(), own.to_bytes());
        value.cast::<u8>().copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        value.add(rest.len()).write(0);
    }
}

/// A list for the loader without one of its libraries; never longer than before.
fn without(list: &[u8], library: &[u8]) -> Vec<u8> {
    let name = |path: &[u8]| std::path::Path::new(OsStr::from_bytes(path)).file_name().map(OsStr::to_owned);
    let is_other = |path: &&[u8]| !path.is_empty() && name(path) != name(library);
    let others: Vec<&[u8]> = list.split(|byte| b" :".contains(byte)).filter(is_other).collect();
    others.join(&b':')
}

/// This library's path, as it was loaded.
fn own_path() -> Option<CString> {
    let mut info = crate::lookup::empty_info();
    // SAFETY: a valid place; the object that has this function is loaded, and so is its name, a C string.
    unsafe {
        let found = libc::dladdr(own_path as *const c_void, &mut info) != 0 && !info.dli_fname.is_null();
        found.then(|| CStr::from_ptr(info.dli_fname).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_leaves_a_list() {
        let without = |list: &str| String::from_utf8(without(list.as_bytes(), b"/opt/libtrace.so")).unwrap();
        assert_eq!(without("/opt/libtrace.so"), "");
        assert_eq!(without("/a.so:/opt/libtrace.so /b.so"), "/a.so:/b.so");
        assert_eq!(without("./libtrace.so::/b.so"), "/b.so");
        assert_eq!(without("/libtrace.so.1"), "/libtrace.so.1");
    }
}
