//! The control socket: its name, and what is said over it.
//!
//! ```text
//! connect ─▶ "mark v2\n" ─▶ "ok\n" (key " " value "\n")* "\n" ─▶ end
//!                        └▶ "error " why "\n\n" ─▶ end
//! ```
//! One request a connection, in one line. The empty line says that the reply is whole.

use std::ffi::CStr;

/// Most bytes of a request, with its line end.
pub const LONGEST_REQUEST: usize = 512;

/// Most bytes of a mark's name.
pub const LONGEST_NAME: usize = 128;

/// The name of the thread that has the socket open.
pub const THREAD: &CStr = c"libtrace-ctl";

/// What ends the socket's name.
pub const SUFFIX: &str = ".ctl";

/// A path in an address has at most 107 bytes, of which a descriptor's folder takes 30 at most.
const LONGEST_FILE_NAME: usize = 72;

/// The socket's file name beside an output file of the name `output`: `run.prof.ctl`. What would be too long for an
/// address is cut, and told apart by a hash of all of it.
pub fn socket_name(output: &str) -> String {
    if output.len() <= LONGEST_FILE_NAME {
        return format!("{output}{SUFFIX}");
    }
    let end = (0..=40).rev().find(|&end| output.is_char_boundary(end)).unwrap_or(0);
    format!("{}~{:016x}{SUFFIX}", &output[..end], hash(output))
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A reply that was done: keys and values. A value has no line ends.
pub fn done(values: &[(&str, String)]) -> String {
    let mut text = String::from("ok\n");
    for (key, value) in values {
        text.push_str(&format!("{key} {}\n", plain(value)));
    }
    text.push('\n');
    text
}

/// A reply that says why something was not done.
pub fn failed(why: &str) -> String {
    format!("error {}\n\n", plain(why))
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What a reply says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It was done; keys and values.
    Done(Vec<(String, String)>),
    /// Why it was not.
    Failed(String),
}

impl Reply {
    /// Reads a reply; `None` where it is not whole, or not one.
    pub fn parse(text: &str) -> Option<Reply> {
        let whole = text.strip_suffix("\n\n")?;
        if let Some(why) = whole.strip_prefix("error ") {
            return Some(Reply::Failed(why.to_owned()));
        }
        let mut lines = whole.lines();
        let values = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
        (lines.next() == Some("ok")).then(|| lines.map(values).collect()).flatten().map(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_an_address() {
        assert_eq!(socket_name("run.prof"), "run.prof.ctl");
        let long = "ä".repeat(100);
        let name = socket_name(&long);
        assert!(name.len() <= LONGEST_FILE_NAME + SUFFIX.len() && name.ends_with(SUFFIX), "{name}");
        assert_ne!(name, socket_name(&"ä".repeat(101)));
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let values = [("bytes", "12".to_owned()), ("file", "/a b\nc".to_owned())];
        let read = [("bytes".into(), "12".into()), ("file".into(), "/a b?c".into())];
        assert_eq!(Reply::parse(&done(&values)), Some(Reply::Done(read.to_vec())));
        assert_eq!(Reply::parse(&done(&[])), Some(Reply::Done(vec![])));
        assert_eq!(Reply::parse(&failed("no such thing")), Some(Reply::Failed("no such thing".into())));
        for text in ["", "ok", "ok\n", "ok\nbytes 1\n", "fine\n\n", "error x\n"] {
            assert_eq!(Reply::parse(text), None, "{text:?}");
        }
    }
}
