//! The memory that the program has mapped itself, and which stack holds it: which addresses belong to which mapping.
//!
//! ```text
//! mmap            a new mapping, in place of what was there
//! munmap          takes pieces off mappings; with its last piece a mapping is released
//! mprotect        a piece can be accessed, or not; only what can be is counted in bytes
//! mremap          before the call the pieces are taken out; after it they are a new mapping, or are put back
//! ```

use super::held::Counts;
use crate::holders::HolderIndex;
use crate::mapping::Change;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Part of a mapping; the key is where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    end: u64,
    mapping: u64,
    is_accessible: bool,
}

/// One mapping.
struct Mapping {
    holder: HolderIndex,
    /// Bytes of it that are left, accessible or not.
    left: u64,
}

/// All that is mapped.
#[derive(Default)]
pub struct Mappings {
    pieces: BTreeMap<u64, Piece>,
    mappings: FxHashMap<u64, Mapping>,
    /// Numbers given to mappings.
    count: u64,
    /// What threads have taken out, until they know whether `mremap` succeeds.
    taken: FxHashMap<u64, Vec<(u64, Piece)>>,
    counts: FxHashMap<HolderIndex, Counts>,
}

impl Mappings {
    /// What a stack has mapped.
    pub fn of(&self, holder: HolderIndex) -> Counts {
        self.counts.get(&holder).copied().unwrap_or_default()
    }

    /// Bytes that are mapped and can be accessed.
    pub fn bytes(&self) -> u64 {
        self.counts.values().map(|counts| counts.bytes).sum()
    }

    /// The next change of the program's address space.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Map { start, end, holder, is_accessible } => {
                self.remove(start, end);
                self.add(start, end, holder, is_accessible);
            }
            Change::Unmap { start, end } => self.remove(start, end),
            Change::Protect { start, end, is_accessible } => self.protect(start, end, is_accessible),
            Change::Take { start, end, thread } => {
                let pieces = self.cut(start, end);
                if !pieces.is_empty() {
                    self.taken.insert(thread, pieces);
                }
            }
            Change::Put { start, end, holder, thread } => {
                self.remove(start, end);
                let Some(pieces) = self.taken.remove(&thread) else { return };
                let is_accessible = pieces.iter().any(|(_, piece)| piece.is_accessible);
                pieces.into_iter().for_each(|(start, piece)| self.forget(start, piece));
                self.add(start, end, holder, is_accessible);
            }
            Change::PutBack { thread } => self.pieces.extend(self.taken.remove(&thread).unwrap_or_default()),
        }
    }

    /// In a forked child: what is mapped stays, and counts from here on; threads that were in `mremap` are gone.
    pub fn forked(&mut self) {
        let unfinished: Vec<_> = self.taken.drain().flat_map(|(_, pieces)| pieces).collect();
        self.pieces.extend(unfinished);
        let mut lives = FxHashMap::<HolderIndex, u64>::default();
        for mapping in self.mappings.values() {
            *lives.entry(mapping.holder).or_default() += 1;
        }
        self.counts.retain(|holder, counts| {
            let acquired = lives.get(holder).copied().unwrap_or(0);
            *counts = Counts { acquired, released: 0, bytes: counts.bytes };
            acquired > 0
        });
    }

    fn add(&mut self, start: u64, end: u64, holder: HolderIndex, is_accessible: bool) {
        if start >= end {
            return;
        }
        self.count += 1;
        self.mappings.insert(self.count, Mapping { holder, left: end - start });
        self.pieces.insert(start, Piece { end, mapping: self.count, is_accessible });
        let counts = self.counts.entry(holder).or_default();
        counts.acquired += 1;
        counts.bytes += if is_accessible { end - start } else { 0 };
    }

    fn remove(&mut self, start: u64, end: u64) {
        for (start, piece) in self.cut(start, end) {
            self.forget(start, piece);
        }
    }

    /// A piece that was cut out is not mapped any more.
    fn forget(&mut self, start: u64, piece: Piece) {
        let bytes = piece.end - start;
        let Some(mapping) = self.mappings.get_mut(&piece.mapping) else { return };
        mapping.left -= bytes.min(mapping.left);
        let counts = self.counts.entry(mapping.holder).or_default();
        if piece.is_accessible {
            counts.bytes -= bytes.min(counts.bytes);
        }
        if mapping.left == 0 {
            counts.released += 1;
            self.mappings.remove(&piece.mapping);
        }
    }

    fn protect(&mut self, start: u64, end: u64, is_accessible: bool) {
        for (start, mut piece) in self.cut(start, end) {
            if piece.is_accessible != is_accessible
                && let Some(mapping) = self.mappings.get(&piece.mapping)
            {
                let counts = self.counts.entry(mapping.holder).or_default();
                let bytes = piece.end - start;
                counts.bytes =
                    if is_accessible { counts.bytes + bytes } else { counts.bytes - bytes.min(counts.bytes) };
                piece.is_accessible = is_accessible;
            }
            self.put(start, piece);
        }
        // The one behind may go on where the last ends.
        if let Some((&next, &piece)) = self.pieces.range(end..).next()
            && next == end
        {
            self.pieces.remove(&next);
            self.put(next, piece);
        }
    }

    /// Enters a piece, as one with the piece before it where they differ in nothing.
    fn put(&mut self, start: u64, piece: Piece) {
        if let Some((_, before)) = self.pieces.range_mut(..start).next_back()
            && *before == (Piece { end: start, ..piece })
        {
            before.end = piece.end;
        } else {
            self.pieces.insert(start, piece);
        }
    }

    /// Takes out what lies between `start` and `end`, in order; what reaches beyond stays.
    fn cut(&mut self, start: u64, end: u64) -> Vec<(u64, Piece)> {
        self.split(start);
        self.split(end);
        if start >= end {
            return Vec::new();
        }
        let cut: Vec<_> = self.pieces.range(start..end).map(|(&at, &piece)| (at, piece)).collect();
        for (at, _) in &cut {
            self.pieces.remove(at);
        }
        cut
    }

    /// Makes two pieces of the one that `at` lies in.
    fn split(&mut self, at: u64) {
        if let Some((_, piece)) = self.pieces.range_mut(..at).next_back()
            && piece.end > at
        {
            let rest = *piece;
            piece.end = at;
            self.pieces.insert(at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGES: usize = 24;
    const HOLDERS: u32 = 3;

    /// The same page by page: who has mapped it in which call, and whether it can be accessed.
    #[derive(Default)]
    struct Pages {
        pages: [Option<(u64, u32, bool)>; PAGES],
        acquired: [u64; HOLDERS as usize],
        calls: u64,
    }

    impl Pages {
        fn map(&mut self, range: std::ops::Range<usize>, holder: u32, is_accessible: bool) {
            if !range.is_empty() {
                self.calls += 1;
                self.acquired[holder as usize] += 1;
                self.pages[range].fill(Some((self.calls, holder, is_accessible)));
            }
        }

        fn counts(&self, holder: u32, taken: &[Option<(u64, u32, bool)>]) -> Counts {
            let own = || self.pages.iter().chain(taken).flatten().filter(|page| page.1 == holder);
            let calls: std::collections::BTreeSet<_> = own().map(|page| page.0).collect();
            let acquired = self.acquired[holder as usize];
            let bytes = own().filter(|page| page.2).count() as u64;
            Counts { acquired, released: acquired - calls.len() as u64, bytes }
        }
    }

    proptest! {
        #[test]
        fn counts_are_those_of_pages(
            steps in prop::collection::vec((0..6u8, 0..PAGES, 0..PAGES, 0..HOLDERS, any::<bool>(), 0..PAGES), 1..60)
        ) {
            let (mut mappings, mut pages) = (Mappings::default(), Pages::default());
            for (kind, a, b, holder, flag, to) in steps {
                let (low, high) = (a.min(b), a.max(b));
                let (start, end) = (low as u64, high as u64);
                let index = HolderIndex::from_number(holder);
                match kind {
                    0 | 1 => {
                        mappings.apply(Change::Map { start, end, holder: index, is_accessible: flag });
                        pages.map(low..high, holder, flag);
                    }
                    2 => {
                        mappings.apply(Change::Unmap { start, end });
                        pages.pages[low..high].fill(None);
                    }
                    3 => {
                        mappings.apply(Change::Protect { start, end, is_accessible: flag });
                        pages.pages[low..high].iter_mut().flatten().for_each(|page| page.2 = flag);
                    }
                    _ => {
                        mappings.apply(Change::Take { start, end, thread: 1 });
                        let taken: Vec<_> = pages.pages[low..high].iter_mut().map(Option::take).collect();
                        for holder in 0..HOLDERS {
                            prop_assert_eq!(mappings.of(HolderIndex::from_number(holder)), pages.counts(holder, &taken));
                        }
                        if kind == 4 {
                            mappings.apply(Change::PutBack { thread: 1 });
                            pages.pages[low..high].copy_from_slice(&taken);
                        } else {
                            let len = (high - low).min(PAGES - to);
                            let (start, end) = (to as u64, (to + len) as u64);
                            mappings.apply(Change::Put { start, end, holder: index, thread: 1 });
                            pages.pages[to..to + len].fill(None);
                            if taken.iter().any(Option::is_some) {
                                pages.map(to..to + len, holder, taken.iter().flatten().any(|page| page.2));
                            }
                        }
                    }
                }
                for holder in 0..HOLDERS {
                    prop_assert_eq!(mappings.of(HolderIndex::from_number(holder)), pages.counts(holder, &[]));
                }
                let most = 2 * pages.pages.iter().flatten().count();
                prop_assert!(mappings.pieces.len() <= most && mappings.mappings.len() <= most);
            }
            let bytes = pages.pages.iter().flatten().filter(|page| page.2).count() as u64;
            prop_assert_eq!(mappings.bytes(), bytes);
            mappings.forked();
            for holder in 0..HOLDERS {
                let before = pages.counts(holder, &[]);
                let Counts { acquired, released, bytes } = mappings.of(HolderIndex::from_number(holder));
                prop_assert_eq!((acquired, released, bytes), (before.acquired - before.released, 0, before.bytes));
            }
        }
    }
}
