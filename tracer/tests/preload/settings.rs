//! `LIBTRACE`: where the profile goes, and what happens when it cannot.

use std::fs;

use crate::harness::{Case, compiled, machine, tracer};

/// With these settings the program runs as if untraced, but for one line that contains `expected`.
fn refused(settings: &str, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let case = Case::new("churn.c").arg("1");
    let untraced = case.run(directory.path(), None);
    let traced = case.run(directory.path(), Some(settings));
    assert_eq!((untraced.stdout, untraced.status), (traced.stdout, traced.status));
    assert!(untraced.stderr.is_empty());
    assert!(traced.stderr.starts_with("libtrace: ") && traced.stderr.contains(expected), "{}", traced.stderr);
    assert_eq!(traced.stderr.lines().count(), 1, "{}", traced.stderr);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "only stdout and stderr");
}

#[test]
fn unknown_key() {
    refused("out=run.prof,colour=red", "colour");
}

#[test]
fn bad_value() {
    refused("out=run.prof,interval=often", "interval");
    if machine().only_samples() {
        refused("out=run.prof,interval=every", "interval");
    }
}

#[test]
fn unwritable_path() {
    refused("out=/nonexistent/run.prof", "/nonexistent/run.prof");
}

#[test]
fn full_disk() {
    refused(&format!("out=/dev/full,{}", machine().modes[0]), "/dev/full");
}

#[test]
fn default_name_has_the_process_id() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = Case::new("churn.c").arg("1").run(directory.path(), Some(""));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:?}");
    let files = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    let pid = |name: &String| name.strip_prefix("trace.")?.strip_suffix(".prof")?.parse::<u32>().ok();
    assert!(files.len() == 3 && files.iter().filter_map(pid).count() == 1, "{files:?}");
}

/// A write beyond the limit on file sizes raises a signal that ends a process; so does one to a pipe without a reader.
#[test]
fn files_may_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let program = compiled("churn.c", "churn", &[]);
    let traced = machine().command(&program, &[tracer()]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -f 0; exec env \"$@\"", "sh", "LIBTRACE=out=run.prof"]);
    for (name, value) in traced.get_envs() {
        limited.args(value.map(|value| format!("{}={}", name.display(), value.display())));
    }
    limited.arg(traced.get_program()).args(traced.get_args()).arg("1").current_dir(&directory);
    let outcome = limited.output().unwrap();
    assert!(String::from_utf8(outcome.stdout).unwrap().contains("live "));
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(stderr.starts_with("libtrace: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(outcome.status.success(), "{:?}", outcome.status);
}
