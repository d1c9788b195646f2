//! A program that does what a test tells it, while the test acts on it from outside.

use crate::harness::{analyzer_command, compiled, machine, tracer};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A test that takes longer fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The program under the tracer; ended where the test fails.
pub struct Controlled {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it runs.
    pub directory: TempDir,
    /// Its file.
    pub profile: PathBuf,
}

impl Controlled {
    /// Starts it, with `run.prof` in a folder of its own.
    pub fn start(settings: &str) -> Controlled {
        Controlled::start_in(tempfile::tempdir().unwrap(), "run.prof", settings, &[])
    }

    /// Starts it with a file somewhere below `directory`, and libraries behind the tracer.
    pub fn start_in(directory: TempDir, out: &str, settings: &str, libraries: &[&str]) -> Controlled {
        let program = compiled("controlled.c", "controlled", &[]);
        let mut preload = vec![tracer()];
        preload.extend(libraries.iter().map(PathBuf::from));
        let mut command = machine().command(&program, &preload);
        command.current_dir(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).env("LIBTRACE", format!("out={out},{settings}"));
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let profile = directory.path().join(out);
        let mut started = Controlled { child, input, output, directory, profile };
        assert_eq!(started.line(), "ready");
        started
    }

    /// Its process id.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Tells it a line, and returns its answer.
    pub fn tell(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.line()
    }

    /// Has it end as it would by itself. What it said on stderr.
    pub fn quit(&mut self) -> String {
        writeln!(self.input, "quit").unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(7), "{said}");
        said
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        let name = prof::control::socket_name(self.profile.file_name().unwrap().to_str().unwrap());
        self.profile.with_file_name(name)
    }

    /// Whether its control socket is there.
    pub fn has_socket(&self) -> bool {
        std::fs::symlink_metadata(self.socket()).is_ok_and(|data| data.file_type().is_socket())
    }

    /// `analyzer ctl` with its process id. What it printed.
    pub fn ctl(&self, words: &[&str]) -> String {
        done(ctl(&self.pid(), words))
    }

    /// As [`ctl`](Self::ctl), which has to fail. What it said.
    pub fn ctl_fails(&self, words: &[&str]) -> String {
        failed(ctl(&self.pid(), words))
    }

    /// Its status.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ctl(&["status", "--json"])).unwrap()
    }

    /// Bytes and blocks of `grow` that were allocated between two instants of its file and are live at the second.
    pub fn grown(&self, from: &str, to: &str) -> (i64, i64) {
        let at = |instant| format!("{}@{instant}", self.profile.display());
        let diff = crate::harness::analyzer(&["diff", &at(from), &at(to), "--json"]);
        grown_in(&diff["stacks"])
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes and blocks of `grow` among stacks.
pub fn grown_in(stacks: &Value) -> (i64, i64) {
    let is_ours = |stack: &&Value| {
        let frames = stack["frames"].as_array().unwrap();
        frames.iter().any(|frame| frame["name"] == "at_grow")
    };
    let ours = stacks.as_array().unwrap().iter().filter(is_ours);
    let number = |stack: &Value, key: &str| stack[key].as_i64().unwrap();
    ours.map(|stack| (number(stack, "retained_bytes"), number(stack, "retained_count")))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// `analyzer ctl TARGET WORDS…`.
pub fn ctl(target: &str, words: &[&str]) -> Output {
    analyzer_command().arg("ctl").arg(target).args(words).output().unwrap()
}

/// What a command printed that did what it should.
pub fn done(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What a command said, in one line, that could not do what it should.
pub fn failed(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), said.lines().count()), (Some(2), 0, 1), "{said}");
    said
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
