//! Sampled recordings of which the truth is known: how often the intervals contain it.

use crate::compare::compare_in_detail;
use crate::estimate::Weight;
use crate::input::Input;
use crate::instant::At;
use crate::profile::Profile;
use crate::shape::series::Groups;
use crate::shape::{Development, Kind};
use crate::symbols::Lookup;
use crate::synthetic::{File, SECOND, chain};
use prof::{Nanos, NodeId, Record, ThreadIndex};
use std::path::Path;

/// Deterministic uniform numbers in (0, 1]: SplitMix64.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.next().ln() * mean
    }
}

/// Blocks of one size that a stack allocates at even distances.
struct Source {
    size: u64,
    bytes_per_s: f64,
    /// Mean seconds that a block lives; for ever where there is none.
    lives: Option<f64>,
}

const DURATION: u64 = 200;
const INTERVAL: u64 = 512 << 10;

/// A recording of some sources, each block sampled as the tracer does it.
fn record(sources: &[Source], seed: u64) -> Vec<u8> {
    let mut uniform = Uniform(seed);
    // When, and what: a birth of a source, with its death.
    let mut births = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let missed = 1.0 - 1.0 / Weight::of(source.size, INTERVAL).blocks;
        let apart = source.size as f64 / source.bytes_per_s;
        let mut at = 0.0;
        loop {
            // Skips over the blocks that are not sampled, instead of tossing for each.
            at += apart * (1.0 + (uniform.next().ln() / missed.ln()).floor());
            if at >= DURATION as f64 {
                break;
            }
            births.push((
                at,
                at + source.lives.map_or(f64::INFINITY, |lives| uniform.exponential(lives)),
                number,
            ));
        }
    }
    births.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut file = File::new(3);
    file.preamble("524288");
    for number in 0..sources.len() as u32 {
        file.records(0, &chain(number * 2 + 1, &[0x40_0100, 0x40_1000 + u64::from(number) * 16]));
    }
    let mut deaths: Vec<(f64, u64)> = Vec::new();
    let nanos = |seconds: f64| Nanos((seconds * 1e9) as u64);
    let mut births = births.into_iter().zip(1u64..).peekable();
    for second in 1..=DURATION {
        let mut records = Vec::new();
        while let Some(((born, dies, number), sample)) =
            births.next_if(|((born, ..), _)| *born < second as f64)
        {
            let source = &sources[number];
            let (node, thread) = (NodeId(number as u32 * 2 + 2), ThreadIndex(0));
            records.push(Record::Sample {
                node,
                thread,
                time: nanos(born),
                size: source.size,
                interval: INTERVAL,
            });
            deaths.push((dies, sample));
        }
        let dead = deaths.extract_if(.., |(dies, _)| *dies < second as f64);
        records.extend(dead.map(|(dies, sample)| Record::Freed { sample, time: nanos(dies) }));
        records.push(Record::Complete { time: Nanos(second * SECOND) });
        file.records(second * SECOND, &records);
    }
    file.0
}

/// The retained growth's interval, and the development, of each source.
fn develop(sources: &[Source], seed: u64) -> Vec<((f64, f64), Development)> {
    let profile = Profile::in_memory(Path::new("run.prof"), record(sources, seed));
    let after = Input::find(profile, &At::End).expect("a profile");
    let before = after.moved(&At::Start).expect("its start");
    let (comparison, detail) =
        compare_in_detail(&before, &after, &Lookup::default(), |_| {}).expect("a comparison");
    let name = |node| {
        let frame = comparison.tree.frames(node).next().expect("a frame");
        comparison.tree.symbols.get(frame.symbol).expect("a symbol").function.to_string()
    };
    let mut groups = Groups::new(sources.len());
    let mut intervals = Vec::new();
    for number in 0..sources.len() {
        let leaf = format!("server!{:#x}", 0x1000 + number * 16 - 1);
        let grown = comparison.growth.stacks.iter().find(|stack| name(stack.node) == leaf);
        intervals.push(grown.map_or((0.0, 0.0), |grown| grown.retained.ci95));
        let of_node = |node| grown.is_some_and(|grown| grown.node == node);
        let stacks = detail.nodes.iter().filter(|(_, node)| of_node(**node));
        stacks.for_each(|(stack, _)| groups.put(*stack, number));
    }
    intervals.into_iter().zip(detail.history.develop(&groups)).collect()
}

#[test]
fn intervals_of_growth_and_slope_contain_the_truth_in_at_least_93_of_100_runs() {
    let leak = |size, bytes_per_s| Source { size, bytes_per_s, lives: None };
    let sources = [
        leak(181, 400e3),
        leak(40, 30e3),
        leak(1 << 20, 1e6),
        Source { size: 4096, bytes_per_s: 1e6, lives: Some(8.0) },
        Source { size: 600, bytes_per_s: 3e6, lives: Some(2.0) },
    ];
    let (mut bytes_in, mut slope_in, mut steady) = ([0; 5], [0; 5], [0; 5]);
    for seed in 0..100 {
        for (number, (source, (interval, development))) in
            sources.iter().zip(develop(&sources, seed * 1000 + 7)).enumerate()
        {
            let truth = source.bytes_per_s * DURATION as f64;
            let holds = |(low, high): (f64, f64), truth: f64| u32::from(low <= truth && truth <= high);
            bytes_in[number] += holds(interval, truth);
            let slope = if source.lives.is_some() { 0.0 } else { source.bytes_per_s };
            slope_in[number] += holds(development.shape.fit.ci95(), slope);
            steady[number] += u32::from(development.shape.kind == Kind::Steady);
        }
    }
    eprintln!("bytes {bytes_in:?} slope {slope_in:?} steady {steady:?}");
    for leak in 0..3 {
        assert!(bytes_in[leak] >= 93, "bytes of source {leak}: {} of 100", bytes_in[leak]);
        assert!(slope_in[leak] >= 93, "slope of source {leak}: {} of 100", slope_in[leak]);
    }
    assert!(steady[0] >= 95 && steady[2] >= 95, "leaks are found: {steady:?}");
    assert!(steady[3] <= 5 && steady[4] <= 5, "what is replaced does not grow: {steady:?}");
}
