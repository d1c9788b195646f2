//! Blocks that cross threads, and threads that come and go.

use crate::harness::{Case, Traced, analyzer, machine};
use prof::{BlockKind, Reader, varint};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

#[test]
fn freed_by_another_thread() {
    Case::new("threads.cpp").unchanged().exact();
}

#[test]
fn realloc_chains_across_threads() {
    Case::new("realloc_chain.c").unchanged().exact();
}

#[test]
fn one_block_per_short_lived_thread() {
    Case::new("threads_leak.c").unchanged().exact();
}

/// 4,000 blocks of 1,000 bytes at one sample in 20,000 bytes: 195 samples or so, six standard errors are 43 %.
#[test]
fn short_lived_threads_sampled() {
    let case = Case::new("threads_leak.c").arg("4000").arg("1000").settings("interval=20000");
    let traced = case.unchanged();
    let (truth, measured) = (traced.truth("live"), traced.measured());
    let ratio = measured["leak_in_thread"].0 as f64 / truth["leak_in_thread"].0 as f64;
    assert!((0.57..1.43).contains(&ratio), "{ratio} of the truth");
}

/// A gRPC server starts hundreds of threads a second. When each of them took a buffer of its own until the next flush,
/// the buffers ran out and events were lost. At this interval nearly every block is sampled.
#[test]
fn threads_that_come_and_go_lose_nothing() {
    let case = Case::new("threads_leak.c").arg("4000").arg("1000").settings("interval=64");
    let traced = case.unchanged();
    let (truth, measured) = (traced.truth("live"), traced.measured());
    let ratio = measured["leak_in_thread"].0 as f64 / truth["leak_in_thread"].0 as f64;
    assert!((ratio - 1.0).abs() < 0.001, "{ratio} of the truth");
}

/// Threads one after the other go on with one stream.
#[test]
fn threads_that_come_and_go_take_turns() {
    if machine().only_samples() {
        return;
    }
    let traced = Case::new("threads_leak.c").arg("200").unchanged().exact();
    let mut reader = Reader::new(File::open(&traced.profile).unwrap()).unwrap();
    let mut streams = HashSet::new();
    while let Some(block) = reader.next_block().unwrap() {
        let mut payload = block.payload;
        if block.kind == BlockKind::Events {
            streams.insert(varint::take(&mut payload).unwrap());
        }
    }
    // The main thread's, and theirs.
    assert_eq!(streams.len(), 2, "{streams:?}");
}

#[test]
fn cancelled_while_allocating() {
    for &mode in machine().modes {
        let traced = Case::new("cancel.c").settings(mode).unchanged().exact();
        assert!(traced.outcome.stdout.starts_with("100 of 100"), "{}", traced.outcome.stdout);
    }
}

#[test]
fn names_are_recorded() {
    for mode in machine().modes.iter().map(|mode| format!("{mode},settle=10ms")) {
        let traced = Case::new("thread_names.c").settings(&mode).unchanged().exact();
        let threads = analyzer(&["info", traced.profile.to_str().unwrap(), "--json"])["threads"].clone();
        let names: Vec<_> = threads.as_array().unwrap().iter().map(|thread| thread["name"].clone()).collect();
        for name in ["at-once", "later"] {
            assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
        }
    }
}

/// The wait was once in `nanosleep`, a cancellation point: threads ended in the middle of `malloc`.
#[test]
fn cancelled_while_waiting_for_the_writer() {
    if machine().only_samples() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let case = Case::new("cancelled_waiting.c");
    let untraced = case.run(directory.path(), None);
    let gate = directory.path().join("cancelled");
    std::fs::remove_file(&gate).unwrap();
    let (pipe, profile) = (directory.path().join("pipe"), directory.path().join("run.prof"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for both, it is never at its end and never waits to be opened by others.
    let both = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    let settings = format!("out={},interval=every,lossless=on", pipe.display());
    let outcome = thread::scope(|threads| {
        let run = threads.spawn(|| case.run(directory.path(), Some(&settings)));
        let mut copy = File::create(&profile).unwrap();
        while !run.is_finished() {
            if !gate.exists() || !drain(&both, &mut copy) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        while drain(&both, &mut copy) {}
        run.join().unwrap()
    });
    assert_eq!(untraced, outcome, "untraced (left) and traced (right) differ");
    Traced::of(outcome, profile, directory).exact();
}

/// Copies what is in the pipe at the moment; false where that is nothing.
fn drain(mut pipe: &File, copy: &mut File) -> bool {
    let mut bytes = [0; 64 << 10];
    match pipe.read(&mut bytes) {
        Ok(len) => copy.write_all(&bytes[..len]).map(|()| len > 0).unwrap(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}
