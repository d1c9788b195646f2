//! The table of live blocks, by key.
//!
//! A block takes 25 bytes and its share of the table's free places. That is what a live set costs, so what a block was
//! born after is kept as a small number and not as its time.

use crate::stacks::Stack;
use crate::stream::Origin;
use hashbrown::HashTable;

/// A live block, without its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Requested bytes, below 2^48: more than any process can address.
    pub size: u64,
    /// Which of the spans of time that are told apart it was born in.
    pub cohort: u16,
    /// Where it was allocated.
    pub stack: Stack,
    /// By whom.
    pub origin: Origin,
}

/// The largest size that a block can have.
pub const MAX_SIZE: u64 = (1 << 48) - 1;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// The size, and above its 48 bits the cohort.
    size_and_cohort: u64,
    stack: Stack,
    origin: Origin,
}

const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    #[inline]
    fn new(key: u64, block: Block) -> Entry {
        let size_and_cohort = block.size.min(MAX_SIZE) | u64::from(block.cohort) << 48;
        Entry { key, size_and_cohort, stack: block.stack, origin: block.origin }
    }

    #[inline]
    fn block(&self) -> Block {
        Block {
            size: self.size_and_cohort & MAX_SIZE,
            cohort: (self.size_and_cohort >> 48) as u16,
            stack: self.stack,
            origin: self.origin,
        }
    }
}

/// Spreads a key over 64 bits; the table takes its place from the low and its tag from the high ones.
#[inline]
fn hash(key: u64) -> u64 {
    let product = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// Live blocks by key.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    table: HashTable<Entry>,
}

impl Blocks {
    /// Adds a block; returns the one that had the key before.
    #[inline]
    pub fn insert(&mut self, key: u64, block: Block) -> Option<Block> {
        let hash_of = |entry: &Entry| hash(entry.key);
        match self.table.entry(hash(key), |entry| entry.key == key, hash_of) {
            hashbrown::hash_table::Entry::Occupied(mut old) => {
                Some(std::mem::replace(old.get_mut(), Entry::new(key, block)).block())
            }
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(Entry::new(key, block));
                None
            }
        }
    }

    /// Takes a block out.
    #[inline]
    pub fn remove(&mut self, key: u64) -> Option<Block> {
        let found = self.table.find_entry(hash(key), |entry| entry.key == key).ok()?;
        Some(found.remove().0.block())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Block> {
        self.table.iter().map(Entry::block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Origins;
    use prof::ThreadIndex;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn is_a_map(acts in prop::collection::vec((any::<bool>(), 0..600u64, any::<u64>(), any::<u16>()), 0..3000)) {
            let origin = Origins::default().intern(ThreadIndex(0), 1);
            let mut blocks = Blocks::default();
            let mut model = HashMap::new();
            for (is_birth, key, size, cohort) in acts {
                // Neighbouring, distant and zero keys.
                let key = if key % 2 == 0 { key * 16 } else { key << 32 };
                let block = Block { size: size & MAX_SIZE, cohort, stack: Stack::EMPTY, origin };
                match is_birth {
                    true => prop_assert_eq!(blocks.insert(key, block), model.insert(key, block)),
                    false => prop_assert_eq!(blocks.remove(key), model.remove(&key)),
                }
                prop_assert_eq!(blocks.len(), model.len());
            }
            let sorted = |all: &mut dyn Iterator<Item = Block>| {
                let mut all: Vec<_> = all.map(|block| (block.size, block.cohort)).collect();
                all.sort_unstable();
                all
            };
            prop_assert_eq!(sorted(&mut blocks.iter()), sorted(&mut model.values().copied()));
        }
    }
}
