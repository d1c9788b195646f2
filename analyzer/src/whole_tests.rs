//! The whole line, from bytes to growth, against histories of which the truth is known.

use crate::breakdown::{By, Column};
use crate::census::Census;
use crate::choice::{Choice, Rows};
use crate::compare::{Comparison, compare};
use crate::figures::{Figures, FiguresByStack};
use crate::growth::Meaning;
use crate::input::Input;
use crate::instant::At;
use crate::names::Style;
use crate::output::{folded, json, table, timeline_svg};
use crate::profile::Profile;
use crate::replay::{Instant, Plan, replay};
use crate::symbols::Lookup;
use crate::synthetic::{File, Log, every, sampled};
use crate::timeline::draw;
use clap::ValueEnum;
use prof::Nanos;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// What threads did, one step a nanosecond.
#[derive(Clone, Debug)]
enum Act {
    Alloc {
        size: u64,
        stack: u64,
    },
    /// Of the n-th live block.
    Free(usize),
    Realloc {
        which: usize,
        size: u64,
        stack: u64,
    },
    /// A thread hands its buffer over.
    Flush,
    /// The writer takes all buffers, in this order, and says so.
    Complete {
        reverse: bool,
    },
}

fn act() -> impl Strategy<Value = (u32, Act)> {
    let size = prop_oneof![Just(0u64), 1..100u64, 1..1u64 << 40];
    let act = prop_oneof![
        6 => (size.clone(), 1..6u64).prop_map(|(size, stack)| Act::Alloc { size, stack }),
        4 => any::<usize>().prop_map(Act::Free),
        2 => (any::<usize>(), size, 1..6u64)
            .prop_map(|(which, size, stack)| Act::Realloc { which, size, stack }),
        1 => Just(Act::Flush),
        1 => any::<bool>().prop_map(|reverse| Act::Complete { reverse }),
    ];
    (0..4u32, act)
}

/// A block by address: since when, how large, and on which stack.
type Truth = BTreeMap<u64, (u64, u64, u64)>;

/// A file of the acts, and the live set after each nanosecond.
fn record(acts: &[(u32, Act)]) -> (Vec<u8>, Vec<Truth>) {
    let mut logs: Vec<Log> = (0..4).map(Log::new).collect();
    let mut file = File::new(1);
    file.preamble("every");
    let mut live = Truth::new();
    let mut truth = vec![live.clone()];
    let frames = |stack: u64| [0x40_0100 + stack, 0x40_0200 + stack / 2, 0x40_0300];
    for (thread, act) in acts {
        let now = truth.len() as u64;
        let log = &mut logs[*thread as usize];
        // The lowest free address: it is reused at once, and often by another thread.
        let free = (1..).map(|i| i * 16).find(|address| !live.contains_key(address)).unwrap();
        let nth = |live: &Truth, n: usize| live.keys().nth(n % live.len().max(1)).copied();
        match *act {
            Act::Alloc { size, stack } => {
                log.alloc(free, now, size, &frames(stack));
                live.insert(free, (now, size, stack));
            }
            Act::Free(n) => {
                let Some(address) = nth(&live, n) else { continue };
                log.free(address, now);
                live.remove(&address);
            }
            Act::Realloc { which, size, stack } => {
                let Some(address) = nth(&live, which) else { continue };
                live.remove(&address);
                truth.push(live.clone());
                log.realloc((address, now), (free, now + 1), size, &frames(stack));
                live.insert(free, (now + 1, size, stack));
            }
            Act::Flush => {
                file.events(now, log);
                continue;
            }
            Act::Complete { reverse } => {
                let mut logs: Vec<&mut Log> = logs.iter_mut().collect();
                if reverse {
                    logs.reverse();
                }
                for log in logs {
                    file.events(now, log);
                }
                file.complete(now);
                continue;
            }
        }
        truth.push(live.clone());
    }
    for log in logs.iter_mut().rev() {
        file.events(truth.len() as u64, log);
    }
    file.complete(truth.len() as u64);
    (file.0, truth)
}

fn open(bytes: &[u8], at: &At) -> Input {
    Input::find(Profile::in_memory(Path::new("run.prof"), bytes), at).unwrap()
}

fn growth(bytes: &[u8], from: &At, to: &At) -> Comparison {
    let after = open(bytes, to);
    compare(&after.moved(from).unwrap(), &after, &Lookup::default(), |_| {}).unwrap()
}

fn at(nanos: u64) -> At {
    At::Time(Nanos(nanos + 500_000_000))
}

proptest! {
    #[test]
    fn threads_in_any_order_give_the_true_live_set(acts in prop::collection::vec(act(), 0..120)) {
        let (file, truth) = record(&acts);
        let profile = Profile::in_memory(Path::new("run.prof"), file);
        let instants = (0..truth.len() as u64).map(|at| Instant { at: Nanos(at), since: Nanos(at / 2) });
        let plan = Plan { instants: instants.collect(), allocated_by_stack: true, ..Plan::default() };
        let replayed = replay(&profile, &profile.survey().unwrap(), &plan).unwrap();
        prop_assert_eq!(replayed.damage, None);
        prop_assert_eq!(replayed.replaced, 0);
        prop_assert_eq!(replayed.snapshots.len(), truth.len());
        let mut peak = 0.0f64;
        for (snapshot, truth) in replayed.snapshots.iter().zip(&truth) {
            let bytes: u64 = truth.values().map(|(_, size, _)| size).sum();
            prop_assert_eq!(snapshot.live.bytes.value, bytes as f64);
            prop_assert_eq!(snapshot.live.blocks.value, truth.len() as f64);
            let since = snapshot.at.0 / 2;
            let young = truth.values().filter(|(born, ..)| *born > since).map(|(_, size, _)| size);
            let sum: f64 = snapshot.sums.iter().map(|(_, sums)| sums.young.bytes.value).sum();
            prop_assert_eq!(sum, young.sum::<u64>() as f64);
            peak = peak.max(bytes as f64);
        }
        prop_assert_eq!(replayed.peak.bytes.value, peak);
    }

    #[test]
    fn growth_is_per_stack_additive_and_never_negative(
        acts in prop::collection::vec(act(), 1..120), a in 0.0..1.0f64, b in 0.0..1.0f64
    ) {
        let (file, truth) = record(&acts);
        let last = (truth.len() - 1) as f64;
        let (a, b) = ((a.min(b) * last) as u64, (a.max(b) * last) as u64);
        let comparison = growth(&file, &at(a), &at(b));
        let retained = |stack: Option<u64>| {
            let blocks = truth[b as usize].values();
            let grown = blocks.filter(|(born, _, of)| *born > a && stack.is_none_or(|stack| stack == *of));
            grown.map(|(_, size, _)| *size as f64).sum::<f64>()
        };
        prop_assert_eq!(comparison.growth.retained.bytes.value, retained(None));
        let stacks = &comparison.growth.stacks;
        prop_assert_eq!(stacks.iter().map(|stack| stack.retained.bytes.value).sum::<f64>(), retained(None));
        let net = comparison.after.live.value - comparison.before.live.value;
        let live = |at: u64| truth[at as usize].values().map(|(_, size, _)| *size as f64).sum::<f64>();
        prop_assert_eq!(net, live(b) - live(a));
        for grown in stacks {
            prop_assert!(grown.retained.bytes.value >= 0.0 && grown.retained.bytes.value >= grown.net.value);
            let leaf = comparison.tree.frames(grown.node).next().unwrap();
            let name = &comparison.tree.symbols.get(leaf.symbol).unwrap().function;
            let stack = (1..6).find(|stack| **name == format!("server!{:#x}", 0xff + stack)).unwrap();
            prop_assert_eq!(grown.retained.bytes.value, retained(Some(stack)));
        }
        let pruned = comparison.growth.prune(&comparison.tree, 0.3);
        prop_assert_eq!(pruned.branches.iter().map(|branch| branch.value).sum::<f64>(), retained(None));
    }

    #[test]
    fn figures_are_of_what_happened_in_the_span(
        acts in prop::collection::vec(act(), 1..120), a in 0.0..1.0f64, b in 0.0..1.0f64
    ) {
        let (file, truth) = record(&acts);
        let last = (truth.len() - 1) as f64;
        let (a, b) = ((a.min(b) * last) as u64, (a.max(b) * last) as u64);
        let after = open(&file, &at(b));
        let before = after.moved(&at(a)).unwrap();
        let mut comparison = compare(&before, &after, &Lookup::default(), |_| {}).unwrap();
        let all = FiguresByStack::of(&mut comparison, &before, &after, &Lookup::default(), |_| {}).unwrap();
        let mut sum = Figures::default();
        all.iter().for_each(|(_, _, figures)| sum += figures);
        let size = |(_, size, _): &(u64, u64, u64)| *size as f64;
        let born = |at: u64| truth[at as usize].values().filter(move |(born, ..)| *born == at).map(size);
        let allocated: f64 = (a + 1..=b).flat_map(born).sum();
        let live = |at: u64| truth[at as usize].values().map(size).sum::<f64>();
        prop_assert_eq!(sum.flow.allocated.bytes.value, allocated);
        prop_assert_eq!(sum.freed().bytes.value, live(a) + allocated - live(b));
        prop_assert_eq!(sum.standing.cells.net(Meaning::Matched).value, live(b) - live(a));
        // Nanoseconds are less than the settle time: what is allocated and freed in the span dies young.
        prop_assert_eq!(sum.flow.temporary.value, allocated - comparison.growth.retained.bytes.value);
        prop_assert_eq!(sum.standing.peak.value, comparison.peak.bytes.value);
        let largest = truth[b as usize].values().map(|(_, size, _)| *size).max().unwrap_or(0);
        prop_assert_eq!(sum.standing.ages.largest, largest);
        let ages: f64 = truth[b as usize].values().map(|(born, size, _)| (b - born) as f64 * *size as f64).sum();
        prop_assert!((sum.standing.ages.sum * 1e9 - ages).abs() <= live(b) * 1.0001, "{} {ages}", sum.standing.ages.sum * 1e9);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, cut in 0..2000usize) {
        let mut file = sampled(1, 3);
        file.truncate(cut);
        file.extend_from_slice(&bytes);
        prop_assert!(everything(&file).is_none_or(|text| !text.is_empty()));
    }
}

/// All texts of a file; `None` where it cannot be read.
fn everything(bytes: &[u8]) -> Option<String> {
    let after = Input::find(Profile::in_memory(Path::new("cut.prof"), bytes), &At::End).ok()?;
    let before = after.moved(&At::Start).ok()?;
    let lookup = Lookup::default();
    let mut comparison = compare(&before, &after, &lookup, |_| {}).ok()?;
    let mut names = comparison.tree.symbols.display(Style::Short);
    let rows = Rows { by: By::Function, sort: Column::Allocated, columns: Column::value_variants().to_vec() };
    let choice = Choice { rows: Some(rows), ..Choice::default() };
    let style = (&mut names, Style::Short);
    let chosen = choice.apply(&mut comparison, style, [&before, &after], &lookup, |_| {}).ok()?;
    let mut out = Vec::new();
    table::write(&comparison, &names, &chosen, table::Extent { width: 100, top: 20 }, &mut out).ok()?;
    let pruned = comparison.growth.prune(&comparison.tree, 0.0);
    folded::write(&comparison.tree, &pruned, &names, &mut out).ok()?;
    serde_json::to_writer(&mut out, &json::Diff::new(&comparison, &names, &chosen)).ok()?;
    timeline_svg::write(&draw(&before, &after).ok()?, &mut out).ok()?;
    String::from_utf8(out).ok()
}

#[test]
fn every_truncation_point_gives_a_true_report_or_a_plain_refusal() {
    for whole in [every(1, 4), sampled(1, 4)] {
        let mut last = 0.0;
        for len in 0..=whole.len() {
            let found = Input::find(Profile::in_memory(Path::new("cut.prof"), &whole[..len]), &At::End);
            let Ok(after) = found else {
                assert!(len < 300, "{len} bytes are refused: {:?}", found.err());
                continue;
            };
            let comparison = growth(&whole[..len], &At::Start, &At::End);
            if !after.survey.is_complete() {
                let is_said =
                    comparison.warnings.iter().any(|warning| warning.contains("first complete round"));
                assert!(is_said || comparison.growth.stacks.is_empty(), "{len} bytes");
                continue;
            }
            // What was live at the same instant, from the whole file.
            let truth = growth(&whole, &At::Start, &At::Time(Nanos(after.survey.end().0 + 500_000_000)));
            assert_eq!(comparison.growth.retained, truth.growth.retained, "{len} bytes");
            assert!(comparison.after.at.0 >= last);
            last = comparison.after.at.0;
            let is_cut = after.survey.damage.is_some();
            assert_eq!(
                comparison.warnings.iter().any(|warning| warning.contains("what precedes it")),
                is_cut
            );
            assert!(everything(&whole[..len]).is_some());
        }
    }
}

#[test]
fn threads_with_one_stack_are_one_and_have_no_common_name() {
    let mut file = File::new(1);
    file.preamble("every");
    let (mut main, mut worker) = (Log::new(0), Log::new(1));
    main.alloc(0x10, 1, 5, &[0x40_0010]).alloc(0x20, 2, 7, &[0x40_0020]);
    worker.alloc(0x30, 3, 6, &[0x40_0010]);
    file.events(9, &mut main).events(9, &mut worker).complete(9);
    let comparison = growth(&file.0, &At::Start, &At::End);
    let stacks: Vec<_> = comparison
        .growth
        .stacks
        .iter()
        .map(|stack| (stack.retained.bytes.value, stack.thread.as_deref()))
        .collect();
    assert_eq!(stacks, [(11.0, None), (7.0, Some("main"))]);
}

#[test]
fn the_tracers_own_frames_do_not_show() {
    let mut file = File::new(1);
    file.preamble("every");
    file.records(
        1,
        &[prof::Record::Module {
            id: prof::ModuleId(7),
            generation: prof::Generation(0),
            bias: 0x10_0000,
            identity: prof::Identity::Unknown,
            path: "/opt/lib/libtrace.so",
            ranges: vec![(0x10_0000, 0x1000)],
        }],
    );
    let mut log = Log::new(0);
    log.alloc(0x10, 2, 5, &[0x10_0010, 0x40_0010, prof::TRUNCATED]);
    log.alloc(0x20, 3, 4, &[0x6000_0000, 0x40_0010]);
    file.events(9, &mut log).complete(9);
    let comparison = growth(&file.0, &At::Start, &At::End);
    let names = comparison.tree.symbols.display(Style::Short);
    let stacks: Vec<String> = comparison
        .growth
        .stacks
        .iter()
        .map(|stack| folded::names_of(&comparison.tree, &names, stack.node).join(";"))
        .collect();
    assert_eq!(stacks, ["[truncated];server!0xf", "server!0xf;[unknown] 0x5fffffff"]);
}

#[test]
fn a_stream_is_of_one_thread_after_the_other() {
    let mut file = File::new(1);
    let mut log = Log::new(0);
    log.alloc(0x10, 1, 5, &[0x40_0010]).thread_end(2);
    log.thread(8, 4800, 3, "second").alloc(0x20, 4, 6, &[0x40_0020]).free(0x10, 5);
    file.events(9, &mut log).complete(9);
    let comparison = growth(&file.0, &At::Start, &At::End);
    let threads: Vec<_> = comparison.growth.stacks.iter().map(|stack| stack.thread.as_deref()).collect();
    assert_eq!(threads, [Some("second")]);
    let profile = Profile::in_memory(Path::new("run.prof"), file.0);
    let census = Census::take(&profile, &profile.survey().unwrap()).unwrap();
    let ends: Vec<_> = census.threads.iter().map(|thread| (&*thread.name, thread.tid, thread.end)).collect();
    assert_eq!(ends, [("main", 4711, Some(Nanos(2))), ("second", 4800, None)]);
    assert_eq!(census.events, 3);
}
