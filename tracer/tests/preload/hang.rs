//! A program that does not end is a failure that says where each of its threads is.

use crate::harness::{Case, machine};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A program that was started, and what it starts; killed where a test ends before it.
pub struct Running {
    pub child: Child,
    stdout: PathBuf,
}

impl Running {
    /// Starts it with a new file as its stdout.
    pub fn start(mut command: Command, stdout: &Path) -> Running {
        let file = File::create(stdout).unwrap();
        // Held until the last process that inherits the descriptor has closed it or ended.
        file.lock().unwrap();
        let child = command.stdout(file).spawn().unwrap();
        Running { child, stdout: stdout.into() }
    }

    /// Waits for its end and that of all processes that still have its stdout; past the limit, says where they hang and fails.
    pub fn wait(mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        let stdout = File::open(&self.stdout).unwrap();
        let mut ended = None;
        loop {
            ended = ended.or(self.child.try_wait().unwrap());
            if let (Some(status), Ok(())) = (ended, stdout.try_lock()) {
                return status;
            }
            if Instant::now() > deadline {
                let where_they_hang: String = self.left().into_iter().map(threads_of).collect();
                panic!("not done after {limit:?}\n{where_they_hang}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The processes that have not ended. The program itself may have closed its stdout.
    fn left(&mut self) -> Vec<u32> {
        let mut left = users(&self.stdout);
        let id = self.child.id();
        if self.child.try_wait().unwrap().is_none() && !left.contains(&id) {
            left.insert(0, id);
        }
        left
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.left() {
            Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        }
        self.child.wait().unwrap();
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
