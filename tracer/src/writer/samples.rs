//! Settles young deaths: a sample that dies before the flush after its birth is only counted at its stack. Leak hunting
//! pays for survivors.

use super::stacks::Stacks;
use super::threads::Threads;
use prof::{Nanos, NodeId, Record, RecordWriter, ThreadIndex, weight};
use rustc_hash::{FxHashMap, FxHashSet};

/// An allocation that was sampled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Its stack.
    pub node: NodeId,
    /// Where it was made.
    pub thread: ThreadIndex,
    /// When.
    pub time: Nanos,
    /// Requested bytes.
    pub size: u64,
    /// In force when it was taken.
    pub interval: u64,
}

/// Counts of the young dead are written at longer and longer intervals, at most this many flushes apart.
const LONGEST_FOLDING: u64 = 60;

/// Estimates for samples: those of a stack that died young, or all.
#[derive(Clone, Copy, Default)]
struct Sum {
    blocks: f64,
    bytes: f64,
}

impl Sum {
    fn add(&mut self, sample: &Sample) {
        let blocks = weight::blocks(sample.size, sample.interval);
        self.blocks += blocks;
        self.bytes += blocks * sample.size as f64;
    }
}

/// The samples of a stream, by the number that hooks gave them.
#[derive(Default)]
pub struct Samples {
    young: FxHashMap<u64, Sample>,
    /// Those in the file that live, with their number there.
    written: FxHashMap<u64, (u64, Sample)>,
    count: u64,
    /// Deaths that came before their births: in another thread's buffer, which was read earlier.
    orphans: FxHashMap<u64, Nanos>,
    folded: FxHashMap<NodeId, Sum>,
    /// Since the start, whatever has become of them.
    allocated: Sum,
    flushes: u64,
    /// The flush at which `folded` is written next.
    folding: u64,
    freed: Vec<(u64, Nanos)>,
    /// Those of which a death may have been lost.
    missed: Vec<u64>,
}

impl Samples {
    /// A sample was taken.
    pub fn born(&mut self, key: u64, sample: Sample) {
        self.allocated.add(&sample);
        if self.orphans.remove(&key).is_some() {
            self.fold(sample);
        } else {
            self.young.insert(key, sample);
        }
    }

    /// A sampled block was freed.
    pub fn died(&mut self, key: u64, time: Nanos) {
        if let Some(sample) = self.young.remove(&key) {
            self.fold(sample);
        } else if let Some((number, _)) = self.written.remove(&key) {
            self.freed.push((number, time));
        } else {
            self.orphans.insert(key, time);
        }
    }

    /// Where deaths may have been lost: those that are not among the `live` are dead. Of most the death is only on its way:
    /// it is waited for until [`bury`](Self::bury).
    pub fn miss(&mut self, live: &FxHashSet<u64>) {
        let known = self.young.keys().chain(self.written.keys());
        self.missed = known.copied().filter(|key| !live.contains(key)).collect();
    }

    /// Those that have been missed, and not been heard of since, died without a word.
    pub fn bury(&mut self, time: Nanos) {
        for key in std::mem::take(&mut self.missed) {
            if self.young.contains_key(&key) || self.written.contains_key(&key) {
                self.died(key, time);
            }
        }
    }

    /// The stacks of those that live.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.young.values().chain(self.written.values().map(|(_, sample)| sample)).map(|sample| sample.node)
    }

    /// Those that live; of which threads.
    pub fn threads(&self) -> impl Iterator<Item = ThreadIndex> {
        self.young.values().chain(self.written.values().map(|(_, sample)| sample)).map(|sample| sample.thread)
    }

    /// In a forked child: those that live are to be written; all else is the parent's.
    pub fn inherit(&mut self) {
        let Samples { young, written, .. } = std::mem::take(self);
        (self.young, self.written) = (young, written);
    }

    /// Where a file begins: those that live are to be written, with their stacks. What died young has been.
    pub fn rewrite(&mut self, stacks: &mut Stacks) {
        let anew = stacks.rewrite(self.nodes());
        let young = std::mem::take(&mut self.young).into_iter();
        let written = std::mem::take(&mut self.written).into_iter();
        let live = young.chain(written.map(|(key, (_, sample))| (key, sample)));
        let renamed = |sample: Sample| Some(Sample { node: *anew.get(&sample.node)?, ..sample });
        self.young = live.filter_map(|(key, sample)| Some((key, renamed(sample)?))).collect();
        (self.count, self.flushes, self.folding) = (0, 0, 0);
        self.folded.clear();
        self.freed.clear();
    }

    /// Everything that was sampled since the start: estimated blocks and bytes.
    pub fn allocated(&self) -> (u64, u64) {
        (self.allocated.blocks.round() as u64, self.allocated.bytes.round() as u64)
    }

    fn fold(&mut self, sample: Sample) {
        self.folded.entry(sample.node).or_default().add(&sample);
    }

    /// Appends survivors and deaths of what had been written; counts only now and then, and with the last flush.
    pub fn push(&mut self, records: &mut RecordWriter, threads: &mut Threads, last: bool) {
        for (sample, time) in self.freed.drain(..) {
            records.push(&Record::Freed { sample, time });
        }
        let mut survivors: Vec<_> = self.young.drain().collect();
        survivors.sort_unstable_by_key(|(key, sample)| (sample.time, *key));
        for (key, sample) in survivors {
            let Sample { node, thread, time, size, interval } = sample;
            self.count += 1;
            self.written.insert(key, (self.count, sample));
            threads.mention(records, thread);
            records.push(&Record::Sample { node, thread, time, size, interval });
        }
        self.flushes += 1;
        if self.flushes < self.folding && !last {
            return;
        }
        self.folding = self.flushes + self.flushes.min(LONGEST_FOLDING);
        let mut folded: Vec<_> = self.folded.drain().collect();
        folded.sort_unstable_by_key(|(node, _)| *node);
        for (node, Sum { blocks, bytes }) in folded {
            records.push(&Record::Folded { node, blocks: blocks as f32, bytes: bytes as f32 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(node: u32, size: u64) -> Sample {
        Sample { node: NodeId(node), thread: ThreadIndex(1), time: Nanos(5), size, interval: weight::EVERY }
    }

    fn flush(samples: &mut Samples) -> Vec<String> {
        let mut records = RecordWriter::new(Nanos(100));
        samples.push(&mut records, &mut Threads::default(), true);
        prof::Records::new(Nanos(100), records.payload())
            .map(|record| format!("{:?}", record.unwrap()))
            .collect()
    }

    #[test]
    fn writes_survivors_and_folds_the_rest() {
        let mut samples = Samples::default();
        samples.born(10, sample(1, 64));
        samples.born(11, sample(2, 100));
        samples.died(11, Nanos(6));
        let first = flush(&mut samples);
        assert_eq!(first.len(), 2);
        assert!(first[0].starts_with("Sample { node: NodeId(1)"), "{first:?}");
        assert_eq!(first[1], "Folded { node: NodeId(2), blocks: 1.0, bytes: 100.0 }");
        samples.died(10, Nanos(70));
        assert_eq!(flush(&mut samples), ["Freed { sample: 1, time: Nanos(70) }"]);
        assert!(flush(&mut samples).is_empty());
    }

    #[test]
    fn a_child_inherits_what_lives_and_nothing_else() {
        let (mut samples, mut stacks) = (Samples::default(), Stacks::default());
        let nodes = [&[1, 2][..], &[1, 3], &[4]].map(|stack| stacks.intern(0, stack));
        for (key, node) in (10..).zip(nodes) {
            samples.born(key, Sample { node, ..sample(0, 64) });
        }
        flush(&mut samples);
        samples.born(20, Sample { node: stacks.intern(1, &[1]), ..sample(0, 8) });
        samples.died(11, Nanos(6));
        samples.died(12, Nanos(6));
        samples.inherit();
        samples.rewrite(&mut stacks);
        let mut records = RecordWriter::new(Nanos(100));
        stacks.push(&mut records, |_| {});
        samples.push(&mut records, &mut Threads::default(), false);
        samples.died(10, Nanos(7));
        samples.push(&mut records, &mut Threads::default(), true);
        let all: Vec<_> = prof::Records::new(Nanos(100), records.payload()).map(Result::unwrap).collect();
        let Sample { thread, time, interval, .. } = sample(0, 0);
        let node = |parent, address| Record::Node { parent: NodeId(parent), address };
        let born = |node, size| Record::Sample { node: NodeId(node), thread, time, size, interval };
        let generation = Record::Generation(prof::Generation(1));
        let freed = Record::Freed { sample: 1, time: Nanos(7) };
        assert_eq!(all, [node(0, 1), node(1, 2), generation, node(0, 1), born(2, 64), born(3, 8), freed]);
    }

    #[test]
    fn counts_are_written_ever_more_rarely_and_at_the_end() {
        let mut samples = Samples::default();
        let mut written = Vec::new();
        for flush in 1..=300 {
            samples.born(flush, sample(1, 8));
            samples.died(flush, Nanos(9));
            let mut records = RecordWriter::new(Nanos(100));
            samples.push(&mut records, &mut Threads::default(), flush == 300);
            if !records.payload().is_empty() {
                written.push(flush);
            }
        }
        assert_eq!(written, [1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 300]);
    }

    /// A million a second, of which never more than a thousand live: as many are held, and none of the dead.
    #[test]
    fn memory_is_in_proportion_to_what_lives() {
        const LIVE: u64 = 1000;
        let mut samples = Samples::default();
        for key in 0..1_000_000 {
            samples.born(key, sample(key as u32 % 50, 100));
            if key % 2 == 0 {
                // Of another thread, whose buffer was read before.
                samples.died(key + 1, Nanos(7));
                key.checked_sub(LIVE).into_iter().for_each(|old| samples.died(old, Nanos(7)));
            }
        }
        let held = samples.young.capacity() + samples.orphans.capacity() + samples.folded.capacity();
        assert!(held < 8 * LIVE as usize, "room for {held}");
        assert_eq!(samples.allocated(), (1_000_000, 100_000_000));
        let folded: f64 = samples.folded.values().map(|sum| sum.blocks).sum();
        assert_eq!(folded as usize + samples.young.len(), 1_000_000);
    }

    #[test]
    fn a_death_that_was_lost_is_found_out() {
        let mut samples = Samples::default();
        for key in 1..=4 {
            samples.born(key, sample(1, 8));
        }
        flush(&mut samples);
        samples.born(5, sample(1, 8));
        // 2 and 5 have died, 3 as well, of which is heard later.
        samples.miss(&FxHashSet::from_iter([1, 4]));
        samples.died(3, Nanos(60));
        samples.bury(Nanos(70));
        samples.bury(Nanos(80));
        let freed = |sample, time| format!("Freed {{ sample: {sample}, time: Nanos({time}) }}");
        let folded = "Folded { node: NodeId(1), blocks: 1.0, bytes: 8.0 }".to_owned();
        let numbers: Vec<u64> = [2, 3].map(|key| samples.written.get(&key).map_or(key, |_| 0)).to_vec();
        assert_eq!(numbers, [2, 3], "neither is live any more");
        assert_eq!(flush(&mut samples), [freed(3, 60), freed(2, 70), folded]);
        assert_eq!((samples.written.len(), samples.orphans.len()), (2, 0));
    }

    #[test]
    fn a_death_may_come_first() {
        let mut samples = Samples::default();
        samples.died(3, Nanos(9));
        assert!(flush(&mut samples).is_empty());
        samples.born(3, sample(4, 8));
        assert_eq!(flush(&mut samples), ["Folded { node: NodeId(4), blocks: 1.0, bytes: 8.0 }"]);
    }
}
