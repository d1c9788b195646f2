//! The live samples, by address: what a `free` that passed the filter asks.
//!
//! Hash tables of buckets of one cache line, without chains: an address is in one of two buckets of one table or not
//! there. What finds no room in a table goes to the next, larger one, so that a few samples touch little memory. Every
//! address is entered by the thread that just got it from the allocator and removed by the thread that is about to give
//! it back, so an address has one owner at any time and a compare-exchange on its slot is all that is needed.

use crate::heap;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

const SLOTS: usize = 4;

/// Buckets of each table, as powers of two: 4,096, 16,384 and 131,072 slots. Miri, which looks at each whenever it sees
/// the slice, gets small ones.
const SIZES: [u32; 3] = if cfg!(miri) { [0, 1, 2] } else { [10, 12, 15] };
const BUCKETS: usize = (1 << SIZES[0]) + (1 << SIZES[1]) + (1 << SIZES[2]);

/// One cache line: addresses, and beside each the number of its sample.
#[repr(C, align(64))]
struct Bucket {
    blocks: [AtomicU64; SLOTS],
    samples: [AtomicU64; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// All tables, one behind the other.
static TABLES: AtomicPtr<Bucket> = AtomicPtr::new(std::ptr::null_mut());

/// How many of them have ever been needed.
static IN_USE: AtomicUsize = AtomicUsize::new(1);

/// Makes the tables: 2.3 MiB of address space, resident as far as it is used. False where the system refuses.
pub fn create() -> bool {
    let tables = heap::map(BUCKETS * size_of::<Bucket>()).cast::<Bucket>();
    TABLES.store(tables, Release);
    !tables.is_null()
}

fn buckets() -> &'static [Bucket] {
    let tables = TABLES.load(Acquire);
    if tables.is_null() {
        return &[];
    }
    // SAFETY: `create` mapped that many buckets, page-aligned and for ever; zero bytes are valid ones, and all their
    // fields are atomic.
    unsafe { std::slice::from_raw_parts(tables, BUCKETS) }
}

/// The two places in each of the first tables where a block can be, with the table's number.
fn places(block: u64, tables: usize) -> impl Iterator<Item = (usize, &'static Bucket)> {
    let hash = (block >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rest = buckets();
    SIZES.into_iter().enumerate().take(tables).flat_map(move |(table, bits)| {
        let (own, others) = rest.split_at_checked(1 << bits).unwrap_or((&[], &[]));
        rest = others;
        let mask = (1 << bits) - 1;
        [hash >> 49, hash >> 34]
            .into_iter()
            .filter_map(move |at| own.get(at as usize & mask))
            .map(move |bucket| (table, bucket))
    })
}

/// Enters a live block as sample `sample`. False: its buckets are full in every table.
pub fn insert(block: u64, sample: u64) -> bool {
    for (table, bucket) in places(block, SIZES.len()) {
        for (slot, number) in bucket.blocks.iter().zip(&bucket.samples) {
            // The slot is claimed with a value that no block has, so that nobody finds it before its number is in.
            if slot.load(Relaxed) == 0 && slot.compare_exchange(0, u64::MAX, Acquire, Relaxed).is_ok() {
                number.store(sample, Relaxed);
                // Before the block can be freed, which takes a later hand-over between threads.
                if IN_USE.load(Relaxed) <= table {
                    IN_USE.fetch_max(table + 1, Relaxed);
                }
                slot.store(block, Release);
                return true;
            }
        }
    }
    false
}

/// Takes a block out, and returns its sample's number where it was in.
pub fn remove(block: u64) -> Option<u64> {
    // A program may hand blocks over in an order that only the block's address depends on.
    fence(Acquire);
    for (_, bucket) in places(block, IN_USE.load(Relaxed)) {
        for (slot, number) in bucket.blocks.iter().zip(&bucket.samples) {
            if slot.load(Acquire) == block {
                let sample = number.load(Relaxed);
                slot.store(0, Release);
                return Some(sample);
            }
        }
    }
    None
}

/// The numbers of all samples whose blocks are in. What comes or goes meanwhile may be among them or not.
pub fn samples() -> impl Iterator<Item = u64> {
    let slots = buckets().iter().flat_map(|bucket| bucket.blocks.iter().zip(&bucket.samples));
    let is_in = |slot: &AtomicU64| !matches!(slot.load(Acquire), 0 | u64::MAX);
    slots.filter(move |(slot, _)| is_in(slot)).map(|(_, number)| number.load(Relaxed))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::filter;

    /// Once for all tests of the process.
    pub fn created() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| assert!(create()));
    }

    #[test]
    fn keeps_fifty_thousand_samples_and_finds_each_once() {
        created();
        let block = |i: u64| 0x7f00_0000_0000 + i * 48;
        let entered = (0..50_000).filter(|&i| insert(block(i), i + 1)).count();
        assert_eq!(entered, 50_000);
        assert_eq!(IN_USE.load(Relaxed), SIZES.len());
        let numbers: std::collections::HashSet<u64> = samples().collect();
        assert!((0..50_000).all(|i| numbers.contains(&(i + 1))));
        assert_eq!(remove(block(60_000)), None);
        let found = (0..50_000).filter(|&i| remove(block(i)) == Some(i + 1)).count();
        assert_eq!(found, entered);
        assert!((0..50_000).all(|i| remove(block(i)).is_none()));
    }

    #[test]
    fn concurrent_threads_find_the_samples_of_the_blocks_they_are_handed() {
        created();
        // Of few pages and so of few buckets; the second thread gets addresses that the first has used before.
        const BLOCKS: u64 = 8;
        let given = [const { AtomicU64::new(0) }; BLOCKS as usize];
        let round = |base: u64, first: u64| {
            std::thread::scope(|scope| {
                for half in [0, 1] {
                    let given = &given;
                    scope.spawn(move || {
                        for i in (half..BLOCKS).step_by(2) {
                            let block = base + i * 16;
                            assert!(insert(block, first + i));
                            filter::add(block);
                            given[i as usize].store(block, Release);
                        }
                    });
                }
                for half in [0, 1] {
                    let given = &given;
                    scope.spawn(move || {
                        for i in (half..BLOCKS).step_by(2) {
                            let i = BLOCKS - 1 - i;
                            // Only the block's address orders this after its insertion.
                            let block = loop {
                                match given[i as usize].swap(0, Relaxed) {
                                    0 => std::thread::yield_now(),
                                    block => break block,
                                }
                            };
                            assert_eq!(remove(block), Some(first + i));
                            assert!(filter::may_hold(block), "the filter lets {block:x} pass");
                            filter::remove(block);
                        }
                    });
                }
            });
        };
        let base = 0x5555_0000_0000;
        round(base, 10);
        round(base, 30);
        assert!(!filter::may_hold(base), "the filter counts a block that is gone");
        assert!((0..BLOCKS).all(|i| remove(base + i * 16).is_none()));
    }
}
