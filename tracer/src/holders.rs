//! The stacks that have acquired something beside blocks, threads or mappings: a table that hooks enter them in, once
//! each, and that the writer reads. Nothing is sent: a program that starts threads without end does so from few stacks.
//!
//! ```text
//!  key ─▶ holder ─▶ words: generation, depth, addresses …
//!           └ threads begun and ended, and bytes of their stacks
//! ```
//! The table never shrinks and has a fixed size. A stack that finds no place in it is the last holder's, which has no
//! frames: its counts are exact all the same.

use crate::heap;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

/// Places of the table, a power of two. Miri gets few.
const PLACES: usize = if cfg!(miri) { 1 << 4 } else { 1 << 12 };

/// Places looked at for one stack.
const PROBES: usize = 16;

/// Words of all stacks: 2 MiB of address space, resident as far as used.
const WORDS: usize = if cfg!(miri) { 1 << 8 } else { 1 << 18 };

/// Before a stack's addresses.
const HEADER: usize = 2;

/// Values of [`Holder::stack`]; from the last one on the place of its words is added.
const UNPUBLISHED: u32 = 0;
const UNKNOWN: u32 = 1;
const FIRST: u32 = 2;

/// A stack, and what threads it has created.
#[derive(Default)]
struct Holder {
    /// 0: the place is free.
    key: AtomicU64,
    stack: AtomicU32,
    begun: AtomicU64,
    begun_bytes: AtomicU64,
    ended: AtomicU64,
    ended_bytes: AtomicU64,
}

/// The places, and one for what finds none.
static TABLE: AtomicPtr<Holder> = AtomicPtr::new(std::ptr::null_mut());
static WORDS_AT: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static WORDS_USED: AtomicU32 = AtomicU32::new(0);

/// Places taken.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A holder's place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HolderIndex(u32);

impl HolderIndex {
    /// Of stacks that found no place.
    pub const NONE: HolderIndex = HolderIndex(PLACES as u32);

    /// To be kept in a word.
    pub fn number(self) -> u32 {
        self.0
    }

    /// From [`HolderIndex::number`].
    pub fn from_number(number: u32) -> HolderIndex {
        HolderIndex(number.min(PLACES as u32))
    }
}

/// Threads that a stack has created.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Threads {
    /// How many have begun.
    pub begun: u64,
    /// How many of them have ended.
    pub ended: u64,
    /// Address space of the stacks of those that have not.
    pub bytes: u64,
}

/// Makes the table; to be called once in a process, before any stack is asked for. False where the system refuses.
pub fn create() -> bool {
    WORDS_AT.store(heap::map(WORDS * size_of::<u64>()).cast(), Release);
    TABLE.store(heap::map((PLACES + 1) * size_of::<Holder>()).cast(), Release);
    !words().is_empty() && !table().is_empty()
}

fn table() -> &'static [Holder] {
    let table = TABLE.load(Acquire);
    if table.is_null() {
        return &[];
    }
    // SAFETY: `create` mapped that many holders, page-aligned and for ever; zero bytes are valid ones, and all their
    // fields are atomic.
    unsafe { std::slice::from_raw_parts(table, PLACES + 1) }
}

fn words() -> &'static [AtomicU64] {
    let words = WORDS_AT.load(Acquire);
    if words.is_null() {
        return &[];
    }
    // SAFETY: as in `table`.
    unsafe { std::slice::from_raw_parts(words, WORDS) }
}

fn holder(index: HolderIndex) -> Option<&'static Holder> {
    table().get(index.0 as usize)
}

/// The holder of a stack, outermost frame first, of a generation of the module map. Usable in hooks.
pub fn of(generation: u32, addresses: &[u64]) -> HolderIndex {
    let key = key(generation, addresses);
    let places = table().get(..PLACES).unwrap_or(&[]);
    for probe in 0..PROBES {
        let at = ((key >> 40) as usize + probe) & (PLACES - 1);
        let Some(holder) = places.get(at) else { break };
        let found = match holder.key.load(Acquire) {
            0 => match holder.key.compare_exchange(0, key, AcqRel, Acquire) {
                Ok(_) => {
                    COUNT.fetch_add(1, AcqRel);
                    holder.stack.store(keep(generation, addresses), Release);
                    key
                }
                Err(found) => found,
            },
            found => found,
        };
        if found == key {
            return HolderIndex(at as u32);
        }
    }
    HolderIndex::NONE
}

/// Never 0.
fn key(generation: u32, addresses: &[u64]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |key: u64, word: u64| {
        let product = u128::from(key ^ word) * u128::from(FACTOR);
        (product as u64 ^ (product >> 64) as u64).wrapping_add(FACTOR)
    };
    addresses.iter().fold(mix(addresses.len() as u64, generation.into()), |key, &word| mix(key, word)) | 1
}

/// Copies a stack to where the writer finds it.
fn keep(generation: u32, addresses: &[u64]) -> u32 {
    let count = HEADER + addresses.len();
    let end = |used: u32| (used as usize + count <= WORDS).then_some(used + count as u32);
    let Ok(at) = WORDS_USED.fetch_update(Relaxed, Relaxed, end) else { return UNKNOWN };
    let header = [u64::from(generation), addresses.len() as u64];
    let places = words().get(at as usize..).unwrap_or(&[]);
    for (place, &word) in places.iter().zip(header.iter().chain(addresses)) {
        place.store(word, Relaxed);
    }
    FIRST + at
}

/// In a new thread: its creator's stack holds it, with `bytes` of stack. Not inlined, so that the test which reads the machine
/// code finds it.
#[inline(never)]
pub fn thread_begins(index: HolderIndex, bytes: u64) {
    if let Some(holder) = holder(index) {
        holder.begun_bytes.fetch_add(bytes, Relaxed);
        holder.begun.fetch_add(1, Release);
    }
}

/// A thread that began ends.
pub fn thread_ends(index: HolderIndex, bytes: u64) {
    if let Some(holder) = holder(index) {
        holder.ended_bytes.fetch_add(bytes, Relaxed);
        holder.ended.fetch_add(1, Release);
    }
}

/// In a forked child: the threads that were created are the parent's, and so are those that were entering a stack.
pub fn forked() {
    for holder in table() {
        for count in [&holder.begun, &holder.begun_bytes, &holder.ended, &holder.ended_bytes] {
            count.store(0, Relaxed);
        }
        if holder.key.load(Relaxed) != 0 {
            let _ = holder.stack.compare_exchange(UNPUBLISHED, UNKNOWN, Relaxed, Relaxed);
        }
    }
}

/// For the writer: what threads a stack has created.
pub fn threads(index: HolderIndex) -> Threads {
    let Some(holder) = holder(index) else { return Threads::default() };
    // In this order: what has ended has begun.
    let (ended, ended_bytes) = (holder.ended.load(Acquire), holder.ended_bytes.load(Acquire));
    let (begun, begun_bytes) = (holder.begun.load(Acquire), holder.begun_bytes.load(Acquire));
    Threads { begun, ended, bytes: begun_bytes.saturating_sub(ended_bytes) }
}

/// How many stacks there are.
pub fn count() -> u32 {
    COUNT.load(Acquire)
}

/// For the writer: every stack that can be read, with the generation that it is of, outermost frame first.
pub fn all() -> impl Iterator<Item = (HolderIndex, u32, Vec<u64>)> {
    table().iter().enumerate().filter_map(|(at, holder)| {
        let (generation, addresses) = match holder.stack.load(Acquire) {
            UNPUBLISHED if at < PLACES => return None,
            UNPUBLISHED | UNKNOWN => (0, Vec::new()),
            place => {
                let words = words().get((place - FIRST) as usize..)?;
                let [generation, depth, addresses @ ..] = words else { return None };
                let addresses = addresses.get(..depth.load(Relaxed) as usize)?;
                (generation.load(Relaxed) as u32, addresses.iter().map(|word| word.load(Relaxed)).collect())
            }
        };
        Some((HolderIndex(at as u32), generation, addresses))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of this module: the table is the process's.
    #[test]
    fn stacks_are_entered_once_and_counts_outlive_a_full_table() {
        assert!(create());
        let stack = |n: u64| [n, n + 1, 7];
        let first = of(3, &stack(1));
        assert_eq!(of(3, &stack(1)), first);
        assert_ne!(of(4, &stack(1)), first);
        thread_begins(first, 100);
        thread_begins(first, 50);
        thread_ends(first, 100);
        assert_eq!(threads(first), Threads { begun: 2, ended: 1, bytes: 50 });
        let (_, generation, addresses) = all().find(|(index, ..)| *index == first).unwrap();
        assert_eq!((generation, &addresses[..]), (3, &stack(1)[..]));
        let found: Vec<_> = std::thread::scope(|scope| {
            let enter = || (0..2 * PLACES as u64).map(|n| of(9, &stack(n))).collect::<Vec<_>>();
            let both = [scope.spawn(enter), scope.spawn(enter)];
            both.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (one, other) in found[0].iter().zip(&found[1]) {
            assert!(one == other || *one == HolderIndex::NONE || *other == HolderIndex::NONE);
        }
        assert!(found[0].contains(&HolderIndex::NONE));
        assert_eq!(all().count(), count() as usize + 1, "all are published, and the last has no frames");
        thread_begins(HolderIndex::NONE, 8);
        assert_eq!(threads(HolderIndex::NONE).bytes, 8);
        let index = |(index, ..): (HolderIndex, u32, Vec<u64>)| index;
        let entered: Vec<_> = all().filter(|(_, generation, _)| *generation == 9).map(index).collect();
        assert!(entered.iter().all(|index| found[0].contains(index) || found[1].contains(index)));
        forked();
        assert_eq!(threads(first), Threads::default());
    }
}
