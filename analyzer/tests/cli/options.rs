//! Which stacks are shown, and in which rows, with every figure of which the truth is known.

use crate::dsl::Dir;
use crate::synthetic;
use serde_json::{Value, json};

/// `synthetic::every`: 10 seconds to 20 seconds.
const LEAK: &str = "libplugin.so!0x30f";
const TEMPORARY: &str = "libplugin.so!0x2ff";
const BUFFER: &str = "server!0x10f";
const CACHE: &str = "server!0x20f";
const MIB: u64 = 1 << 20;

#[track_caller]
fn row<'a>(json: &'a Value, name: &str) -> &'a Value {
    let rows = json["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name} in {rows:#?}"))
}

#[track_caller]
fn has(row: &Value, expected: Value) {
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&row[key], value, "{key} of {row:#}");
    }
}

#[test]
fn rows_by_function_have_every_figure() {
    let dir = Dir::recorded();
    let json = dir.run("diff a.prof b.prof --by function --sort allocated --json").json();
    assert_eq!(json["by"], "function");
    let names: Vec<_> = json["rows"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [TEMPORARY, BUFFER, LEAK]);
    has(
        row(&json, LEAK),
        json!({
            "module": "libplugin.so", "thread": "worker", "stacks": 1,
            "retained_bytes": 10_000, "retained_count": 100, "retained_ci95": [10_000, 10_000],
            "net_bytes": 10_000, "net_ci95": [10_000, 10_000], "live_bytes": 20_000,
            "allocated_bytes": 10_000, "allocated_count": 100, "allocated_ci95": [10_000, 10_000],
            "freed_bytes": 0, "freed_count": 0, "temporary_bytes": 0, "temporary_share": 0.0,
            "largest_block_bytes": 100,
        }),
    );
    has(
        row(&json, TEMPORARY),
        json!({
            "retained_bytes": 0, "net_bytes": 0, "live_bytes": 0, "allocated_bytes": 100 * MIB,
            "allocated_count": 100, "freed_bytes": 100 * MIB, "freed_count": 100, "peak_bytes": MIB,
            "temporary_bytes": 100 * MIB, "temporary_share": 1.0, "temporary_share_ci95": [1.0, 1.0],
            "mean_age_s": null, "largest_block_bytes": 0,
        }),
    );
    has(
        row(&json, BUFFER),
        json!({
            "retained_bytes": 4096 + 19, "net_bytes": 10, "thread": "main", "largest_block_bytes": 4096 + 19,
            "allocated_count": 10, "freed_count": 10, "freed_bytes": (9..19).map(|i| 4096 + i).sum::<u64>(),
        }),
    );
}

#[test]
fn ages_are_those_of_what_is_live() {
    let dir = Dir::recorded();
    let json = dir.run("report b.prof --by function --json").json();
    let age = |name| row(&json, name)["mean_age_s"].as_f64().unwrap();
    // Born at 0.5, 1.5 … 4.5 s, and 0.5 … 19.5 s; the end is at 20 s.
    assert!((age(CACHE) - 17.5).abs() < 0.01, "{}", age(CACHE));
    assert!((age(LEAK) - 10.0).abs() < 0.01, "{}", age(LEAK));
    assert!((age(BUFFER) - 0.5).abs() < 0.01, "{}", age(BUFFER));
    assert_eq!(row(&json, CACHE)["mean_age_ci95"][0], row(&json, CACHE)["mean_age_s"]);
    assert_eq!(row(&json, CACHE)["peak_bytes"], 5 * 13107);
}

#[test]
fn rows_by_library_and_thread_add_up() {
    let dir = Dir::recorded();
    let libraries = dir.run("report b.prof --by library --json").json();
    has(row(&libraries, "libplugin.so"), json!({"retained_bytes": 20_000, "stacks": 2, "thread": "worker"}));
    has(
        row(&libraries, "server"),
        json!({"retained_bytes": 5 * 13107 + 4115, "stacks": 2, "thread": "main"}),
    );
    let threads = dir.run("report b.prof --by thread --json").json();
    has(row(&threads, "worker"), json!({"retained_bytes": 20_000, "allocated_bytes": 200 * MIB + 20_000}));
    has(row(&threads, "main"), json!({"retained_bytes": 5 * 13107 + 4115}));
    for json in [libraries, threads] {
        let rows = json["rows"].as_array().unwrap();
        let sum: i64 = rows.iter().map(|row| row["retained_bytes"].as_i64().unwrap()).sum();
        assert_eq!(json["retained_bytes"], sum);
    }
}

#[test]
fn stacks_in_detail_are_those_that_grew_with_their_frames() {
    let dir = Dir::recorded();
    let json = dir.run("diff a.prof b.prof --by stack --json").json();
    let (stacks, rows) = (json["stacks"].as_array().unwrap(), json["rows"].as_array().unwrap());
    assert_eq!(rows.len(), stacks.len());
    for (stack, row) in stacks.iter().zip(rows) {
        assert_eq!((&stack["frames"], &stack["retained_bytes"]), (&row["frames"], &row["retained_bytes"]));
        assert_eq!(stack["thread"], row["thread"]);
    }
}

#[test]
fn sampled_figures_have_intervals_around_them() {
    let dir = Dir::new();
    dir.file("run.prof", &synthetic::sampled(1, 10));
    let json = dir.run("report run.prof --by function --sort allocated --json").json();
    let young = row(&json, "server!0x1ff");
    // 10 × 65536 bytes of which only sums are known, and 10 samples of 4096 bytes that stand for 514 KiB each.
    let allocated = young["allocated_bytes"].as_f64().unwrap();
    assert!((allocated - 10.0 * (65536.0 + 526_338.7)).abs() < 2.0, "{young:#}");
    let interval = |row: &Value, key: &str| {
        let ends = &row[key];
        (ends[0].as_f64().unwrap(), ends[1].as_f64().unwrap())
    };
    for (figure, ci95) in [
        ("retained_bytes", "retained_ci95"),
        ("net_bytes", "net_ci95"),
        ("live_bytes", "live_ci95"),
        ("allocated_bytes", "allocated_ci95"),
        ("freed_bytes", "freed_ci95"),
        ("peak_bytes", "peak_ci95"),
        ("temporary_share", "temporary_share_ci95"),
    ] {
        let (low, high) = interval(young, ci95);
        let value = young[figure].as_f64().unwrap();
        assert!(low <= value && value <= high && low < high, "{figure}: {value} in {low} … {high}");
    }
    let (low, high) = interval(row(&json, "libplugin.so!0x30f"), "mean_age_ci95");
    assert!(low < 4.5 && 4.5 < high && high < 6.5, "{low} … {high}");
    // Of threads it is not known what died before it was written.
    let json = dir.run("report run.prof --by thread --json").json();
    has(row(&json, "worker"), json!({"allocated_bytes": null, "freed_bytes": null, "temporary_share": null}));
    let live = row(&json, "worker")["live_bytes"].as_i64();
    assert_eq!(live, json["live_bytes"]["to"].as_i64());
    dir.run("report run.prof --by thread --columns retained,allocated").prints(&["worker", "–"]);
}

#[test]
fn of_two_processes_flows_are_not_known() {
    let dir = Dir::new();
    dir.file("a.prof", &synthetic::every(1, 10)).file("b.prof", &synthetic::every(2, 20));
    let json = dir.run("diff a.prof b.prof --by function --json").json();
    assert_eq!(json["meaning"], "aggregated");
    has(
        row(&json, LEAK),
        json!({"retained_bytes": 10_000, "net_bytes": 10_000, "live_bytes": 20_000, "allocated_bytes": null}),
    );
}

#[test]
fn tables_fit_their_width_and_say_what_they_are() {
    let dir = Dir::recorded();
    let out =
        dir.run("diff a.prof b.prof --by function").prints(&["  FUNCTION\n", "9.77 KiB", "ALLOCATED"]).out;
    let table = out.lines().skip(2).take_while(|line| !line.starts_with("warning"));
    assert!(table.into_iter().all(|line| line.chars().count() <= 100), "{out}");
    dir.run("report b.prof --by library").prints(&["Live heap by library", "LIBRARY", "libplugin.so\n"]);
    let wide = dir.run("diff a.prof b.prof --wide").prints(&["AT PEAK", "AGE", "LARGEST", "STACKS"]).out;
    assert!(
        wide.contains("\n              libplugin.so!0x30f < libplugin.so!0x2ff < server!0x3ff\n"),
        "{wide}"
    );
    dir.run("diff a.prof b.prof --columns largest,stacks --top 1").prints(&[
        "   LARGEST  STACKS  FUNCTION < CALLERS\n     100 B       1  libplugin.so!0x30f\n",
        "in 1 more row\n",
    ]);
}

#[test]
fn focus_and_ignore_look_at_every_frame() {
    let dir = Dir::recorded();
    let retained = |options: &str| {
        let json = dir.run(&format!("diff b.prof@start b.prof --json {options}")).json();
        let filter = &json["filter"];
        let sum = json["retained_bytes"].as_i64().unwrap() + filter["not_shown"]["bytes"].as_i64().unwrap();
        assert_eq!(sum, 20_000 + 5 * 13107 + 4115, "{options}: what is shown and what is not is all");
        json["retained_bytes"].as_i64().unwrap()
    };
    assert_eq!(retained("--focus plugin"), 20_000);
    assert_eq!(retained("--focus ^server!0x3ff$"), 20_000, "the outermost frame");
    assert_eq!(retained("--ignore plugin"), 5 * 13107 + 4115);
    assert_eq!(retained("--focus server!0xff --ignore server!0x2"), 4115);
    assert_eq!(retained("--focus no_such_function"), 0);
    dir.run("diff b.prof@start b.prof --focus plugin").prints(&[
        "Retained growth 19.5 KiB",
        "not shown  68.0 KiB in 2 stacks: --focus plugin\n",
        "100.0 %",
    ]);
    dir.run("report b.prof --ignore plugin")
        .prints(&["VERDICT    live-growth", "not shown  19.5 KiB in 1 stack: --ignore plugin\n"]);
    let folded = dir.run("export b.prof --format folded --ignore plugin");
    assert!(!folded.out.contains("plugin") && folded.out.lines().count() == 2, "{}", folded.out);
    assert!(folded.err.contains("not shown  19.5 KiB in 1 stack: --ignore plugin"), "{}", folded.err);
    dir.run("flamegraph b.prof --focus plugin").prints(&["Live 19.5 KiB", "not shown  68.0 KiB in 2 stacks"]);
}

#[test]
fn what_is_suppressed_is_said() {
    let dir = Dir::recorded();
    dir.file("known.supp", b"# known leaks\nleak:libplugin\nleak:^server!0x2*f$\nleak:never\n");
    let out = dir.run("diff b.prof@start b.prof --suppressions known.supp");
    let line = "suppressed 83.5 KiB in 2 stacks: known.supp (^server!0x2*f$ 64.0 KiB, libplugin 19.5 KiB)\n";
    out.prints(&[line, "Retained growth 4.02 KiB"]);
    let json = dir.run("report b.prof --suppressions known.supp --by library --json").json();
    has(
        &json["filter"],
        json!({
            "suppressions": "known.supp", "suppressed": {"bytes": 20_000 + 5 * 13107, "stacks": 2},
            "suppressed_by": [
                {"pattern": "libplugin", "bytes": 20_000, "stacks": 1},
                {"pattern": "^server!0x2*f$", "bytes": 5 * 13107, "stacks": 1},
            ],
        }),
    );
    assert_eq!(json["rows"].as_array().unwrap().len(), 1);
    dir.file("other.supp", b"leak:never\n");
    dir.run("diff a.prof b.prof --suppressions other.supp")
        .prints(&["suppressed 0 B in 0 stacks: other.supp\n"]);
}

#[test]
fn bad_expressions_and_files_are_refused_in_one_line() {
    let dir = Dir::recorded();
    dir.file("bad.supp", b"leak:fine\nrace:mutex\n");
    for command in
        ["diff a.prof b.prof", "report b.prof", "flamegraph b.prof", "export b.prof --format folded"]
    {
        dir.run(&format!("{command} --focus a(b"))
            .fails("analyzer: failed to read --focus 'a(b': unclosed group");
        dir.run(&format!("{command} --ignore *"))
            .fails("analyzer: failed to read --ignore '*': repetition operator missing expression");
        dir.run(&format!("{command} --suppressions none.supp"))
            .fails("analyzer: failed to read none.supp: No such file or directory (os error 2)");
        dir.run(&format!("{command} --suppressions bad.supp"))
            .fails("analyzer: failed to read bad.supp: line 2: 'race:mutex' is not leak:PATTERN");
    }
    let column = dir.run("diff a.prof b.prof --columns retained,size");
    assert_eq!((column.code, column.err.lines().count()), (Some(2), 1), "{}", column.err);
}
