//! A directory with files, and the analyzer run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A fresh directory.
pub struct Dir {
    dir: TempDir,
}

impl Dir {
    pub fn new() -> Dir {
        Dir { dir: TempDir::new().expect("a temporary directory") }
    }

    /// With the recordings `a.prof` and `b.prof`, the first 10 and 20 seconds of one process.
    pub fn recorded() -> Dir {
        let dir = Dir::new();
        dir.file("a.prof", &crate::synthetic::every(1, 10));
        dir.file("b.prof", &crate::synthetic::every(1, 20));
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> &Dir {
        std::fs::write(self.path(name), content).expect("a written file");
        self
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file that was written")
    }

    /// Runs the analyzer with arguments that are separated by spaces.
    pub fn run(&self, arguments: &str) -> Outcome {
        analyzer(self.dir.path(), arguments.split_whitespace())
    }

    /// Runs it with a reader on stdout that goes away at once.
    pub fn run_into_closed_pipe(&self, arguments: &str) -> Outcome {
        let mut command = command(self.dir.path());
        command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("an analyzer");
        drop(child.stdout.take());
        Outcome::of(child.wait_with_output().expect("an end"))
    }
}

pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analyzer"));
    command.current_dir(dir).env_remove("LIBTRACE").env_remove("LD_PRELOAD");
    command
}

pub fn analyzer<'a>(dir: &Path, arguments: impl Iterator<Item = &'a str>) -> Outcome {
    Outcome::of(command(dir).args(arguments).output().expect("an analyzer"))
}

/// What came of a run.
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(output: Output) -> Outcome {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It exited with 0 and said nothing.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self
    }

    /// It exited with 0 and one line of warning that contains `text`.
    #[track_caller]
    pub fn warns(self, text: &str) -> Outcome {
        assert_eq!(self.code, Some(0), "{}", self.err);
        assert!(self.err.starts_with("analyzer: warning: ") && self.err.contains(text), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self
    }

    /// It exited with 2, wrote nothing, and said exactly this line.
    #[track_caller]
    pub fn fails(self, line: &str) -> Outcome {
        assert_eq!((self.code, &*self.out, self.err.trim_end()), (Some(2), "", line));
        self
    }

    /// Its stdout contains each of these.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(self.out.contains(text), "no {text:?} in:\n{}", self.out);
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect("JSON")
    }
}
