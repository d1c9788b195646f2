//! Limits for CI, of recordings of which the truth is known to the byte.

use crate::dsl::{Dir, Outcome};
use crate::synthetic;
use serde_json::json;

/// What `synthetic::every` has live after 20 seconds: the leak, the cache and the buffer.
const LIVE: u64 = 20_000 + 5 * 13107 + 4115;

/// The exit code; 1 says that a limit is exceeded.
#[track_caller]
fn exits(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code, Some(code), "{}{}", outcome.out, outcome.err);
}

#[test]
fn growth_is_exceeded_from_the_byte_above_the_limit_on() {
    let dir = Dir::recorded();
    // 10,000 bytes of the leak, and the buffer is 10 bytes larger than the one that it replaces.
    exits(&dir.run("check b.prof --max-growth 10010 --after 10.5s"), 0);
    let failed = dir.run("check b.prof --max-growth 10009 --after 10.5s");
    exits(&failed, 1);
    let failed = failed.prints(&[
        "b.prof: server --port 8500\nfrom 10.5 s to 20.5 s; every allocation recorded; no events lost\n",
        "exceeded   net growth +9.78 KiB (exact), limit 9.77 KiB\n",
        "libplugin.so!0x30f\n",
        "< libplugin.so!0x2ff < server!0x3ff",
    ]);
    let (leak, buffer) = (failed.out.find("libplugin.so!0x30f"), failed.out.find("server!0x10f"));
    assert!(leak < buffer, "the stack that grew most comes first: {}", failed.out);
    let passed =
        dir.run("check b.prof --max-growth 10M").prints(&["passed     net growth +87.5 KiB (exact)"]);
    assert!(!passed.out.contains("FUNCTION"), "{}", passed.out);
    exits(&dir.run(&format!("check b.prof --max-growth {LIVE}")), 0);
    exits(&dir.run(&format!("check b.prof --max-growth {}", LIVE - 1)), 1);
    exits(&dir.run("check b.prof@10.5s --max-growth 0 --after 10.5s"), 0);
}

#[test]
fn live_bytes_are_limited_too() {
    let dir = Dir::recorded();
    exits(&dir.run(&format!("check b.prof --max-live {LIVE}")), 0);
    let failed = dir.run(&format!("check b.prof --max-live {} --max-growth 1G", LIVE - 1));
    exits(&failed, 1);
    let failed =
        failed.prints(&["passed     net growth", "exceeded   live 87.5 KiB (exact), limit 87.5 KiB\n"]);
    let (cache, leak) = (failed.out.find("server!0x20f"), failed.out.find("libplugin.so!0x30f"));
    assert!(cache.is_some() && cache < leak, "the stack with most comes first: {}", failed.out);
}

#[test]
fn suppressed_stacks_do_not_count() {
    let dir = Dir::recorded();
    dir.file("known.supp", b"leak:libplugin.so\n");
    let check = format!("check b.prof --suppressions known.supp --max-growth {}", LIVE - 20_000);
    let passed = dir.run(&check);
    exits(&passed, 0);
    passed.prints(&["suppressed 19.5 KiB in 1 stack: known.supp (libplugin.so 19.5 KiB)\n"]);
    let failed = dir.run("check b.prof --suppressions known.supp --max-growth 100");
    exits(&failed, 1);
    assert!(!failed.out.contains("libplugin.so!"), "{}", failed.out);
    let live = format!("check b.prof --suppressions known.supp --max-live {}", LIVE - 20_001);
    exits(&dir.run(&live), 1);
}

#[test]
fn a_rate_is_the_slope_of_the_live_heap() {
    let dir = Dir::recorded();
    exits(&dir.run("check b.prof --max-growth 2K/s --after 5.5s"), 0);
    let failed = dir.run("check b.prof --max-growth 500/s --after 5.5s --json");
    exits(&failed, 1);
    let check = &failed.json()["checks"][0];
    assert_eq!((&check["what"], &check["limit"]), (&json!("growth_rate"), &json!(500.0)));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!((number(&check["value"]) - 1000.0).abs() < 50.0, "{check}");
    assert!(number(&check["ci95"][0]) > 500.0 && number(&check["ci95"][1]) > 1000.0, "{check}");
    let listed = dir.run("check b.prof --max-growth 1M/h");
    exits(&listed, 1);
    // What has stopped growing is not listed, although it grew by more.
    let listed = listed.prints(&["libplugin.so!0x30f"]);
    assert!(!listed.out.contains("server!0x20f") && !listed.out.contains("server!0x10f"), "{}", listed.out);
    dir.file("known.supp", b"leak:libplugin.so\n");
    exits(&dir.run("check b.prof --max-growth 500/s --after 5.5s --suppressions known.supp"), 0);
}

#[test]
fn samples_exceed_a_limit_only_where_their_interval_does() {
    let dir = Dir::new();
    dir.file("run.prof", &synthetic::sampled(1, 10));
    let json = dir.run("check run.prof --max-growth 1G --json").json();
    let check = &json["checks"][0];
    let (low, value) = (check["ci95"][0].as_f64().unwrap(), check["value"].as_f64().unwrap());
    assert!(low < value * 0.9, "{check}");
    let uncertain = dir.run(&format!("check run.prof --max-growth {:.0}", (low + value) / 2.0));
    exits(&uncertain, 0);
    uncertain.prints(&["passed     net growth +5.82 MiB (95 % interval ", ": more, but not for certain\n"]);
    let certain = dir.run(&format!("check run.prof --max-growth {:.0}", low - 1.0));
    exits(&certain, 1);
    certain.prints(&["exceeded   net growth +5.82 MiB (95 % interval "]);
}

#[test]
fn json_has_the_checks_and_the_stacks() {
    let dir = Dir::recorded();
    let failed = dir.run("check b.prof --max-growth 9K --max-live 1M --after 10.5s --json");
    exits(&failed, 1);
    let json = failed.json();
    assert_eq!((&json["version"], &json["passed"]), (&json!(1), &json!(false)));
    assert_eq!(json["span"], json!({"from_s": 10.5, "to_s": 20.5}));
    let check = |what, value: u64, limit, exceeded| {
        let value = value as f64;
        json!({"what": what, "value": value, "ci95": [value, value], "limit": limit, "exceeded": exceeded})
    };
    let checks = [check("growth", 10_010, 9216.0, true), check("live", LIVE, 1_048_576.0, false)];
    assert_eq!(json["checks"], json!(checks));
    assert_eq!(json["rows"][0]["net_bytes"], 10_000);
    assert_eq!(json["rows"][0]["frames"][0]["name"], "libplugin.so!0x30f");
}

#[test]
fn what_cannot_be_checked_exits_with_2() {
    let dir = Dir::recorded();
    let mut file = synthetic::File::new(1);
    file.preamble("every");
    dir.file("begun.prof", &file.0);
    dir.run("check begun.prof --max-growth 1M")
        .fails("analyzer: failed to check begun.prof: the file ends before its first complete round");
    dir.run("check none.prof --max-growth 1M")
        .fails("analyzer: failed to read none.prof: No such file or directory (os error 2)");
    dir.run("check b.prof --max-growth lots")
        .fails("analyzer: failed to read --max-growth 'lots': not bytes such as 10M, or a rate such as 1M/h");
    dir.run("check b.prof --max-live 1M/h")
        .fails("analyzer: failed to read --max-live '1M/h': not bytes such as 10M");
    dir.run("check b.prof --max-growth 1M --after 30s").fails(
        "analyzer: failed to find the instant in b.prof: 30.000 s is after the file's end at 20.500 s",
    );
    dir.run("check b.prof@5s --max-growth 1M --after 10s")
        .fails("analyzer: failed to compare: b.prof (10.0 s) is later than b.prof (5.0 s), of one process");
    let limitless = dir.run("check b.prof");
    exits(&limitless, 2);
    assert_eq!(limitless.err.lines().count(), 1, "{}", limitless.err);
}
