//! Our own table of loaded images, for C libraries that cannot tell in a hook what an address belongs to.
//!
//! It is made from the loader's list outside of hooks ([`crate::watch`]) and read in hooks without a lock: two sides take
//! turns, one is read while the other is filled, and a reader whose side has been filled again meanwhile notices by the
//! version and reads anew.
//!
//! ```text
//! version  2k: side k mod 2 is read │ 2k + 1: as before, and the other is being filled │ 2k + 2: sides have changed
//! ```
//! What has been unloaded since may still be in it, and other memory, or none, in its place. So an entry is believed only
//! while its program headers and its first note are still there, as far as the kernel lets them be read; what is mapped with
//! the same headers has its unwind table at the same place.

use super::objects::{Loaded, Object};
use super::stack::readable;
use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

/// An image as the loader lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// First mapped byte.
    pub start: u64,
    /// One past the last mapped byte.
    pub end: u64,
    /// Address in the process minus address in the ELF.
    pub bias: u64,
    /// `.eh_frame_hdr`, or 0.
    pub unwind_table: u64,
    /// The program headers.
    pub headers: Sealed,
    /// The first segment of notes: nearly always with the build-id.
    pub note: Sealed,
    /// The path; empty for the main program.
    pub name: CString,
}

/// Bytes of an image by which it is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sealed {
    /// The first.
    pub start: u64,
    /// How many.
    pub len: u64,
    /// A hash of them.
    seal: u64,
}

impl Sealed {
    /// The bytes that are there now; `None` where the kernel cannot read them.
    pub fn now(start: u64, len: u64) -> Option<Sealed> {
        const PAGE: u64 = 4096;
        let end = start.checked_add(len)?;
        if !(start & !(PAGE - 1)..end).step_by(PAGE as usize).all(readable) {
            return None;
        }
        // SAFETY: the kernel has just read every page of it. Where the image belongs to a frame on this stack, or the
        // loader's lock is held, the pages stay; else they are gone only if another thread unmaps them in these
        // nanoseconds.
        let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len as usize) };
        Some(Sealed { start, len, seal: seal(bytes) })
    }

    /// Whether the same bytes are there now.
    fn is_intact(&self) -> bool {
        self.len == 0 || Sealed::now(self.start, self.len).as_ref() == Some(self)
    }
}

/// [`Sealed`], to be read while it is being written.
struct SealedCell([AtomicU64; 3]);

impl SealedCell {
    const fn new() -> SealedCell {
        SealedCell([const { AtomicU64::new(0) }; 3])
    }

    fn store(&self, value: Sealed) {
        for (cell, value) in self.0.iter().zip([value.start, value.len, value.seal]) {
            cell.store(value, Relaxed);
        }
    }

    fn load(&self) -> Sealed {
        let [start, len, seal] = &self.0;
        Sealed { start: start.load(Relaxed), len: len.load(Relaxed), seal: seal.load(Relaxed) }
    }
}

/// More are not kept. Miri, which looks at each whenever it sees them all, gets few.
const MOST_IMAGES: usize = if cfg!(miri) { 4 } else { 4096 };

/// Attempts at what another thread is in the way of, for microseconds.
const ATTEMPTS: usize = 100;

/// An [`Image`], to be read while it is being written.
struct Entry {
    start: AtomicU64,
    end: AtomicU64,
    bias: AtomicU64,
    unwind_table: AtomicU64,
    headers: SealedCell,
    note: SealedCell,
    name: AtomicPtr<c_char>,
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            bias: AtomicU64::new(0),
            unwind_table: AtomicU64::new(0),
            headers: SealedCell::new(),
            note: SealedCell::new(),
            name: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn fill(&self, image: &Image, name: *const c_char) {
        self.start.store(image.start, Relaxed);
        self.end.store(image.end, Relaxed);
        self.bias.store(image.bias, Relaxed);
        self.unwind_table.store(image.unwind_table, Relaxed);
        self.headers.store(image.headers);
        self.note.store(image.note);
        self.name.store(name.cast_mut(), Relaxed);
    }
}

/// An entry's values, read while nobody wrote them.
#[derive(Clone, Copy)]
struct Found {
    start: u64,
    end: u64,
    bias: u64,
    unwind_table: u64,
    headers: Sealed,
    note: Sealed,
    name: *const c_char,
}

/// One side, sorted by address.
struct Side {
    len: AtomicUsize,
    entries: [Entry; MOST_IMAGES],
}

impl Side {
    const fn new() -> Side {
        Side { len: AtomicUsize::new(0), entries: [const { Entry::new() }; MOST_IMAGES] }
    }

    /// What it says of an address; nonsense where it is being filled.
    fn find(&self, address: u64) -> Option<Found> {
        let entries = self.entries.get(..self.len.load(Relaxed))?;
        let after = entries.partition_point(|entry| entry.start.load(Relaxed) <= address);
        let entry = entries.get(after.checked_sub(1)?)?;
        let end = entry.end.load(Relaxed);
        (address < end).then(|| Found {
            start: entry.start.load(Relaxed),
            end,
            bias: entry.bias.load(Relaxed),
            unwind_table: entry.unwind_table.load(Relaxed),
            headers: entry.headers.load(),
            note: entry.note.load(),
            name: entry.name.load(Relaxed),
        })
    }
}

/// The two sides. Filled and read only where glibc has no look-up of its own.
pub struct Table {
    version: AtomicU64,
    /// Which of the loader's lists it is made from: the changes there had been.
    changes: AtomicU64,
    sides: [Side; 2],
}

/// The process's.
pub static TABLE: Table = Table::new();

impl Table {
    /// An empty one.
    pub const fn new() -> Table {
        Table { version: AtomicU64::new(0), changes: AtomicU64::new(0), sides: [const { Side::new() }; 2] }
    }

    /// The changes of the loader's list that it knows of.
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Makes it what the loader's list was after so many changes, unless it is newer. Names are kept for ever, each once:
    /// `keep` says where.
    pub fn fill(&self, changes: u64, mut images: Vec<Image>, mut keep: impl FnMut(CString) -> &'static CStr) {
        images.sort_unstable_by_key(|image| image.start);
        images.truncate(MOST_IMAGES);
        let names: Vec<_> = images.iter_mut().map(|image| keep(std::mem::take(&mut image.name))).collect();
        for _ in 0..ATTEMPTS {
            let version = self.version.load(Relaxed);
            let free = version.is_multiple_of(2)
                && self.version.compare_exchange(version, version + 1, Acquire, Relaxed).is_ok();
            if !free {
                std::thread::yield_now();
                continue;
            }
            let newer = self.changes.load(Relaxed) < changes;
            if newer {
                fence(Release);
                let side = &self.sides[(version / 2 + 1) as usize % 2];
                for ((entry, image), name) in side.entries.iter().zip(&images).zip(&names) {
                    entry.fill(image, name.as_ptr());
                }
                side.len.store(images.len(), Relaxed);
                self.changes.store(changes, Relaxed);
            }
            self.version.store(if newer { version + 2 } else { version }, Release);
            return;
        }
    }

    fn read(&self, address: u64) -> Option<Found> {
        for _ in 0..ATTEMPTS {
            let version = self.version.load(Acquire);
            let found = self.sides[(version / 2) as usize % 2].find(address);
            fence(Acquire);
            // The side is filled again from the second change on.
            if self.version.load(Relaxed) <= version / 2 * 2 + 2 {
                return found;
            }
        }
        None
    }

    /// The image that `address` belongs to, if it is known, and still there.
    pub fn find(&self, address: u64) -> Option<Object> {
        let Found { start, end, bias, unwind_table, headers, note, name } = self.read(address)?;
        if !headers.is_intact() || !note.is_intact() {
            return None;
        }
        // SAFETY: names are kept for ever.
        let name = unsafe { CStr::from_ptr(name) };
        Some(Object { start, end, unwind_table, loaded: Loaded::Copied(bias, name) })
    }
}

/// Tells bytes from other bytes: FNV-1a, 64 bits.
fn seal(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn leak(name: CString) -> &'static CStr {
        Box::leak(name.into_boxed_c_str())
    }

    fn image(start: u64, end: u64, number: u64) -> Image {
        let sealed = Sealed { start: number, len: 0, seal: number };
        Image {
            start,
            end,
            bias: number,
            unwind_table: number,
            headers: sealed,
            note: sealed,
            name: c"x".into(),
        }
    }

    #[test]
    fn what_concurrent_threads_read_was_written_together() {
        const CHANGES: u64 = if cfg!(miri) { 40 } else { 20_000 };
        const NEIGHBOURS: u64 = if cfg!(miri) { 2 } else { 40 };
        static TABLE: Table = Table::new();
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let mut read = 0;
                    while !done.load(Relaxed) || read == 0 {
                        // Its image has another end each time, and other neighbours.
                        let Some(found) = TABLE.read(5000) else { continue };
                        let number = found.bias;
                        assert_eq!((found.start, found.end), (5000 - number % 100, 5001 + number));
                        assert_eq!((found.unwind_table, found.headers), (number, found.note));
                        assert_eq!((found.note.start, found.note.seal), (number, number));
                        read += 1;
                    }
                });
            }
            for changes in 1..=CHANGES {
                let low = (1..changes % NEIGHBOURS + 1).map(|i| image(i * 100, i * 100 + 50, 0));
                let images = low.chain([image(5000 - changes % 100, 5001 + changes, changes)]).collect();
                TABLE.fill(changes, images, |_| c"x");
            }
            done.store(true, Relaxed);
        });
        assert_eq!(TABLE.changes(), CHANGES);
        assert!(TABLE.read(5001 + CHANGES).is_none());
    }

    #[test]
    fn an_older_list_does_not_replace_a_newer_one() {
        static TABLE: Table = Table::new();
        assert!(TABLE.read(15).is_none());
        TABLE.fill(2, vec![image(20, 30, 2), image(10, 20, 1)], leak);
        TABLE.fill(1, vec![image(10, 40, 3)], leak);
        assert_eq!(TABLE.read(15).map(|found| found.bias), Some(1));
        assert_eq!(TABLE.read(20).map(|found| found.bias), Some(2));
        assert!(TABLE.read(9).is_none() && TABLE.read(30).is_none());
    }

    #[test]
    fn what_has_gone_since_is_not_believed() {
        static TABLE: Table = Table::new();
        super::super::stack::init();
        const LEN: usize = 8192;
        let map = |at: *mut libc::c_void, flags| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
            // SAFETY: a new mapping, or one in the place of this test's own.
            unsafe { libc::mmap(at, LEN, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }
        };
        let place = map(std::ptr::null_mut(), 0);
        assert_ne!(place, libc::MAP_FAILED);
        let start = place as u64;
        // The headers lie across the border of two pages.
        let headers = start + 4090;
        // SAFETY: inside the mapping.
        let write = |byte| unsafe { std::ptr::write_bytes(headers as *mut u8, byte, 100) };
        write(7);
        let mut image = image(start, start + LEN as u64, 1);
        image.headers = Sealed::now(headers, 100).unwrap();
        image.note = Sealed::now(start + 100, 8).unwrap();
        TABLE.fill(1, vec![image], leak);
        assert_eq!(TABLE.find(start + 1).map(|object| object.start), Some(start));
        write(8);
        assert!(TABLE.find(start + 1).is_none(), "other bytes");
        write(7);
        // SAFETY: inside the mapping.
        let write_note = |byte| unsafe { std::ptr::write_bytes((start + 100) as *mut u8, byte, 8) };
        write_note(1);
        assert!(TABLE.find(start + 1).is_none(), "another note");
        write_note(0);
        assert!(TABLE.find(start + 1).is_some());
        // SAFETY: the second page of this test's own mapping.
        unsafe { libc::munmap(place.byte_add(4096), 4096) };
        assert!(TABLE.find(start + 1).is_none(), "half of it unmapped");
        map(place, libc::MAP_FIXED);
        assert!(TABLE.find(start + 1).is_none(), "other memory");
    }
}
