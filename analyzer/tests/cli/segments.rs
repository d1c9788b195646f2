//! Files that go on from an earlier file of their process.

use crate::dsl::Dir;
use crate::synthetic::{File, SECOND, chain};
use prof::{Nanos, NodeId, Record, ThreadIndex};
use serde_json::Value;

/// What is said of the module that there is no file of.
const NAMELESS: &str = "no function names for";

const LEAK: [u64; 2] = [0x40_0100, 0x40_0110];
const OTHER: [u64; 2] = [0x40_0100, 0x40_0210];

/// At the stack `LEAK` (2) or `OTHER` (4); every allocation is a sample.
fn sample(node: u32, time: u64, size: u64) -> Record<'static> {
    let (node, thread) = (NodeId(node), ThreadIndex(0));
    Record::Sample { node, thread, time: Nanos(time), size, interval: 1 }
}

fn freed(sample: u64, time: u64) -> Record<'static> {
    Record::Freed { sample, time: Nanos(time) }
}

fn file(time: u64, checkpoint: &[Record]) -> File {
    let mut file = File::new(1);
    let mut records = chain(1, &LEAK);
    records.extend(chain(3, &OTHER));
    records.extend_from_slice(checkpoint);
    file.preamble("1").records(time, &records);
    file
}

fn segment(time: u64, number: u64, blocks: u64, bytes: u64) -> Record<'static> {
    Record::Segment { time: Nanos(time), number, path: "/data/run.1.prof", blocks, bytes }
}

/// Three segments of a process, from 0, 10 and 20 s to 30 s, and a copy of the first at 4 s.
fn dir() -> Dir {
    let dir = Dir::new();
    let mut first = file(0, &[]);
    first.records(4 * SECOND, &[sample(2, SECOND, 100), sample(2, 2 * SECOND, 200)]).complete(4 * SECOND);
    dir.file("a.prof", &first.0);
    first.records(10 * SECOND, &[freed(1, 5 * SECOND), sample(4, 6 * SECOND, 400)]).complete(10 * SECOND);
    dir.file("first.prof", &first.0);

    let live = [sample(2, 2 * SECOND, 200), sample(4, 6 * SECOND, 400), segment(10 * SECOND, 2, 3, 700)];
    let mut second = file(10 * SECOND, &live);
    second.complete(10 * SECOND);
    second.records(20 * SECOND, &[sample(2, 12 * SECOND, 800), freed(1, 13 * SECOND)]).complete(20 * SECOND);
    dir.file("second.prof", &second.0);

    let lost = Record::Lost { reason: prof::Lost::BackPressure, events: 7 };
    let live =
        [sample(4, 6 * SECOND, 400), sample(2, 12 * SECOND, 800), segment(20 * SECOND, 3, 4, 1500), lost];
    let mut third = file(20 * SECOND, &live);
    third.complete(20 * SECOND);
    third
        .records(30 * SECOND, &[sample(2, 21 * SECOND, 1600), freed(1, 22 * SECOND)])
        .records(30 * SECOND, &[Record::Folded { node: NodeId(2), blocks: 10.0, bytes: 1000.0 }])
        .complete(30 * SECOND);
    dir.file("third.prof", &third.0);
    dir
}

fn json(dir: &Dir, command: &str) -> Value {
    let outcome = dir.run(&format!("{command} --json"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    outcome.json()
}

/// Live at the first instant, at the second, retained growth.
fn amounts(diff: &Value) -> [i64; 3] {
    let of = |value: &Value| value.as_i64().expect("an integer");
    [of(&diff["before"]["live_bytes"]), of(&diff["after"]["live_bytes"]), of(&diff["retained_bytes"])]
}

#[test]
fn a_segment_alone_has_all_that_is_live() {
    let dir = dir();
    assert_eq!(amounts(&json(&dir, "diff second.prof@start second.prof")), [600, 1200, 800]);
    assert_eq!(amounts(&json(&dir, "diff third.prof@start third.prof")), [1200, 2400, 1600]);
    assert_eq!(amounts(&json(&dir, "diff third.prof@50% third.prof")), [2400, 2400, 0]);
}

#[test]
fn growth_is_matched_from_an_earlier_segment_to_a_later_one() {
    let dir = dir();
    let diff = json(&dir, "diff a.prof second.prof");
    assert_eq!((&diff["meaning"], amounts(&diff)), (&"matched".into(), [300, 1200, 1200]));
    let stacks: Vec<_> = diff["stacks"].as_array().unwrap().iter().collect();
    let of = |key: &str| stacks.iter().map(|stack| stack[key].as_i64().unwrap()).collect::<Vec<_>>();
    // The leak's other blocks were live before, and are not any more.
    assert_eq!((of("retained_bytes"), of("net_bytes")), (vec![800, 400], vec![500, 400]));
    // What was born in the first segment, before and after the instant, is told apart in the third.
    assert_eq!(amounts(&json(&dir, "diff a.prof third.prof")), [300, 2400, 2400]);
    assert_eq!(amounts(&json(&dir, "diff first.prof third.prof")), [600, 2400, 2400]);
    assert_eq!(amounts(&json(&dir, "diff first.prof@7s second.prof@15s")), [600, 1200, 800]);
    assert_eq!(amounts(&json(&dir, "diff first.prof second.prof@11s")), [600, 600, 0]);
    dir.run("diff third.prof a.prof").fails(
        "analyzer: failed to compare: third.prof (30.5 s) is later than a.prof (4.5 s), of one process",
    );
}

#[test]
fn a_report_says_that_its_file_begins_late() {
    let dir = dir();
    dir.run("report third.prof").warns(NAMELESS).prints(&[
        "span       20.5 s to 30.5 s",
        "file       complete up to 30.5 s, without an end: the process went on, or ended without closing it",
        "segment    3, which begins at 20.5 s with what was live",
        "before: 1.46 KiB in 4 blocks allocated; the file before: /data/run.1.prof",
        "allocated  4.00 KiB in 15 blocks since the start",
        "7 events lost",
    ]);
    let report = json(&dir, "report third.prof");
    let segment = &report["segment"];
    assert_eq!((&segment["number"], &segment["from_s"]), (&3.into(), &20.5.into()));
    assert_eq!(
        (&segment["allocated_before_bytes"], &report["allocated_bytes"]),
        (&1500.into(), &4100.into())
    );
    assert_eq!((&report["complete_to_s"], &report["ended"]), (&30.5.into(), &Value::Null));
    assert_eq!(json(&dir, "report first.prof")["segment"], Value::Null);
    dir.run("info third.prof").ok().prints(&["segment    3, from 20.5 s on; before: /data/run.1.prof"]);
}

#[test]
fn instants_before_a_segment_are_in_the_file_before() {
    let dir = dir();
    dir.run("diff third.prof@10s third.prof").fails(
        "analyzer: failed to find the instant in third.prof: 10.000 s is before the file's beginning at 20.500 s; \
         the file before was /data/run.1.prof",
    );
    let allocated = dir.run("flamegraph third.prof --value allocated -o f.svg").err;
    let expected = "third.prof: segment 3 begins at 20.5 s; what was allocated before is not in it";
    assert!(allocated.contains(expected), "{allocated}");
    dir.run("flamegraph third.prof -o f.svg").warns(NAMELESS);
}

/// What a forked child wrote: its time counts from the fork, in all its files.
#[test]
fn a_forked_childs_segments_count_from_its_fork() {
    let dir = Dir::new();
    let fork = Record::Fork { time: Nanos(10 * SECOND), run: [7; 16], path: "/data/parent.prof", bytes: 0 };
    let mut child = file(20 * SECOND, &[sample(2, SECOND, 100), fork, segment(20 * SECOND, 2, 0, 0)]);
    child.complete(20 * SECOND).records(25 * SECOND, &[sample(2, 21 * SECOND, 50)]).complete(25 * SECOND);
    dir.file("child.prof", &child.0);
    let diff = json(&dir, "diff child.prof@start child.prof");
    assert_eq!((amounts(&diff), &diff["before"]["at_s"]), ([100, 150, 50], &10.5.into()));
    dir.run("report child.prof").warns(NAMELESS).prints(&["allocated  50 B in 1 blocks since the start"]);
}
