//! The file: one that is as large as it may be, and disks that fill up, stand still or lose it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use crate::harness::{Case, Outcome, Traced, analyzer, compiled, machine, tracer};

const SEGMENTS: &str = "interval=2,settle=10ms,max_file=64k";

/// Retained bytes and the threads of the stacks of a site.
fn retained(diff: &serde_json::Value, site: &str) -> (i64, Vec<String>) {
    let is_here = |stack: &&serde_json::Value| {
        stack["frames"].as_array().unwrap().iter().any(|frame| frame["name"] == site)
    };
    let stacks: Vec<_> = diff["stacks"].as_array().unwrap().iter().filter(is_here).collect();
    let threads = stacks.iter().map(|stack| stack["thread"].as_str().unwrap_or_default().to_owned());
    (stacks.iter().map(|stack| stack["retained_bytes"].as_i64().unwrap()).sum(), threads.collect())
}

#[test]
fn the_last_segment_alone_has_all_that_is_live() {
    let traced = Case::new("segments.c").settings(SEGMENTS).unchanged();
    let end = traced.acting("end").exact();
    let path = |name: &str| traced.profile.with_file_name(name).to_str().unwrap().to_owned();
    assert_eq!(traced.files(), ["a.prof", "run.1.prof", "run.prof"]);
    let report = analyzer(&["report", &path("run.prof"), "--json"]);
    assert!(report["segment"]["number"].as_u64() >= Some(4), "{}", report["segment"]);
    assert_eq!(report["segment"]["file_before"], path("run.1.prof"));
    assert_eq!(report["ended"], "the process exited");
    // What is counted at births is what is counted again from survivors and young deaths, but for the last moment.
    let before = analyzer(&["report", &path("run.1.prof"), "--json"]);
    for (sum, carried) in
        [("allocated_bytes", "allocated_before_bytes"), ("allocated_count", "allocated_before_count")]
    {
        let [sum, carried] = [&before[sum], &report["segment"][carried]].map(|value| value.as_f64().unwrap());
        assert!((sum / carried - 1.0).abs() < 0.05, "{sum} and {carried}");
    }
    let diff = |before: &str| {
        let diff = analyzer(&["diff", before, &path("run.prof"), "--json"]);
        assert_eq!((diff["meaning"].as_str(), diff["lost_events"].as_u64()), (Some("matched"), Some(0)));
        diff
    };
    let truth = end.truth("live");
    let whole = diff(&(path("a.prof") + "@start"));
    for (site, thread) in [("early", "segments"), ("late", "segments"), ("in_thread", "loader")] {
        // The second thread had ended before the present file began.
        assert_eq!(retained(&whole, site), (truth[site].0, vec![thread.to_owned()]), "{site}");
    }
    let since = diff(&path("a.prof"));
    assert_eq!(retained(&since, "early"), (0, Vec::new()), "all of it was there at the first instant");
    assert_eq!(retained(&since, "in_thread").0, 0);
    assert_eq!(retained(&since, "late").0, truth["late"].0);
    let between = diff(&(path("run.1.prof") + "@start"));
    assert!((1..truth["late"].0).contains(&retained(&between, "late").0), "{between}");
}

#[test]
fn a_segment_and_interval_every_exclude_each_other() {
    if machine().only_samples() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let settings = "out=run.prof,interval=every,max_file=1m";
    let outcome = Case::new("churn.c").arg("1").run(directory.path(), Some(settings));
    assert!(outcome.status.success() && outcome.stdout.contains("live "));
    assert!(outcome.stderr.starts_with("libtrace: key 'max_file': not with interval=every"));
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

/// A forked child's files stay as small as its parent's.
#[test]
fn forked_children_begin_segments_of_their_own() {
    if machine().is_alone() {
        return;
    }
    let traced = Case::new("segments.c").arg("fork").settings(SEGMENTS).unchanged();
    let child = traced.process("child").exact();
    let path = child.profile.to_str().unwrap();
    let info = analyzer(&["info", path, "--json"]);
    assert!(info["segment"]["number"].as_u64() >= Some(2), "{}", info["segment"]);
    assert_ne!(info["forked_from"], serde_json::Value::Null);
}

/// Runs a case untraced and traced in one folder; outside of stderr, which is returned, nothing may differ.
fn said(case: &Case, directory: &Path, settings: &str) -> String {
    let untraced = case.run(directory, None);
    let traced = case.run(directory, Some(settings));
    assert_eq!((untraced.stdout, untraced.status), (traced.stdout, traced.status), "{}", traced.stderr);
    traced.stderr
}

/// The host does something to the file; the content that is left.
fn loses_file(what: &str, expected: &str) -> Vec<Option<Vec<u8>>> {
    let of_mode = |mode: &str| {
        let directory = tempfile::tempdir().unwrap();
        let case = Case::new("lose_file.c").arg(what);
        let stderr = said(&case, directory.path(), &format!("out=run.prof,{mode}"));
        let line = format!("libtrace: stopped tracing: failed to write run.prof: {expected}\n");
        assert_eq!(stderr, line);
        fs::read(directory.path().join("run.prof")).ok()
    };
    machine().modes.iter().map(|mode| of_mode(mode)).collect()
}

#[test]
fn a_file_that_was_removed_ends_the_tracing() {
    assert_eq!(loses_file("remove", "the file was removed"), [None, None]);
}

#[test]
fn a_file_that_was_truncated_ends_the_tracing() {
    assert_eq!(loses_file("truncate", "the file was truncated"), [Some(vec![]), Some(vec![])]);
}

#[test]
fn another_file_of_the_name_is_left_alone() {
    let mine = Some(b"mine".to_vec());
    assert_eq!(loses_file("replace", "the file was removed"), [mine.clone(), mine]);
}

/// What could be written can be read.
fn is_a_beginning(profile: &Path) {
    let report = analyzer(&["report", profile.to_str().unwrap(), "--json"]);
    assert_eq!(report["ended"], serde_json::Value::Null);
    assert!(report["allocated_count"].as_i64() > Some(0), "{report}");
}

/// The kernel's limit on the size of files stands in for a disk that fills up while the program runs.
#[test]
fn a_file_that_may_not_grow_further_ends_the_tracing() {
    for (mode, blocks) in [("interval=every,settle=10ms", 2048), ("interval=2,settle=10ms", 32)] {
        if !machine().records(mode) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = compiled("churn.c", "churn", &[]);
        let traced = machine().command(&program, &[tracer()]);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -f {blocks}; exec env \"$@\""), "sh"]);
        limited.arg(format!("LIBTRACE=out=run.prof,{mode}"));
        for (name, value) in traced.get_envs() {
            limited.args(value.map(|value| format!("{}={}", name.display(), value.display())));
        }
        limited.arg(traced.get_program()).args(traced.get_args()).arg("8").current_dir(&directory);
        let done = limited.output().unwrap();
        let outcome = Outcome {
            stdout: String::from_utf8(done.stdout).unwrap(),
            stderr: String::from_utf8(done.stderr).unwrap(),
            status: done.status,
        };
        let line = "libtrace: stopped tracing: failed to write run.prof: File too large (os error 27)\n";
        assert!(outcome.status.success() && outcome.stdout.contains("live "), "{outcome:?}");
        assert_eq!(outcome.stderr, line);
        is_a_beginning(&directory.path().join("run.prof"));
    }
}

/// A small file system of its own, until it goes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on stderr, where the system does not let us mount one.
    fn mount(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(done) if done.status.success() => Some(SmallDisk(folder)),
            Ok(done) => {
                eprintln!(
                    "skipped: no disk can be mounted: {}",
                    String::from_utf8_lossy(&done.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: no disk can be mounted: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_tracing() {
    for (mode, size) in [("interval=every,settle=10ms", "1m"), ("interval=2,settle=10ms", "64k")] {
        if !machine().records(mode) {
            continue;
        }
        let Some(disk) = SmallDisk::mount(size) else { return };
        let directory = tempfile::tempdir().unwrap();
        let profile = disk.0.path().join("run.prof");
        let settings = format!("out={},{mode}", profile.display());
        let stderr = said(&Case::new("churn.c").arg("3"), directory.path(), &settings);
        let reason = "No space left on device (os error 28)";
        let line = format!("libtrace: stopped tracing: failed to write {}: {reason}\n", profile.display());
        assert_eq!(stderr, line);
        is_a_beginning(&profile);
    }
}

/// On a disk that has room for one file but not for two, the full one is kept.
#[test]
fn a_disk_without_room_for_the_next_segment_ends_the_tracing() {
    let Some(disk) = SmallDisk::mount("72k") else { return };
    let profile = disk.0.path().join("run.prof");
    let settings = format!("out={},{SEGMENTS}", profile.display());
    let directory = tempfile::tempdir().unwrap();
    let stderr = said(&Case::new("churn.c").arg("12"), directory.path(), &settings);
    assert!(stderr.starts_with("libtrace: stopped tracing: failed to write "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let report = analyzer(&["report", profile.to_str().unwrap(), "--json"]);
    assert!(report["allocated_count"].as_i64() > Some(0), "{report}");
    let left: Vec<_> = fs::read_dir(disk.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().ends_with(".prof")), "{left:?}");
}

/// A disk that takes nothing any more, as a network's: a pipe with a reader that does not read.
#[test]
fn a_disk_that_stands_still_does_not_hold_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo, of coreutils, is needed");
    assert!(made.success());
    // On Linux a pipe that is opened both ways has a reader and a writer at once.
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    // It takes a page: a file may be shorter than 64 KiB, where a busy machine loses most of the events.
    // SAFETY: the descriptor is open; the call touches no memory of this process.
    let room = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert!(room > 0, "{}", std::io::Error::last_os_error());
    let settings = format!("out={},interval=2,settle=10ms", pipe.display());
    let stderr = said(&Case::new("churn.c").arg("3"), directory.path(), &settings);
    drop(reader);
    assert_eq!(stderr, "libtrace: the last events were not written within 5 s\n");
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let settings = format!("out={}", pipe.display());
    let stderr = said(&Case::new("churn.c").arg("1"), directory.path(), &settings);
    assert!(stderr.starts_with("libtrace: failed to write") && stderr.contains("No such device"), "{stderr}");
}

/// What is freed while the disk stands still is not live afterwards, although nobody has heard of it.
#[test]
fn a_disk_that_stood_still_leaves_nothing_behind_that_does_not_live() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe")).status().is_ok_and(|status| status.success()));
    // Open for reading and writing, a pipe never ends.
    let mut pipe = File::options().read(true).write(true).open(path("pipe")).unwrap();
    let mut file = File::create(path("run.prof")).unwrap();
    let [stalled, resume, caught_up, ended] = ["stalled", "resume", "caught_up", "ended"].map(path);
    let disk = std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        // A flush that has nothing to say is short.
        let mut short = 0;
        loop {
            if stalled.exists() && !resume.exists() {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            let len = pipe.read(&mut bytes).unwrap();
            file.write_all(&bytes[..len]).unwrap();
            short = if len < 1000 && resume.exists() { short + 1 } else { 0 };
            if short == 20 {
                File::create(&caught_up).unwrap();
            }
            if ended.exists() {
                return;
            }
        }
    });
    let case = Case::new("stalled.c").patiently(5);
    let outcome = case.run(directory.path(), Some("out=pipe,interval=2,settle=10ms"));
    // The disk waits for something to read.
    fs::write(path("ended"), "").unwrap();
    File::options().write(true).open(path("pipe")).unwrap().write_all(b"\0").unwrap();
    disk.join().unwrap();
    // The program had the tracer write when it could not.
    let late = "libtrace: the last events were not written within 5 s";
    let said_else = outcome.stderr.lines().any(|line| line != late);
    assert!(outcome.status.success() && !said_else, "{outcome:?}");
    let profile = path("run.prof");
    let profile = profile.to_str().unwrap();
    let diff = analyzer(&["diff", &format!("{profile}@start"), profile, "--json"]);
    assert!(diff["lost_events"].as_i64() > Some(0), "the disk was too fast");
    assert_eq!(retained(&diff, "freed_meanwhile"), (0, Vec::new()));
    let traced = Traced::of(outcome, directory.path().join("run.prof"), directory);
    assert_eq!(retained(&diff, "stays").0, traced.truth("live")["stays"].0);
}
