//! The ways a process can end.

use crate::harness::{Case, analyzer, compiled, machine};

/// Whatever is recorded up to the end is in the file.
fn ends_completely(path: &str) {
    for mode in machine().modes {
        Case::new("exit_paths.c").arg(path).settings(mode).unchanged().exact();
    }
}

#[test]
fn returns_from_main() {
    ends_completely("return");
}

#[test]
fn calls_exit() {
    ends_completely("exit");
}

#[test]
fn another_thread_calls_exit() {
    ends_completely("thread_exit");
}

#[test]
fn calls_underscore_exit() {
    ends_completely("_exit");
}

#[test]
fn calls_underscore_exit_by_its_standard_name() {
    ends_completely("_Exit");
}

#[test]
fn another_thread_calls_underscore_exit() {
    ends_completely("thread__exit");
}

#[test]
fn calls_quick_exit() {
    ends_completely("quick_exit");
}

/// The writer is a thread too, and may not be what the process waits for.
#[test]
fn ends_with_its_last_thread() {
    if machine().is_alone() {
        return;
    }
    ends_completely("last_thread");
}

#[test]
fn destructors_allocate_and_free() {
    for mode in machine().modes {
        Case::of(compiled("destructors.cpp", "destructors", &[])).settings(mode).unchanged().exact();
    }
}

/// What was not flushed may be lost, but what is there can be read.
fn ends_abruptly(path: &str) {
    for mode in machine().modes {
        let traced = Case::new("exit_paths.c").arg(path).settings(mode).unchanged();
        analyzer(&["report", traced.profile.to_str().unwrap(), "--json"]);
    }
}

#[test]
fn aborts() {
    ends_abruptly("abort");
}

#[test]
fn is_killed() {
    ends_abruptly("kill");
}

#[test]
fn is_terminated() {
    ends_abruptly("term");
}

#[test]
fn crashes() {
    ends_abruptly("segv");
}

#[test]
fn leaves_by_the_system_call() {
    ends_abruptly("system_call");
}
