//! A program that does not end is a failure that says where each of its threads is.

use crate::harness::{Case, machine};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Waits for the end of `child` and of all processes that still have its stdout; past the limit, says where they hang, kills
/// them and fails.
pub fn wait(mut child: Child, limit: Duration, stdout: &Path) -> ExitStatus {
    let deadline = Instant::now() + limit;
    let mut ended = None;
    loop {
        ended = ended.or(child.try_wait().unwrap());
        let left = users(stdout);
        if let (Some(status), true) = (ended, left.is_empty()) {
            return status;
        }
        if Instant::now() > deadline {
            // The program itself may have closed it.
            let left = [child.id()]
                .into_iter()
                .filter(|pid| ended.is_none() && !left.contains(pid))
                .chain(left.iter().copied());
            let left: Vec<u32> = left.collect();
            let where_they_hang: String = left.iter().map(|&pid| threads_of(pid)).collect();
            for pid in left {
                Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
            }
            child.wait().unwrap();
            panic!("not done after {limit:?}\n{where_they_hang}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes whose stdout is the file.
fn users(file: &Path) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|open| open == file)).collect()
}

/// Every thread of a process as /proc and, where there is one, gdb see it.
fn threads_of(pid: u32) -> String {
    let mut text = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        text += &format!("{}:", task.path().display());
        for file in ["comm", "wchan", "syscall", "stack"] {
            let content = fs::read_to_string(task.path().join(file));
            text += &format!(" {file} {}", content.as_deref().unwrap_or("unreadable").trim());
        }
        text.push('\n');
    }
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-ex", "thread apply all bt", "-p", &pid.to_string()]);
    if let Ok(done) = gdb.output() {
        text += &String::from_utf8_lossy(&done.stdout);
    }
    text
}

#[test]
fn a_hang_is_a_failure_that_shows_every_thread() {
    let case = Case::new("hang.c").limit(Duration::from_secs(2));
    let directory = tempfile::tempdir().unwrap();
    let failed = std::panic::catch_unwind(|| case.run(directory.path(), None)).unwrap_err();
    let text = failed.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("not done after") && text.matches(": comm ").count() >= 2, "{text}");
    if Command::new("gdb").arg("--version").output().is_ok() && machine().runs_programs_of_this_system() {
        assert!(text.matches("in waits_for_ever ").count() == 2, "{text}");
    } else {
        eprintln!("skipped: gdb, which shows the stacks, is missing or not for these programs");
    }
}
