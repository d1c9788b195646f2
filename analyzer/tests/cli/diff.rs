//! Retained growth, in every format.

use crate::dsl::Dir;
use crate::synthetic;

#[test]
fn growth_is_what_was_allocated_after_a_and_is_live_at_b() {
    let outcome = Dir::recorded().run("diff a.prof b.prof --json");
    let json = outcome.warns("no function names").json();
    assert_eq!(json["meaning"], "matched");
    let stacks = json["stacks"].as_array().unwrap();
    // 10 seconds of 10 × 100 bytes, and the buffer's last copy, which replaced one of 4096 + 9 bytes.
    assert_eq!(stacks[0]["retained_bytes"], 10_000);
    assert_eq!(stacks[0]["retained_count"], 100);
    assert_eq!(stacks[0]["ci95"], serde_json::json!([10_000, 10_000]));
    assert_eq!(stacks[0]["thread"], "worker");
    assert_eq!(stacks[0]["frames"][0]["name"], "libplugin.so!0x30f");
    assert_eq!(stacks[1]["retained_bytes"], 4096 + 19);
    assert_eq!(stacks[1]["net_bytes"], 10);
    assert_eq!(stacks.len(), 2);
    assert_eq!(json["retained_bytes"], 14_115);
    assert_eq!(json["net_bytes"], 10_010);
    assert_eq!(json["before"]["at_s"], 10.5);
    assert_eq!(json["after"]["at_s"], 20.5);
}

#[test]
fn a_copy_and_an_instant_say_the_same() {
    let dir = Dir::recorded();
    let copy = dir.run("diff a.prof b.prof --format folded").out;
    assert_eq!(dir.run("diff b.prof@10.5s b.prof --format folded").out, copy);
    assert_eq!(dir.run("diff b.prof@50% b.prof@end --format folded").out, copy);
    assert_eq!(dir.run("diff b.prof@model_v2 b.prof --format folded").code, Some(2));
    assert!(copy.starts_with("server!0x3ff;libplugin.so!0x2ff;libplugin.so!0x30f 10000\n"), "{copy}");
}

#[test]
fn json_and_svg_at_once() {
    let dir = Dir::recorded();
    dir.run("diff a.prof b.prof --json -o growth.svg").warns("no function names").json();
    let svg = dir.read("growth.svg");
    assert!(svg.contains("Retained growth 13.8 KiB: a.prof (10.5 s) to b.prof"), "{svg}");
    assert!(svg.contains("matched: bytes allocated after the first instant and live at the second; every"));
    assert!(svg.contains("libplugin.so!0x30f (10,000 bytes, 70.85%)"));
}

#[test]
fn nothing_grown_is_said_and_drawn() {
    let dir = Dir::recorded();
    dir.run("diff a.prof a.prof").ok().prints(&["Nothing grew."]);
    dir.run("diff a.prof a.prof --format svg").ok().prints(&["</svg>", "nothing to draw"]);
}

#[test]
fn processes_are_compared_by_symbol() {
    let dir = Dir::new();
    dir.file("a.prof", &synthetic::every(1, 5)).file("b.prof", &synthetic::every(2, 15));
    let json = dir.run("diff a.prof b.prof --json").json();
    assert_eq!(json["meaning"], "aggregated");
    assert_eq!(json["stacks"][0]["retained_bytes"], 10_000);
    assert_eq!(json["stacks"].as_array().unwrap().len(), 2);
    let back = dir.run("diff b.prof a.prof --json").json();
    assert_eq!(back["retained_bytes"], 0);
    assert_eq!(back["net_bytes"], -10_010);
}

#[test]
fn lost_events_are_said() {
    let dir = Dir::new();
    dir.file("run.prof", &synthetic::sampled(1, 10));
    dir.run("diff run.prof@start run.prof").prints(&["every 512 KiB; 7 events lost"]);
    dir.run("report run.prof").prints(&["7 events lost"]);
    assert_eq!(dir.run("diff run.prof@start run.prof --json").json()["lost_events"], 7);
    assert_eq!(dir.run("diff run.prof@start run.prof@20% --json").json()["lost_events"], 0);
}

#[test]
fn flamegraphs_of_one_instant() {
    let dir = Dir::recorded();
    dir.run("flamegraph b.prof").prints(&["Live 87.5 KiB: b.prof (20.5 s)", "every allocation recorded"]);
    dir.run("flamegraph b.prof@peak").prints(&["Live 1.09 MiB: b.prof (20.0 s)"]);
    dir.run("flamegraph b.prof --value peak").prints(&["Live at the peak 1.09 MiB: b.prof (20.0 s)"]);
    dir.run("flamegraph b.prof --value allocated -o all.svg");
    assert!(dir.read("all.svg").contains("Allocated 200 MiB: b.prof (20.5 s)"));
}
