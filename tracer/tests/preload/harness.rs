//! Compiles a program, runs it untraced and traced, and compares.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use crate::hang::Running;
pub use crate::machine::machine;
use serde_json::Value;
use tempfile::TempDir;

/// A source of `testdata/preload`, compiled once per process; `output` tells its variants apart.
pub fn compiled(source: &str, output: &str, flags: &[&str]) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, Arc<OnceLock<PathBuf>>>>> = LazyLock::new(Mutex::default);
    let cell = BUILT.lock().unwrap().entry(output.to_owned()).or_default().clone();
    cell.get_or_init(|| compile(source, output, flags)).clone()
}

fn compile(source: &str, output: &str, flags: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload").join(machine().folder);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(output);
    // Another process may be running the same tests: replace the file, never write into it.
    let fresh = directory.join(format!("{output}.{}", std::process::id()));
    let mut compiler = Command::new(machine().compiler(source));
    if source.ends_with(".cpp") {
        compiler.arg("-std=c++17");
    }
    // Recursions and sites stay real frames.
    compiler.args(["-O2", "-Wall", "-Wextra", "-fno-optimize-sibling-calls", "-pthread", "-o"]);
    compiler.arg(&fresh).arg(testdata().join(source)).args(&machine().flags).args(flags).arg("-ldl");
    let done = compiler.output().expect("gcc and g++ are needed");
    assert!(done.status.success(), "{source}: {}", String::from_utf8_lossy(&done.stderr));
    fs::rename(&fresh, &path).unwrap();
    path
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/preload")
}

/// Names a library that is handed out, to be tested instead of the one that cargo has built.
const RELEASED: &str = "PRELOAD_LIBRARY";

/// Whether the library under test is one that is handed out.
pub fn is_released() -> bool {
    std::env::var_os(RELEASED).is_some()
}

/// The library under test.
pub fn tracer() -> PathBuf {
    match std::env::var_os(RELEASED) {
        Some(path) => path.into(),
        None => built("libtrace.so", "tracer", machine().folder),
    }
}

/// What a tool of binutils says of the library under test.
pub fn tool(name: &str, args: &[&str]) -> String {
    tool_on(&tracer(), name, args)
}

/// Address, type and readable name of the library's symbols, from its debug file where it is stripped.
pub fn code_symbols() -> String {
    let debug = tracer().with_extension("so.debug");
    let file = if debug.exists() { debug } else { tracer() };
    tool_on(&file, "nm", &["-C", "--defined-only"])
}

/// What a tool of binutils says of a file.
pub fn tool_on(file: &Path, name: &str, args: &[&str]) -> String {
    let output = Command::new(machine().tool(name)).args(args).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("{name}, of binutils, is needed: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `cargo build` made of a package, in this test's profile; never what an earlier source made.
fn built(name: &str, package: &str, folder: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let target = profile.parent().unwrap();
    let path = target.join(folder).join(profile.file_name().unwrap()).join(name);
    let built = fs::metadata(&path).and_then(|file| file.modified());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let newest = ["prof", package].map(|package| newest(&workspace.join(package).join("src")));
    let fresh = built.is_ok_and(|built| newest.into_iter().all(|source| source <= built));
    assert!(fresh, "{name} is missing, or older than its sources: run `cargo build -p {package}` first");
    path
}

/// When a file below a folder was last changed.
fn newest(folder: &Path) -> SystemTime {
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    };
    fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// One program, to be run with and without the tracer.
pub struct Case {
    program: PathBuf,
    args: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    /// Further libraries, behind the tracer, in both runs.
    preloads: Vec<PathBuf>,
    settings: String,
    limit: Duration,
}

/// What a run showed to the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

/// A process of a traced run whose outside was the same as the untraced run's: the program itself, or, with a role, one that
/// it made.
#[derive(Clone)]
pub struct Traced {
    pub outcome: Outcome,
    pub profile: PathBuf,
    role: Option<String>,
    directory: Arc<TempDir>,
}

impl Case {
    pub fn new(source: &str) -> Case {
        Case::of(compiled(source, source.split('.').next().unwrap(), &[]))
    }

    pub fn of(program: PathBuf) -> Case {
        Case {
            program,
            args: Vec::new(),
            variables: Vec::new(),
            preloads: Vec::new(),
            settings: machine().modes[0].into(),
            limit: Duration::from_secs(60) * machine().patience,
        }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Case {
        self.args.push(arg.into());
        self
    }

    /// Gives it so many times as long to end.
    pub fn patiently(mut self, times: u32) -> Case {
        self.limit *= times;
        self
    }

    /// A variable of the environment, in both runs.
    pub fn variable(mut self, name: &'static str, value: &'static str) -> Case {
        self.variables.push((name, value));
        self
    }

    /// A library that is preloaded behind the tracer, in both runs.
    pub fn preload(mut self, library: PathBuf) -> Case {
        self.preloads.push(library);
        self
    }

    /// `LIBTRACE` but for `out`.
    pub fn settings(mut self, settings: &str) -> Case {
        self.settings = settings.into();
        self
    }

    /// How long it may take.
    pub fn limit(mut self, limit: Duration) -> Case {
        self.limit = limit;
        self
    }

    /// Runs both ways; stdout, stderr and exit status have to be the same.
    pub fn unchanged(self) -> Traced {
        let directory = tempfile::tempdir().unwrap();
        let profile = directory.path().join("run.prof");
        let untraced = self.run(directory.path(), None);
        let settings = format!("out={},{}", profile.display(), self.settings);
        let outcome = self.run(directory.path(), Some(&settings));
        assert_eq!(untraced, outcome, "untraced (left) and traced (right) differ");
        Traced::of(outcome, profile, directory)
    }

    /// One run in `directory`, under the tracer when there are settings.
    pub fn run(&self, directory: &Path, settings: Option<&str>) -> Outcome {
        let (stdout, stderr) = (directory.join("stdout"), directory.join("stderr"));
        let libraries = settings.map(|_| tracer()).into_iter().chain(self.preloads.iter().cloned());
        let libraries: Vec<_> = libraries.collect();
        let mut command = machine().command(&self.program, &libraries);
        command.args(&self.args).envs(self.variables.iter().copied());
        command.current_dir(directory).stdin(Stdio::null());
        command.stderr(File::create(&stderr).unwrap());
        if let Some(settings) = settings {
            command.env("LIBTRACE", settings);
        }
        let status = Running::start(command, &stdout).wait(self.limit);
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Outcome { stdout: read(stdout), stderr: read(stderr), status }
    }
}

/// Bytes and blocks.
pub type Amount = (i64, i64);

/// One stack of `analyzer diff`, whole run.
pub struct Stack {
    pub retained: Amount,
    /// Leaf first.
    pub frames: Vec<String>,
}

impl Traced {
    /// A run's outcome, and its profile in a directory that goes with it.
    pub fn of(outcome: Outcome, profile: PathBuf, directory: TempDir) -> Traced {
        Traced { outcome, profile, role: None, directory: Arc::new(directory) }
    }

    /// The process that took a role.
    pub fn process(&self, role: &str) -> Traced {
        let pid = fs::read_to_string(self.directory.path().join(format!("pid.{role}"))).expect("a process");
        self.file(&pid, role)
    }

    /// As the process of the file `run.NAME.prof`, with a role.
    pub fn file(&self, name: &str, role: &str) -> Traced {
        let profile = self.directory.path().join(format!("run.{name}.prof"));
        Traced { profile, role: Some(role.to_owned()), ..self.clone() }
    }

    /// The program's own file, with a role.
    pub fn acting(&self, role: &str) -> Traced {
        Traced { role: Some(role.to_owned()), ..self.clone() }
    }

    /// Names of the files that the run left, but for those of its output.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".prof"));
        names.sort();
        names
    }

    /// What the process says of itself in lines of `kind`: site to amount.
    pub fn truth(&self, kind: &str) -> BTreeMap<String, Amount> {
        let kind = self.role.as_ref().map_or(kind.to_owned(), |role| format!("{kind}:{role}"));
        let words = self.outcome.stdout.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let lines = words.filter(|words| words.len() == 4 && words[0] == kind);
        let number = |word: &str| word.parse().expect("a number");
        lines.map(|words| (words[1].to_owned(), (number(words[2]), number(words[3])))).collect()
    }

    /// What was allocated during the run and still live at its end; in a process with a role, what is live at its end.
    pub fn stacks(&self) -> Vec<Stack> {
        let at = |instant| format!("{}@{instant}", self.profile.display());
        let before = match &self.role {
            None => at("start"),
            // Another run, in which nothing is live.
            Some(_) => {
                let empty = self.directory.path().join("empty");
                let mut file = prof::Header::new([0; 16]).to_bytes().to_vec();
                let mut records = prof::RecordWriter::new(prof::Nanos(0));
                records.push(&prof::Record::Complete { time: prof::Nanos(0) });
                prof::block::write(&mut file, prof::BlockKind::Records, records.time(), records.payload());
                fs::write(&empty, file).unwrap();
                empty.display().to_string()
            }
        };
        let diff = analyzer(&["diff", &before, &at("end"), "--json"]);
        assert_eq!(diff["lost_events"], 0, "events were lost");
        let amount = |stack: &Value, key: &str| stack[key].as_i64().expect("an integer");
        let names = |stack: &Value| {
            let frames = stack["frames"].as_array().expect("frames").iter();
            frames.map(|frame| frame["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let stacks = diff["stacks"].as_array().expect("stacks").iter();
        let stack = |stack: &Value| Stack {
            retained: (amount(stack, "retained_bytes"), amount(stack, "retained_count")),
            frames: names(stack),
        };
        stacks.map(stack).collect()
    }

    /// Live amounts per site as the analyzer sees them. A stack belongs to the site nearest to its leaf.
    pub fn measured(&self) -> BTreeMap<String, Amount> {
        let mut sites: BTreeMap<_, _> = self.truth("live").into_keys().map(|site| (site, (0, 0))).collect();
        for stack in self.stacks() {
            if let Some(site) = stack.frames.iter().find(|name| sites.contains_key(*name)) {
                let amount = sites.get_mut(site).unwrap();
                *amount = (amount.0 + stack.retained.0, amount.1 + stack.retained.1);
            }
        }
        sites
    }

    /// Profile and program agree on every live byte and block of every site.
    pub fn exact(self) -> Traced {
        let truth = self.truth("live");
        assert!(!truth.is_empty(), "the program printed no live line");
        assert_eq!(self.measured(), truth, "measured (left) and true (right) live bytes and blocks differ");
        self
    }

    /// The stacks of one site; there is at least one.
    pub fn stacks_of(&self, site: &str) -> Vec<Stack> {
        let here = |stack: &Stack| stack.frames.iter().any(|name| name == site);
        let stacks: Vec<_> = self.stacks().into_iter().filter(here).collect();
        assert!(!stacks.is_empty(), "no stack of {site}");
        stacks
    }

    /// Every stack of every site goes back to `root`.
    pub fn rooted_in(self, root: &str) -> Traced {
        let sites = self.truth("live");
        for Stack { frames, .. } in self.stacks() {
            let of_a_site = frames.iter().any(|name| sites.contains_key(name));
            assert!(!of_a_site || frames.iter().any(|name| name == root), "cut short: {frames:#?}");
        }
        self
    }
}

/// The analyzer, without arguments.
pub fn analyzer_command() -> Command {
    Command::new(built("analyzer", "analyzer", ""))
}

/// The JSON that an analyzer command prints.
pub fn analyzer(args: &[&str]) -> Value {
    let done = analyzer_command().args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "analyzer {args:?}: {}: {stderr}", done.status);
    serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|error| panic!("analyzer {args:?}: {error}: {stderr}"))
}
