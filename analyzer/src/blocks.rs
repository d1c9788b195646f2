//! The table of live blocks, by key.
//!
//! A block takes 26 bytes and its share of the table's free places. That is what a live set costs, so what a block was
//! born after is kept as a small number and not as its time.
//!
//! A table of many blocks is larger than the processor's caches, and a key can be anywhere in it: each look would wait
//! for memory. So a bucket is two neighbouring cache lines, and [`Blocks::touch`] has those of many keys come at once.

use crate::stacks::Stack;
use crate::stream::Origin;
use std::hint::black_box;

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

/// A block as it stands in the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// The size, and above its 48 bits the cohort.
    size_and_cohort: u64,
    stack: Stack,
    /// `None`: nothing was ever here.
    origin: Option<Origin>,
}

const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    const NONE: Entry = Entry { key: 0, size_and_cohort: 0, stack: Stack::EMPTY, origin: None };

    #[inline]
    fn new(key: u64, block: Block) -> Entry {
        let size_and_cohort = block.size.min(MAX_SIZE) | u64::from(block.cohort) << 48;
        Entry { key, size_and_cohort, stack: block.stack, origin: Some(block.origin) }
    }

    #[inline]
    fn block(&self) -> Option<Block> {
        Some(Block {
            size: self.size_and_cohort & MAX_SIZE,
            cohort: (self.size_and_cohort >> 48) as u16,
            stack: self.stack,
            origin: self.origin?,
        })
    }
}

/// Entries of a bucket.
const ENTRIES: usize = 5;

/// Which of a bucket's entries there are. Byte i is 0 where entry i is none, and else of its key's hash. The topmost byte
/// counts the blocks that belong here, or further in front, and found this bucket full; once it is 255 it stays. Such a
/// block goes to the next bucket: so a search ends where the count is 0, and nothing has to stand where a block was
/// removed.
#[derive(Clone, Copy, Default, Debug)]
struct Tags(u64);

impl Tags {
    /// Marks the tags that are equal to `tag`: the first of them for certain, after it perhaps others.
    #[inline(always)]
    fn equal(self, tag: u64) -> u64 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const MARKS: u64 = 0x80_8080_8080;
        let word = self.0 ^ (tag * ONES);
        word.wrapping_sub(ONES) & !word & MARKS
    }

    /// Marks the entries that there are: of their tags the topmost bit is set.
    #[inline(always)]
    fn full(self) -> u64 {
        self.0 & 0x80_8080_8080
    }

    #[inline(always)]
    fn set(&mut self, at: usize, tag: u64) {
        self.0 = self.0 & !(0xff << (8 * at)) | tag << (8 * at);
    }

    /// How many found the bucket full.
    #[inline(always)]
    fn passed(self) -> u64 {
        self.0 >> 56
    }

    #[cold]
    fn pass(&mut self) {
        if self.passed() < 255 {
            self.0 += 1 << 56;
        }
    }

    #[cold]
    fn forget(&mut self) {
        if self.passed() < 255 {
            self.0 -= 1 << 56;
        }
    }
}

/// The first entry that is marked.
#[inline(always)]
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Blocks that belong together, and those that found the bucket in front full.
#[derive(Clone, Copy, Debug)]
#[repr(align(128))]
struct Bucket {
    tags: Tags,
    entries: [Entry; ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 128);

impl Bucket {
    const EMPTY: Bucket = Bucket { tags: Tags(0), entries: [Entry::NONE; ENTRIES] };
}

/// Live blocks by key.
#[derive(Clone, Debug)]
pub struct Blocks {
    buckets: Vec<Bucket>,
    len: usize,
    /// The table grows when there are more.
    most: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks::of(LEAST)
    }
}

/// Buckets of the smallest table.
const LEAST: usize = 8;

/// Buckets that the processor's caches may hold, 4 MiB of them: reading them ahead would cost more than it saves.
const CACHED: usize = 1 << 15;

/// Where a key belongs.
#[derive(Clone, Copy)]
struct Home {
    bucket: usize,
    /// Not 0.
    tag: u64,
}

/// Where an entry is, or could be.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    at: usize,
}

impl Blocks {
    fn of(buckets: usize) -> Blocks {
        Blocks { buckets: vec![Bucket::EMPTY; buckets], len: 0, most: buckets * ENTRIES / 3 * 2 }
    }

    #[inline(always)]
    fn home(&self, key: u64) -> Home {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The hash as a fraction of 2^64, times the number of buckets.
        let bucket = ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize;
        Home { bucket, tag: hash >> 24 & 0x7f | 0x80 }
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 < self.buckets.len() { bucket + 1 } else { 0 }
    }

    #[inline(always)]
    fn find(&self, key: u64, home: Home) -> Option<Place> {
        let mut bucket = home.bucket;
        loop {
            let Bucket { tags, entries } = self.buckets.get(bucket)?;
            let mut equal = tags.equal(home.tag);
            while equal != 0 {
                let at = first(equal);
                if entries.get(at).is_some_and(|entry| entry.key == key) {
                    return Some(Place { bucket, at });
                }
                equal &= equal - 1;
            }
            if tags.passed() == 0 {
                return None;
            }
            bucket = self.after(bucket);
        }
    }

    #[inline(always)]
    fn entry(&mut self, place: Place) -> Option<&mut Entry> {
        self.buckets.get_mut(place.bucket)?.entries.get_mut(place.at)
    }

    /// Reads both cache lines where each of the keys belongs: they come together, where one after the other would be waited
    /// for by the changes that follow.
    pub fn touch(&self, keys: impl Iterator<Item = u64>) {
        if self.buckets.len() > CACHED {
            let buckets = keys.filter_map(|key| self.buckets.get(self.home(key).bucket));
            let read = buckets.map(|Bucket { tags, entries: [.., last] }| tags.0 ^ last.key);
            black_box(read.fold(0, |all, one| all ^ one));
        }
    }

    /// Adds a block; returns the one that had the key before.
    #[inline]
    pub fn insert(&mut self, key: u64, block: Block) -> Option<Block> {
        let home = self.home(key);
        let entry = Entry::new(key, block);
        match self.find(key, home) {
            Some(place) => std::mem::replace(self.entry(place)?, entry).block(),
            None => {
                self.add(home, entry);
                None
            }
        }
    }

    /// Adds a block whose key is not there.
    #[inline(always)]
    fn add(&mut self, home: Home, entry: Entry) {
        let mut bucket = home.bucket;
        while let Some(Bucket { tags, entries }) = self.buckets.get_mut(bucket) {
            let at = first(tags.equal(0));
            if let Some(place) = entries.get_mut(at) {
                tags.set(at, home.tag);
                *place = entry;
                break;
            }
            tags.pass();
            bucket = self.after(bucket);
        }
        self.len += 1;
        if self.len > self.most {
            self.grow();
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let buckets = self.buckets.len();
        let old = std::mem::replace(self, Blocks::of(buckets + buckets / 2));
        for entry in old.all() {
            self.add(self.home(entry.key), *entry);
        }
    }

    /// Takes a block out.
    #[inline]
    pub fn remove(&mut self, key: u64) -> Option<Block> {
        let home = self.home(key);
        let place = self.find(key, home)?;
        let mut passed = home.bucket;
        while passed != place.bucket {
            self.buckets.get_mut(passed)?.tags.forget();
            passed = self.after(passed);
        }
        self.buckets.get_mut(place.bucket)?.tags.set(place.at, 0);
        self.len -= 1;
        self.entry(place)?.block()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|Bucket { tags, entries }| {
            let all = entries.iter().zip(tags.0.to_le_bytes());
            all.filter(|(_, tag)| *tag != 0).map(|(entry, _)| entry)
        })
    }

    /// Gives `take` all, in no particular order.
    #[inline]
    pub fn each(&self, mut take: impl FnMut(Block)) {
        for Bucket { tags, entries } in &self.buckets {
            let mut full = tags.full();
            while full != 0 {
                entries.get(first(full)).and_then(Entry::block).into_iter().for_each(&mut take);
                full &= full - 1;
            }
        }
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
            let mut all = Vec::new();
            blocks.each(|block| all.push((block.size, block.cohort)));
            let mut expected: Vec<_> = model.values().map(|block| (block.size, block.cohort)).collect();
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn keys_of_one_bucket_are_found_and_leave_nothing_behind() {
        let origin = Origins::default().intern(ThreadIndex(0), 1);
        let block = |key| Block { size: key, cohort: 0, stack: Stack::EMPTY, origin };
        // Their hashes are 1, 2, 3, …: more of them pass the first bucket than its count can say.
        let keys: Vec<u64> = (1..=2000).map(|hash: u64| hash.wrapping_mul(0xf1de_83e1_9937_733d)).collect();
        let mut blocks = Blocks::default();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(blocks.home(*key).bucket, 0);
            assert_eq!(blocks.insert(*key, block(at as u64)), None);
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(blocks.remove(*key), Some(block(at as u64)));
            assert_eq!(blocks.remove(*key), None);
        }
        assert!(blocks.is_empty());
        blocks.each(|block| panic!("{block:?} was left"));
    }
}
