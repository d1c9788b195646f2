//! The ways a process can end.

use crate::harness::{Case, analyzer};

#[test]
fn returns_from_main() {
    Case::new("exit_paths.c").arg("return").unchanged().exact();
}

#[test]
fn calls_exit() {
    Case::new("exit_paths.c").arg("exit").unchanged().exact();
}

#[test]
fn another_thread_calls_exit() {
    Case::new("exit_paths.c").arg("thread_exit").unchanged().exact();
}

/// What was not flushed may be lost, but what is there can be read.
fn ends_abruptly(path: &str) {
    let traced = Case::new("exit_paths.c").arg(path).unchanged();
    analyzer(&["report", traced.profile.to_str().unwrap(), "--json"]);
}

#[test]
fn calls_underscore_exit() {
    ends_abruptly("_exit");
}

#[test]
fn calls_quick_exit() {
    ends_abruptly("quick_exit");
}

#[test]
fn aborts() {
    ends_abruptly("abort");
}

#[test]
fn is_killed() {
    ends_abruptly("kill");
}
