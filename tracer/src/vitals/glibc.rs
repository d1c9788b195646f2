//! glibc's allocator, by its own account: `malloc_info` tells of every arena, holding the arena's lock while it walks the
//! free lists. (`mallinfo2`, where there is one, walks the same lists under the same locks and tells only the sum.)
//!
//! `malloc_info` writes to a C stream. A stream is a block of some hundred bytes of the program's heap, not recorded, which
//! the constructor allocates: on a thread of our own it would give that thread an arena, and change what is measured. It has
//! no buffer, so that nothing is ever left in it for the program's `fflush(NULL)` or `exit` to write.

use super::{Arena, Reading};
use prof::record::Vital;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// `cookie_io_functions_t`.
#[repr(C)]
struct Functions {
    read: Option<unsafe extern "C" fn()>,
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize>,
    seek: Option<unsafe extern "C" fn()>,
    close: Option<unsafe extern "C" fn()>,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut libc::FILE;
    fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int;
}

/// The stream, and what reads along.
static STREAM: AtomicPtr<libc::FILE> = AtomicPtr::new(std::ptr::null_mut());
static PARSER: AtomicPtr<Parser> = AtomicPtr::new(std::ptr::null_mut());

/// Makes the stream; for the constructor.
pub fn open() {
    let parser = Box::into_raw(Box::<Parser>::default());
    let functions = Functions { read: None, write: Some(write), seek: None, close: None };
    // SAFETY: the cookie and the function live for ever, and the mode is a C string.
    let stream = unsafe { fopencookie(parser.cast(), c"w".as_ptr(), functions) };
    if !stream.is_null() {
        // SAFETY: a fresh stream, to which nothing has been written.
        unsafe { libc::setvbuf(stream, std::ptr::null_mut(), libc::_IONBF, 0) };
        PARSER.store(parser, Release);
        STREAM.store(stream, Release);
    }
}

/// What the stream calls with what is written to it.
///
/// # Safety
/// `cookie` is a [`Parser`] that nobody else uses meanwhile, and the text has `len` bytes.
unsafe extern "C" fn write(cookie: *mut c_void, text: *const c_char, len: usize) -> isize {
    // SAFETY: by contract: only `malloc_info` writes, and only `read` calls it, on one thread.
    let (parser, text) =
        unsafe { (&mut *cookie.cast::<Parser>(), std::slice::from_raw_parts(text.cast(), len)) };
    parser.take(text);
    len as isize
}

/// Asks the allocator; for the one thread that does so, and the constructor before there is one. May wait for the program's
/// locks.
pub fn read(reading: &mut Reading) {
    let stream = STREAM.load(Acquire);
    if stream.is_null() {
        return;
    }
    // SAFETY: the stream is open for ever, the parser is used by nobody else but `write`, which is called inside
    // `malloc_info`, and no reference is kept across that call.
    let status = unsafe {
        *PARSER.load(Acquire) = Parser::default();
        malloc_info(0, stream)
    };
    // SAFETY: as above.
    let parser = unsafe { &mut *PARSER.load(Acquire) };
    if status == 0 && parser.is_whole {
        std::mem::take(parser).tell(reading);
    }
}

/// Reads what `malloc_info` writes, piece by piece.
///
/// ```text
/// <heap nr="0"> … <total type="fast" … size="1"/> <total type="rest" … size="2"/> <system type="current" size="3"/> … </heap>
/// … <total type="mmap" count="4" size="5"/> … </malloc>
/// ```
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    /// The arena that is being told of.
    arena: Option<Arena>,
    arenas: Vec<Arena>,
    /// Bytes of blocks that are mapped one by one; glibc has told them since 2.21.
    mapped: Option<u64>,
    is_whole: bool,
}

impl Parser {
    fn take(&mut self, text: &[u8]) {
        /// No line is longer.
        const LONGEST: usize = 1024;
        for &byte in text {
            if byte != b'\n' && self.line.len() < LONGEST {
                self.line.push(byte);
            } else {
                let line = std::mem::take(&mut self.line);
                self.line(&String::from_utf8_lossy(&line));
                self.line = line;
                self.line.clear();
            }
        }
    }

    fn line(&mut self, line: &str) {
        let attribute = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let number = |name: &str| attribute(name)?.parse::<u64>().ok();
        let tag = line.trim_start_matches('<').split([' ', '>']).next().unwrap_or_default();
        match (tag, attribute("type"), &mut self.arena) {
            ("heap", ..) => {
                let number = number("nr").unwrap_or(0) as u32;
                self.arena = Some(Arena { number, ..Arena::default() });
            }
            ("/heap", ..) => self.arenas.extend(self.arena.take()),
            ("total", Some("fast" | "rest"), Some(arena)) => arena.free += number("size").unwrap_or(0),
            ("system", Some("current"), Some(arena)) => arena.system = number("size").unwrap_or(0),
            ("total", Some("mmap"), None) => self.mapped = number("size"),
            ("/malloc", ..) => self.is_whole = true,
            _ => {}
        }
    }

    fn tell(self, reading: &mut Reading) {
        let sum = |of: fn(&Arena) -> u64| self.arenas.iter().map(of).sum::<u64>();
        let (system, free, mapped) =
            (sum(|arena| arena.system), sum(|arena| arena.free), self.mapped.unwrap_or(0));
        reading.values.extend([
            (Vital::AllocatorSystem, system + mapped),
            (Vital::AllocatorInUse, system.saturating_sub(free) + mapped),
            (Vital::Arenas, self.arenas.len() as u64),
        ]);
        reading.values.extend(self.mapped.map(|bytes| (Vital::AllocatorMapped, bytes)));
        reading.arenas = self.arenas;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<malloc version="1">
<heap nr="0">
<sizes>
  <size from="33" to="48" total="96" count="2"/>
  <unsorted from="65" to="65" total="65" count="1"/>
</sizes>
<total type="fast" count="2" size="96"/>
<total type="rest" count="2" size="1065"/>
<system type="current" size="135168"/>
<system type="max" size="200000"/>
<aspace type="total" size="135168"/>
<aspace type="mprotect" size="135168"/>
</heap>
<heap nr="1">
<sizes>
</sizes>
<total type="fast" count="0" size="0"/>
<total type="rest" count="1" size="4096"/>
<system type="current" size="8192"/>
<aspace type="subheaps" size="1"/>
</heap>
<total type="fast" count="2" size="96"/>
<total type="rest" count="3" size="5161"/>
<total type="mmap" count="2" size="700416"/>
<system type="current" size="143360"/>
</malloc>
"#;

    #[test]
    fn what_glibc_writes_is_read_in_pieces_of_any_size() {
        let expected = Reading {
            values: vec![
                (Vital::AllocatorSystem, 143_360 + 700_416),
                (Vital::AllocatorInUse, 143_360 - 96 - 1065 - 4096 + 700_416),
                (Vital::Arenas, 2),
                (Vital::AllocatorMapped, 700_416),
            ],
            arenas: vec![
                Arena { number: 0, system: 135_168, free: 1161 },
                Arena { number: 1, system: 8192, free: 4096 },
            ],
            ..Reading::default()
        };
        for size in 1..100 {
            let mut parser = Parser::default();
            TEXT.as_bytes().chunks(size).for_each(|piece| parser.take(piece));
            assert!(parser.is_whole);
            let mut reading = Reading::default();
            parser.tell(&mut reading);
            assert_eq!(reading, expected);
        }
        let mut parser = Parser::default();
        parser.take(TEXT.trim_end_matches("</malloc>\n").as_bytes());
        assert!(!parser.is_whole);
    }

    #[test]
    fn this_processs_allocator_is_asked() {
        open();
        let mut reading = Reading::default();
        read(&mut reading);
        assert_eq!(reading.arenas.len() as u64, reading.values[2].1);
        assert!(
            reading.arenas[0].system > 0 && reading.arenas[0].free <= reading.arenas[0].system,
            "{reading:?}"
        );
    }
}
