//! Descriptors, directories, roots, rights and sandboxes: what the tracer's file needs can be taken from it.

use std::fs;
use std::path::Path;

use crate::harness::{Case, Traced, compiled, machine};

/// Flushes come often.
const MODES: [&str; 2] = ["interval=every,lossless=on,settle=10ms", "interval=2,settle=10ms"];

fn exact(how: &str, argument: Option<&str>) {
    for mode in MODES {
        let case = argument
            .into_iter()
            .fold(Case::new("descriptors.c").arg(how), |case, argument| case.arg(argument));
        case.settings(mode).unchanged().exact().rooted_in("main");
    }
}

fn is_root() -> bool {
    // The owner of what this process makes is this process.
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
    if !is_root {
        eprintln!("skipped: only root may do it");
    }
    is_root
}

#[test]
fn closes_all() {
    exact("close", None);
}

#[test]
fn closes_all_at_once() {
    exact("close_range", None);
}

#[test]
fn has_files_of_its_own_under_every_number() {
    let folder = tempfile::tempdir().unwrap();
    exact("reuse", folder.path().join("own").to_str());
}

/// The program may have as many as without the tracer.
#[test]
fn runs_out_of_descriptors() {
    exact("exhaust", None);
}

/// A program that lists what is open, or passes it on to its children, finds nothing of ours.
#[test]
fn lists_its_descriptors() {
    exact("list", None);
}

#[test]
fn leaves_its_directory() {
    for mode in MODES {
        let case = Case::new("descriptors.c").arg("chdir");
        let directory = tempfile::tempdir().unwrap();
        let untraced = case.run(directory.path(), None);
        let outcome = case.run(directory.path(), Some(&format!("out=run.prof,{mode}")));
        assert_eq!(untraced, outcome, "untraced (left) and traced (right) differ");
        let profile = directory.path().join("run.prof");
        Traced::of(outcome, profile, directory).exact();
    }
}

#[test]
fn leaves_its_root() {
    if machine().is_alone() || !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    exact("chroot", folder.path().to_str());
}

#[test]
fn gives_up_its_rights() {
    if is_root() {
        exact("drop", None);
    }
}

/// What the writer has to say reaches the process's stderr, which it does not share.
#[test]
fn a_file_that_may_not_grow_ends_tracing_with_one_line() {
    for mode in MODES.map(|mode| mode.replace("lossless=on,", "")) {
        let case = Case::new("descriptors.c").arg("limit");
        let directory = tempfile::tempdir().unwrap();
        let untraced = case.run(directory.path(), None);
        let traced = case.run(directory.path(), Some(&format!("out=run.prof,{mode}")));
        assert_eq!((untraced.stdout, untraced.status), (traced.stdout, traced.status));
        let line = traced.stderr.starts_with("libtrace: stopped tracing: failed to write run.prof: ");
        assert!(line && traced.stderr.lines().count() == 1, "{}", traced.stderr);
    }
}

fn can_be_confined(program: &Path, how: &str) -> bool {
    if machine().is_alone() {
        return false;
    }
    let status =
        machine().command(program, &[]).arg(how).stdout(std::process::Stdio::null()).status().unwrap();
    if status.code() == Some(77) {
        eprintln!("skipped: this kernel has no filters on system calls");
    }
    status.code() != Some(77)
}

/// The filter is of the thread that installs it: the writer's calls are not the program's.
#[test]
fn a_thread_is_killed_for_other_calls_than_it_needs() {
    let program = compiled("sandbox.c", "sandbox", &[]);
    if can_be_confined(&program, "own") {
        for mode in MODES {
            Case::of(program.clone()).arg("own").settings(mode).unchanged().exact();
        }
    }
}

/// Nothing can be opened, but what is open can be written.
#[test]
fn everything_fails_that_the_program_does_not_need() {
    let program = compiled("sandbox.c", "sandbox", &[]);
    if can_be_confined(&program, "all") {
        for mode in MODES {
            Case::of(program.clone()).arg("all").settings(mode).unchanged().exact();
        }
    }
}

/// Everything that there is another way for is tried that way.
#[test]
fn begins_in_a_sandbox() {
    let program = compiled("sandbox.c", "sandbox", &[]);
    if can_be_confined(&program, "before") {
        for mode in MODES {
            Case::of(program.clone()).arg("before").settings(mode).unchanged().exact();
        }
    }
}
