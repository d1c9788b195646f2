//! Processes that were forked: their past is in their parents' files.

use crate::dsl::Dir;
use crate::synthetic::{File, Log, SECOND};
use prof::{Nanos, NodeId, Record, ThreadIndex};
use serde_json::Value;

const LEAK: [u64; 2] = [0x40_0110, 0x40_0100];
const OTHER: [u64; 2] = [0x40_0210, 0x40_0200];

fn fork<'a>(time: u64, run: u8, path: &'a str, bytes: usize) -> Record<'a> {
    Record::Fork { time: Nanos(time), run: [run; 16], path, bytes: bytes as u64 }
}

/// A parent that is forked at 10 s; its child, forked at 20 s; and that one's child, until 30 s. Every file but the
/// parent's begins with events that were on their way at the fork.
fn family() -> Dir {
    let dir = Dir::new();
    let mut parent = File::new(1);
    let mut log = Log::new(0);
    parent.preamble("every");
    log.alloc(0x1000, SECOND, 100, &LEAK).alloc(0x2000, 2 * SECOND, 200, &LEAK);
    parent.events(3 * SECOND, &mut log).complete(3 * SECOND);
    let written = parent.0.len();
    log.alloc(0x3000, 4 * SECOND, 400, &OTHER).free(0x1000, 5 * SECOND);

    let mut child = File::new(2);
    let mut own = Log::new(1);
    child.preamble("every").records(10 * SECOND, &[fork(10 * SECOND, 1, "/elsewhere/parent.prof", written)]);
    let mut on_its_way = std::mem::replace(&mut log, Log::new(0));
    child.events(10 * SECOND, &mut on_its_way).complete(10 * SECOND);
    own.alloc(0x1000, 11 * SECOND, 1000, &LEAK).free(0x2000, 12 * SECOND);
    child.events(15 * SECOND, &mut own).complete(15 * SECOND);
    let childs = child.0.len();
    own.alloc(0x4000, 16 * SECOND, 2000, &LEAK);

    let mut grandchild = File::new(3);
    grandchild
        .preamble("every")
        .records(20 * SECOND, &[fork(20 * SECOND, 2, "/elsewhere/child.prof", childs)]);
    let mut last = Log::new(2);
    grandchild.events(20 * SECOND, &mut own).complete(20 * SECOND);
    last.free(0x1000, 21 * SECOND).free(0x3000, 22 * SECOND).alloc(0x5000, 23 * SECOND, 4000, &OTHER);
    grandchild.events(30 * SECOND, &mut last).complete(30 * SECOND);

    // The parent goes on, in ways that are not the child's.
    on_its_way.free(0x2000, 11 * SECOND).alloc(0x2000, 12 * SECOND, 7, &LEAK);
    parent.complete(14 * SECOND);
    dir.file("parent.prof", &parent.0).file("child.prof", &child.0).file("grandchild.prof", &grandchild.0);
    dir
}

/// Live at the start, live at the end, retained.
fn amounts(dir: &Dir, file: &str) -> (i64, i64, i64) {
    let outcome = dir.run(&format!("diff {file}@start {file} --json"));
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let diff: Value = serde_json::from_str(&outcome.out).expect("JSON");
    let of = |value: &Value| value.as_i64().expect("an integer");
    (of(&diff["before"]["live_bytes"]), of(&diff["after"]["live_bytes"]), of(&diff["retained_bytes"]))
}

#[test]
fn a_child_has_what_its_parents_had() {
    let dir = family();
    // 0x2000 and 0x3000; then 0x1000 and without 0x2000.
    assert_eq!(amounts(&dir, "child.prof"), (600, 1400, 1000));
    // With 0x4000; then without 0x1000 and 0x3000, and with 0x5000.
    assert_eq!(amounts(&dir, "grandchild.prof"), (3400, 6000, 4000));
    let report = dir.run("report grandchild.prof --json");
    let report: Value = serde_json::from_str(&report.out).expect("JSON");
    // Times and sums count from the fork.
    assert_eq!((&report["span"]["from_s"], &report["span"]["to_s"]), (&0.5.into(), &10.5.into()));
    let path = dir.path("child.prof");
    std::fs::rename(&path, dir.path("child.1.prof")).expect("a renamed file");
    dir.file("child.prof", &crate::synthetic::every(9, 2));
    assert_eq!(amounts(&dir, "grandchild.prof"), (3400, 6000, 4000));
}

#[test]
fn a_past_that_is_missing_is_said_to_be() {
    let dir = family();
    let warned = |file: &str, words: &str| {
        let outcome = dir.run(&format!("report {file}"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert!(outcome.err.contains("inherited when it was forked is not known"), "{}", outcome.err);
        assert!(outcome.err.contains(words), "{}", outcome.err);
    };
    let parent = std::fs::read(dir.path("parent.prof")).expect("a file");
    // Without the last block, and without the end of the one before it.
    dir.file("parent.prof", &parent[..parent.len() - 40]);
    warned("child.prof", "sound bytes of");
    warned("grandchild.prof", "sound bytes of");
    std::fs::remove_file(dir.path("parent.prof")).expect("a removed file");
    warned("child.prof", "no file at /elsewhere/parent.prof is of its parent");
    assert_eq!(amounts(&dir, "child.prof"), (0, 1000, 1000));
    let info = dir.run("info child.prof");
    assert!(info.out.contains("forked     from run 0101"), "{}", info.out);
    assert!(info.out.contains("events     2 in"), "its own, of which only two can be read: {}", info.out);
}

#[test]
fn samples_are_inherited_in_the_childs_own_file() {
    let dir = Dir::new();
    let mut file = File::new(5);
    let sample = |time, size| Record::Sample {
        node: NodeId(1),
        thread: ThreadIndex(0),
        time: Nanos(time),
        size,
        interval: 1,
    };
    file.preamble("65536").records(
        10 * SECOND,
        &[
            Record::Node { parent: NodeId::ROOT, address: 0x40_0100 },
            sample(SECOND, 100),
            sample(2 * SECOND, 200),
            fork(10 * SECOND, 4, "/elsewhere/parent.prof", 0),
            Record::Complete { time: Nanos(10 * SECOND) },
        ],
    );
    let freed = Record::Freed { sample: 1, time: Nanos(11 * SECOND) };
    file.records(20 * SECOND, &[sample(12 * SECOND, 400), freed]).complete(20 * SECOND);
    dir.file("run.prof", &file.0);
    assert_eq!(amounts(&dir, "run.prof"), (300, 600, 400));
    let outcome = dir.run("report run.prof");
    assert!(outcome.out.contains("allocated  400 B in 1 blocks since the start"), "{}", outcome.out);
    assert!(!outcome.err.contains("inherited"), "{}", outcome.err);
}
