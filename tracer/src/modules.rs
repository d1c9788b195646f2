//! The loaded images that have been seen on a stack.
//!
//! An image is noted when the unwinder meets an address for the first time: at that moment the image has a frame on the
//! calling thread's stack, so it cannot be unloaded while its headers are read, and no loader lock is needed. The list
//! only grows; the writer thread turns it into records.

use crate::heap;
use crate::unwind::objects::Object;
use crate::unwind::rules;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

const MOST_MODULES: usize = 4096;
const MOST_RANGES: usize = 4;
/// Longest path, and longest build-id, that is kept; in bytes.
const PATH: usize = 1024;
const BUILD_ID: usize = 32;

/// How an image is recognised on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The note's bytes, and how many they are.
    BuildId([u8; BUILD_ID], usize),
    /// FNV-1a 64 over ELF header, program headers and the first page of code.
    Content(u64),
    /// The headers are not mapped.
    Unknown,
}

/// An image as loaded once.
pub struct Module {
    /// First mapped byte.
    start: u64,
    /// One past the last mapped byte.
    end: u64,
    /// Address in the process minus address in the ELF.
    pub bias: u64,
    /// How to recognise it.
    pub identity: Identity,
    /// The first generation of the module map that has it.
    pub generation: u32,
    /// The last generation in which it was seen to be the same.
    verified: AtomicU32,
    ranges: [(u64, u64); MOST_RANGES],
    path: [u8; PATH],
    path_len: usize,
}

impl Module {
    /// The loader's name for it; empty for the main program.
    pub fn path(&self) -> &[u8] {
        self.path.get(..self.path_len).unwrap_or(&[])
    }

    /// Start and bytes of each executable segment.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().copied().filter(|&(_, len)| len > 0)
    }

    /// Whether the two cannot be loaded at the same time.
    pub fn overlaps(&self, other: &Module) -> bool {
        self.start < other.end && other.start < self.end
    }
}

static LIST: [AtomicPtr<Module>; MOST_MODULES] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST_MODULES];

/// Counts the changes of the module map.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The present generation of the module map.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Acquire)
}

/// Something was unloaded: addresses may have changed their meaning.
pub fn changed() {
    GENERATION.fetch_add(1, AcqRel);
}

/// The modules noted so far, oldest first.
pub fn seen() -> impl Iterator<Item = &'static Module> {
    LIST.iter().map_while(|slot| {
        // SAFETY: a pointer in the list was filled in before it was stored with release, and stays for ever.
        unsafe { slot.load(Acquire).as_ref() }
    })
}

/// Notes the image, unless it has been noted.
pub fn sight(object: &Object) {
    let now = generation();
    let same_place = seen().filter(|module| module.start < object.end && object.start < module.end).last();
    if let Some(known) = same_place {
        let verified = known.verified.load(Relaxed) == now;
        let same = known.start == object.start && known.end == object.end;
        if same && verified {
            return;
        }
        if same && known.identity == identity(object) {
            known.verified.store(now, Relaxed);
            return;
        }
        if verified {
            // The loader has unloaded it by itself, not through our dlclose.
            rules::clear();
            changed();
        }
    }
    note(object);
}

fn note(object: &Object) {
    let Some(place) = allocate() else { return };
    let mut path = [0; PATH];
    let path_len = copy_path(object, &mut path);
    let module = Module {
        start: object.start,
        end: object.end,
        bias: object.bias(),
        identity: identity(object),
        generation: generation(),
        verified: AtomicU32::new(generation()),
        ranges: code_ranges(object),
        path,
        path_len,
    };
    // SAFETY: `allocate` returns a place of that size and alignment that nobody else has.
    unsafe { place.write(module) };
    for slot in &LIST {
        match slot.compare_exchange(std::ptr::null_mut(), place, AcqRel, Acquire) {
            Ok(_) => return,
            Err(other) => {
                // SAFETY: as in `seen`.
                let other = unsafe { &*other };
                if other.start == object.start && other.verified.load(Relaxed) == generation() {
                    // Another thread was faster; the place stays unused.
                    return;
                }
            }
        }
    }
}

/// A place off a region that is mapped once; there is no giving back.
fn allocate() -> Option<*mut Module> {
    static REGION: AtomicPtr<Module> = AtomicPtr::new(std::ptr::null_mut());
    static USED: AtomicUsize = AtomicUsize::new(0);
    let mut region = REGION.load(Acquire);
    if region.is_null() {
        let fresh = heap::map(MOST_MODULES * size_of::<Module>()).cast::<Module>();
        region = match REGION.compare_exchange(std::ptr::null_mut(), fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(other) => other,
        };
    }
    let index = USED.fetch_add(1, Relaxed);
    // SAFETY: the region has room for that many modules.
    (index < MOST_MODULES && !region.is_null()).then(|| unsafe { region.add(index) })
}

fn copy_path(object: &Object, out: &mut [u8; PATH]) -> usize {
    let name = object.name().to_bytes();
    let len = name.len().min(PATH);
    out[..len].copy_from_slice(&name[..len]);
    len
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EXECUTABLE: u32 = 1;
const HEADER_LEN: usize = 64;
const SEGMENT_LEN: u64 = 56;
const NT_GNU_BUILD_ID: u32 = 3;

struct Segment {
    kind: u32,
    flags: u32,
    address: u64,
    file_len: u64,
    memory_len: u64,
}

/// The program headers, where the ELF header is mapped at the image's start.
fn segments(object: &Object) -> impl Iterator<Item = Segment> + '_ {
    let header = object.read::<HEADER_LEN>(object.start).filter(|header| header.starts_with(b"\x7fELF\x02"));
    let u16_at = |header: &[u8; HEADER_LEN], at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let table = header.map_or(0, |header| {
        header.get(32..40).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b))
    });
    let count = header
        .map_or(0, |header| if u16_at(&header, 54) as u64 == SEGMENT_LEN { u16_at(&header, 56) } else { 0 });
    (0..u64::from(count)).filter_map(move |index| {
        let at = object.start.checked_add(table)?.checked_add(index * SEGMENT_LEN)?;
        let u32_at = |offset| object.read(at + offset).map(u32::from_le_bytes);
        let u64_at = |offset| object.read(at + offset).map(u64::from_le_bytes);
        Some(Segment {
            kind: u32_at(0)?,
            flags: u32_at(4)?,
            address: u64_at(16)?.wrapping_add(object.bias()),
            file_len: u64_at(32)?,
            memory_len: u64_at(40)?,
        })
    })
}

fn code_ranges(object: &Object) -> [(u64, u64); MOST_RANGES] {
    let mut ranges = [(0, 0); MOST_RANGES];
    let code = segments(object).filter(|s| s.kind == PT_LOAD && s.flags & EXECUTABLE != 0);
    let mut count = 0;
    for (slot, segment) in ranges.iter_mut().zip(code) {
        *slot = (segment.address, segment.memory_len);
        count += 1;
    }
    if count == 0 {
        ranges[0] = (object.start, object.end - object.start);
    }
    ranges
}

fn identity(object: &Object) -> Identity {
    if object.read::<5>(object.start) != Some(*b"\x7fELF\x02") {
        return Identity::Unknown;
    }
    build_id(object).unwrap_or_else(|| content(object))
}

fn build_id(object: &Object) -> Option<Identity> {
    for segment in segments(object).filter(|s| s.kind == PT_NOTE) {
        let (mut at, end) = (segment.address, segment.address.checked_add(segment.file_len)?);
        while at < end {
            let u32_at = |offset| object.read(at + offset).map(u32::from_le_bytes);
            let (Some(name_len), Some(len), Some(kind)) = (u32_at(0), u32_at(4), u32_at(8)) else { break };
            let text = at + 12 + u64::from(name_len).next_multiple_of(4);
            if kind == NT_GNU_BUILD_ID && object.read(at + 12) == Some(*b"GNU\0") {
                let mut bytes = [0; BUILD_ID];
                let len = (len as usize).min(BUILD_ID);
                for (i, slot) in bytes.iter_mut().enumerate().take(len) {
                    *slot = object.read::<1>(text + i as u64)?[0];
                }
                return Some(Identity::BuildId(bytes, len));
            }
            at = text + u64::from(len).next_multiple_of(4);
        }
    }
    None
}

fn content(object: &Object) -> Identity {
    const FIRST_CODE: u64 = 4096;
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |start: u64, len: u64| {
        for at in start..start.saturating_add(len) {
            let Some([byte]) = object.read::<1>(at) else { return };
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    add(object.start, HEADER_LEN as u64);
    let table = object.read(object.start + 32).map_or(0, u64::from_le_bytes);
    let count = object.read(object.start + 56).map_or(0, u16::from_le_bytes);
    add(object.start.saturating_add(table), u64::from(count) * SEGMENT_LEN);
    if let Some(code) = segments(object).find(|s| s.kind == PT_LOAD && s.flags & EXECUTABLE != 0) {
        add(code.address, code.file_len.min(FIRST_CODE));
    }
    Identity::Content(hash)
}

#[cfg(test)]
mod concurrent {
    use super::*;
    use crate::unwind::objects::Loaded;
    use std::thread;

    #[test]
    fn images_that_threads_meet_at_the_same_time_are_noted_once_and_whole() {
        // Not ELF files.
        const LEN: u64 = 256;
        const COUNT: usize = if cfg!(miri) { 2 } else { 64 };
        static IMAGES: [[u8; LEN as usize]; COUNT] = [[7; LEN as usize]; COUNT];
        let first = (&raw const IMAGES).expose_provenance() as u64;
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let loaded = Loaded::Copied(5, c"/lib/image.so");
                    for start in (0..COUNT as u64).map(|index| first + index * LEN) {
                        sight(&Object { start, end: start + LEN, unwind_table: 0, loaded });
                        let noted: Vec<_> = seen().filter(|module| module.start == start).collect();
                        assert_eq!(noted.len(), 1);
                        assert_eq!((noted[0].path(), noted[0].bias), (&b"/lib/image.so"[..], 5));
                        assert!(noted[0].ranges().eq([(start, LEN)]));
                    }
                });
            }
        });
    }
}
