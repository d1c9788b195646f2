//! The only place that speaks to the person: one line on stderr, straight to the descriptor.

/// Writes `libtrace: <text>`, without buffering or allocation in the host.
pub fn line(text: &str) {
    let line = format!("libtrace: {text}\n");
    // SAFETY: the pointer and length are those of `line`. A closed or full descriptor only makes the call fail.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}
