//! What is refused, and in which words.

use crate::dsl::Dir;
use crate::synthetic;

#[test]
fn files_that_are_no_recordings() {
    let dir = Dir::recorded();
    let mut newer = synthetic::every(1, 1);
    newer[8] = 9;
    dir.file("empty.prof", b"").file("foreign.prof", b"\x7fELF and so on, for longer than a header is");
    dir.file("newer.prof", &newer).file("head.prof", &newer[..20]);
    std::fs::create_dir(dir.path("dir.prof")).unwrap();
    let cases = [
        ("empty.prof", "the file is empty"),
        ("foreign.prof", "not a profile: bad magic at offset 0x0"),
        ("newer.prof", "format version 9 at offset 0x8 is newer than this analyzer's 1"),
        ("head.prof", "block at offset 0x0: the file ends after 20 of its bytes"),
        ("missing.prof", "No such file or directory (os error 2)"),
        ("dir.prof", "is a directory"),
    ];
    for (file, why) in cases {
        let line = format!("analyzer: failed to read {file}: {why}");
        dir.run(&format!("info {file}")).fails(&line);
        dir.run(&format!("report {file}")).fails(&line);
        dir.run(&format!("diff {file} b.prof")).fails(&line);
        dir.run(&format!("diff a.prof {file}@10s")).fails(&line);
        dir.run(&format!("flamegraph {file}")).fails(&line);
        dir.run(&format!("export {file} --format folded")).fails(&line);
    }
}

#[test]
fn damage_is_a_warning_where_something_can_be_read() {
    let dir = Dir::new();
    let whole = synthetic::every(1, 9);
    let last = whole.len() - 5;
    let mut corrupt = whole.clone();
    corrupt[last] ^= 1;
    dir.file("cut.prof", &whole[..last]).file("corrupt.prof", &corrupt).file("whole.prof", &whole);
    dir.run("diff whole.prof@start cut.prof").warns("cut.prof: block at offset 0x");
    dir.run("report cut.prof")
        .warns("of its bytes; what precedes it is used")
        .prints(&["warning: cut.prof: block"]);
    dir.run("report corrupt.prof --json").warns("checksum mismatch").prints(&["checksum mismatch"]);
    dir.run("info corrupt.prof").warns("checksum mismatch").prints(&["0.5 s to 8.5 s"]);
}

#[test]
fn an_unknown_record_is_named_with_its_offset() {
    let dir = Dir::new();
    let mut file = synthetic::File::new(1);
    prof::block::write(&mut file.0, prof::BlockKind::Records, prof::Nanos(0), &[0x7e, 1, 2]);
    dir.file("run.prof", &file.0);
    dir.run("report run.prof")
        .fails("analyzer: failed to read run.prof: record at offset 0x38: unknown kind 0x7e");
}

#[test]
fn instants_that_a_file_does_not_have() {
    let dir = Dir::recorded();
    let find = "analyzer: failed to find the instant in b.prof:";
    dir.run("diff b.prof@21s b.prof").fails(&format!("{find} 21.000 s is after the file's end at 20.500 s"));
    dir.run("flamegraph b.prof@noon").fails(&format!(
        "{find} 'noon' is not a mark of the file, and not one of 10m, 1h30m, 90s, 50%, start, end, peak, exit"
    ));
    dir.run("diff b.prof@ b.prof").fails("analyzer: failed to read 'b.prof@': nothing stands after '@'");
    dir.run("diff b.prof@200% b.prof").fails("analyzer: failed to read 'b.prof@200%': 200% is above 100%");
    dir.run("report b.prof --span 1s").fails("analyzer: failed to read the span '1s': '..' is missing");
    dir.run("diff b.prof a.prof")
        .fails("analyzer: failed to compare: b.prof (20.5 s) is later than a.prof (10.5 s), of one process");
}

#[test]
fn a_name_with_an_at_sign_wins_where_it_exists() {
    let dir = Dir::recorded();
    dir.file("run@10s", &synthetic::every(1, 5));
    dir.run("flamegraph run@10s").prints(&["run@10s (5.5 s)"]);
    dir.run("flamegraph run@10s@2s").prints(&["run@10s (2.0 s)"]);
}

#[test]
fn options_that_do_not_exist() {
    let dir = Dir::recorded();
    dir.run("diff a.prof")
        .fails("analyzer: the following required arguments were not provided: <B[@T]> (see --help)");
    dir.run("diff a.prof b.prof --frobnicate")
        .fails("analyzer: unexpected argument '--frobnicate' found (see --help)");
    let bad_format = dir.run("export a.prof --format pdf");
    assert_eq!(bad_format.code, Some(2));
    assert_eq!(bad_format.err.lines().count(), 1);
    dir.run("diff a.prof b.prof --symbols nowhere")
        .fails("analyzer: failed to read nowhere: not a directory");
    let unwritten = dir.run("diff a.prof b.prof -o no/such/dir.svg");
    assert_eq!((unwritten.code, &*unwritten.out), (Some(2), ""));
    assert!(
        unwritten.err.contains("analyzer: failed to write no/such/dir.svg: No such file"),
        "{}",
        unwritten.err
    );
    dir.run("--version").ok().prints(&["analyzer "]);
    dir.run("diff --help").ok().prints(&["retained growth", "--names", "1h30m"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = Dir::recorded();
    for arguments in ["flamegraph b.prof", "diff b.prof@start b.prof --json", "info b.prof", "--help"] {
        let outcome = dir.run_into_closed_pipe(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments}: {}", outcome.err);
        assert!(!outcome.err.contains("failed"), "{arguments}: {}", outcome.err);
    }
}

#[test]
fn a_span_of_a_report() {
    let json = Dir::recorded().run("report b.prof --span 5.5s..model --json");
    assert_eq!(json.code, Some(2));
    let json = Dir::recorded().run("report b.prof --span 5.5s..50% --json").json();
    assert_eq!(json["span"], serde_json::json!({"from_s": 5.5, "to_s": 10.5, "before_exit": false}));
    assert_eq!(json["growth"][0]["retained_bytes"], 5000);
    assert_eq!(json["verdict"]["class"], "live-growth");
}
