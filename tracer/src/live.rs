//! The live samples, by address: what a `free` that passed the filter asks.
//!
//! A hash table of buckets of one cache line, without chains: an address is in one of two buckets or not there. Every
//! address is entered by the thread that just got it from the allocator and removed by the thread that is about to give
//! it back, so an address has one owner at any time and a compare-exchange on its slot is all that is needed.

use crate::heap;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

const SLOTS: usize = 4;
const BUCKETS: usize = 1 << 15;

/// One cache line: addresses, and beside each the number of its sample.
#[repr(C, align(64))]
struct Bucket {
    blocks: [AtomicU64; SLOTS],
    samples: [AtomicU64; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

static TABLE: AtomicPtr<Bucket> = AtomicPtr::new(std::ptr::null_mut());

/// Makes the table: 2 MiB of address space, resident as far as it is used. False where the system refuses.
pub fn create() -> bool {
    let table = heap::map(BUCKETS * size_of::<Bucket>()).cast::<Bucket>();
    TABLE.store(table, Release);
    !table.is_null()
}

fn buckets() -> &'static [Bucket] {
    let table = TABLE.load(Acquire);
    if table.is_null() {
        return &[];
    }
    // SAFETY: `create` mapped that many buckets, page-aligned and for ever; zero bytes are valid ones, and all their
    // fields are atomic.
    unsafe { std::slice::from_raw_parts(table, BUCKETS) }
}

/// The two places where a block can be.
fn places(block: u64) -> impl Iterator<Item = &'static Bucket> {
    let hash = (block >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let buckets = buckets();
    [hash >> 49, hash >> 34].into_iter().filter_map(move |at| buckets.get(at as usize & (BUCKETS - 1)))
}

/// Enters a live block as sample `sample`. False: both buckets are full.
pub fn insert(block: u64, sample: u64) -> bool {
    for bucket in places(block) {
        for (slot, number) in bucket.blocks.iter().zip(&bucket.samples) {
            // The slot is claimed with a value that no block has, so that nobody finds it before its number is in.
            if slot.load(Relaxed) == 0 && slot.compare_exchange(0, u64::MAX, Acquire, Relaxed).is_ok() {
                number.store(sample, Relaxed);
                slot.store(block, Release);
                return true;
            }
        }
    }
    false
}

/// Takes a block out, and returns its sample's number where it was in.
pub fn remove(block: u64) -> Option<u64> {
    for bucket in places(block) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_fifty_thousand_samples_and_finds_each_once() {
        assert!(create());
        let block = |i: u64| 0x7f00_0000_0000 + i * 48;
        let entered = (0..50_000).filter(|&i| insert(block(i), i + 1)).count();
        assert!(entered >= 49_900, "{entered}");
        assert_eq!(remove(block(60_000)), None);
        let found = (0..50_000).filter(|&i| remove(block(i)) == Some(i + 1)).count();
        assert_eq!(found, entered);
        assert!((0..50_000).all(|i| remove(block(i)).is_none()));
    }
}
