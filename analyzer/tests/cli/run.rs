//! Commands under the tracer, which is a file of no use here: what counts is what reaches the command.

use crate::dsl::{Dir, Outcome};
use std::path::PathBuf;
use std::process::Command;

/// A copy of the analyzer, with or without a library beside it. The loader ignores the library, which is empty,
/// and says so on stderr.
fn installed(dir: &Dir, library: Option<&str>) -> PathBuf {
    let program = dir.path("bin/analyzer");
    std::fs::create_dir(dir.path("bin")).unwrap();
    std::fs::create_dir(dir.path("lib")).unwrap();
    // Not copied in this process: another test's child could hold the file open for writing when it is run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_analyzer")).arg(&program).status().unwrap();
    assert!(copied.success());
    if let Some(library) = library {
        dir.file(library, b"");
    }
    program
}

fn run(program: &PathBuf, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command.arg("run").args(arguments).env_remove("LIBTRACE").env_remove("LD_PRELOAD");
    Outcome::of(command.output().unwrap())
}

#[test]
fn the_command_gets_the_library_and_the_settings() {
    for library in ["bin/libtrace.so", "lib/libtrace.so"] {
        let dir = Dir::new();
        let program = installed(&dir, Some(library));
        let shell = ["sh", "-c", "echo $LD_PRELOAD $LIBTRACE"];
        let expected = dir.path(library).canonicalize().unwrap().display().to_string();
        let outcome = run(&program, &[&["--out", "x.prof", "--every", "--"][..], &shell].concat());
        assert_eq!(
            (outcome.code, &*outcome.out),
            (Some(0), &*format!("{expected} out=x.prof,interval=every\n"))
        );
        let outcome = run(&program, &shell);
        assert_eq!((outcome.code, &*outcome.out), (Some(0), &*format!("{expected}\n")));
    }
}

#[test]
fn its_exit_code_is_the_commands() {
    let dir = Dir::new();
    let program = installed(&dir, Some("bin/libtrace.so"));
    assert_eq!(run(&program, &["sh", "-c", "exit 37"]).code, Some(37));
    assert_eq!(run(&program, &["--", "sh", "-c", "kill -9 $$"]).code, Some(128 + 9));
    assert_eq!(run(&program, &["sh", "-c", "kill -15 $$"]).code, Some(128 + 15));
    let missing = run(&program, &["./no-such-command"]);
    assert_eq!(missing.code, Some(2));
    let line = "analyzer: failed to run ./no-such-command: No such file or directory (os error 2)\n";
    assert_eq!(missing.err, line);
}

#[test]
fn a_signal_that_is_sent_to_it_reaches_the_command() {
    let dir = Dir::new();
    let program = installed(&dir, Some("bin/libtrace.so"));
    let script = "trap 'exit 41' TERM; kill -TERM $PPID; while :; do sleep 0.01; done";
    assert_eq!(run(&program, &["sh", "-c", script]).code, Some(41));
}

#[test]
fn without_the_library_there_is_one_line() {
    let dir = Dir::new();
    let program = installed(&dir, None);
    let outcome = run(&program, &["true"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.starts_with("analyzer: failed to find libtrace.so: neither "), "{}", outcome.err);
    assert_eq!(outcome.err.lines().count(), 1);
}
