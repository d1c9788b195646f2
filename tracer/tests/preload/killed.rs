//! SIGKILL at a random moment: whatever was flushed can be read, and nothing is made up.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Outcome, Traced, analyzer, compiled, machine, tracer};

/// Says how many times, where 20 are not enough.
const TIMES: &str = "PRELOAD_KILLS";

const MODES: [&str; 3] = [
    "interval=every,lossless=on,settle=20ms",
    "interval=2,lossless=on,settle=20ms",
    "interval=2,lossless=on,settle=20ms,max_file=64k",
];

/// How many blocks the program says are in the file.
fn flushed(directory: &Path) -> u64 {
    let content = fs::read(directory.join("flushed")).unwrap_or_default();
    content.try_into().map_or(0, u64::from_le_bytes)
}

/// Runs the program until some time after its first flush, or where files are small its second file, kills it, and looks at
/// the file. How long before the kill the file is complete, and the number of its segment.
fn kill_once(mode: &str, delay: Duration) -> (f64, u64) {
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("run.prof");
    let mut command = machine().command(&compiled("killed.c", "killed", &[]), &[tracer()]);
    command.env("LIBTRACE", format!("out={},{mode}", profile.display())).current_dir(&directory);
    let stderr = directory.path().join("stderr");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
    let begin = Instant::now();
    let mut child = command.spawn().unwrap();
    let rolls = mode.contains("max_file");
    while flushed(directory.path()) == 0 || rolls && !directory.path().join("run.1.prof").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "{}", fs::read_to_string(&stderr).unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    let lived = begin.elapsed().as_secs_f64();
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), fs::read_to_string(stderr).unwrap().as_str()), (Some(9), ""), "{status}");

    let flushed = flushed(directory.path());
    let report = analyzer(&["report", profile.to_str().unwrap(), "--json"]);
    // An exec that failed, or a file that is full, is said to end the file, until something follows.
    assert_ne!(report["ended"], "the process exited", "{report}");
    let segment = report["segment"]["number"].as_u64().unwrap_or(1);
    let missing = lived - report["complete_to_s"].as_f64().unwrap();
    let outcome = Outcome { stdout: String::new(), stderr: String::new(), status: ExitStatus::default() };
    let found = Traced::of(outcome, profile, directory).acting("killed").stacks_of("leak");
    let [bytes, blocks] = [|amount: (i64, i64)| amount.0, |amount: (i64, i64)| amount.1]
        .map(|of| found.iter().map(|stack| of(stack.retained)).sum::<i64>());
    // Blocks are leaked in order: the file has the first ones, all of them, and at least those that were flushed.
    assert!(blocks as u64 >= flushed, "{blocks} blocks of {flushed} that were flushed, {delay:?}");
    assert_eq!(bytes, (0..blocks).map(|count| 100 + count % 1000).sum::<i64>(), "{blocks} blocks, {delay:?}");
    (missing, segment)
}

#[test]
fn a_file_is_good_up_to_the_last_flush() {
    let times = std::env::var(TIMES).map_or(20, |text| text.parse().expect("a number"));
    let modes: Vec<_> = MODES.into_iter().filter(|mode| machine().records(mode)).collect();
    let mut missing = Vec::new();
    let mut segments = 0;
    for time in 0..times {
        let random = RandomState::new().hash_one(time);
        let (late, segment) = kill_once(modes[time % modes.len()], Duration::from_micros(random % 200_000));
        missing.push(late);
        segments = segments.max(segment);
    }
    assert!(segments > 1, "no file was followed by another");
    missing.sort_by(f64::total_cmp);
    let (median, most) = (missing[times / 2] * 1e3, missing[times - 1] * 1e3);
    eprintln!(
        "killed {times} times; the last {median:.0} ms are missing (median; at most {most:.0} ms) of 20 ms"
    );
}
