//! A process of each class of verdict, of which the truth is known: `analyzer report` says what it is, where, and how much.
//!
//! Where every allocation is recorded, bytes of stacks are exact. Estimates are allowed 2.6 times the half of their 95 %
//! interval that lies on the truth's side: five standard deviations, so that no run in a million fails by chance. Of memory
//! in RAM the kernel counts pages, and the allocator and the C library need some of it for themselves: its parts are allowed
//! a twentieth. The tracer's own memory, which is some megabytes here and measured, is left out of account.

use crate::controlled::{LIMIT, ctl, done, wait_until};
use crate::hang::Running;
use crate::harness::{Outcome, Traced, analyzer, analyzer_command, compiled, machine, tracer};
use prof::record::Vital;
use prof::{BlockKind, Reader, Record};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EVERY: &str = "interval=every,lossless=on";
const AUTO: &str = "interval=auto";

/// Runs last some seconds: their memory is looked at more often than by itself.
const FINE: &str = "settle=50ms,vitals=100ms";

/// Seconds from one of a program's ticks to the next.
const TICK: f64 = 0.05;

/// What is reported of a run.
struct Known {
    is_exact: bool,
    run: Traced,
    json: Value,
    /// Its words, wherever lines are broken.
    text: String,
}

/// What is done while a program waits: with its process id, and its file.
type Act = dyn Fn(u32, &Path) + Sync;

/// Runs a behaviour in both modes at once, and has what is reported of each looked at.
fn known(behaviour: &str, look: impl Fn(&Known) + Sync) {
    known_with(behaviour, None, look);
}

/// The same; `act` is given the process and its file when it waits.
fn known_with(behaviour: &str, act: Option<&Act>, look: impl Fn(&Known) + Sync) {
    if machine().is_emulated() {
        return eprintln!(
            "skipped: in an emulator, memory is the emulator's, and looking at it takes too long"
        );
    }
    std::thread::scope(|scope| {
        for settings in [EVERY, AUTO] {
            let look = &look;
            scope.spawn(move || {
                let run = run(command(behaviour), settings, act);
                look(&Known::of(run, settings));
            });
        }
    });
}

fn command(behaviour: &str) -> Command {
    let mut command = machine().command(&compiled("verdicts.c", "verdicts", &[]), &[tracer()]);
    command.arg(behaviour);
    command
}

/// One run, which has to end well.
fn run(mut command: Command, settings: &str, act: Option<&Act>) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("run.prof");
    command.current_dir(directory.path()).env("LIBTRACE", format!("out=run.prof,{settings},{FINE}"));
    let (stdout, stderr) = (directory.path().join("stdout"), directory.path().join("stderr"));
    let read = |path| fs::read_to_string(path).unwrap();
    command.stdin(Stdio::piped()).stderr(File::create(&stderr).unwrap());
    let mut running = Running::start(command, &stdout);
    if let Some(act) = act {
        wait_until("the program waits", || read(&stdout).contains("waiting\n"));
        act(running.child.id(), &profile);
        running.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
    let status = running.wait(LIMIT);
    let outcome = Outcome { stdout: read(&stdout), stderr: read(&stderr), status };
    assert!(status.success() && outcome.stderr.is_empty(), "{status}: {}", outcome.stderr);
    Traced::of(outcome, profile, directory)
}

fn as_integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))
}

fn as_number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The stack that goes through a function.
fn of_function<'a>(stacks: &'a Value, name: &str) -> &'a Value {
    let is_it = |stack: &&Value| {
        stack["frames"].as_array().expect("frames").iter().any(|frame| frame["name"] == name)
    };
    let found = stacks.as_array().expect("stacks").iter().find(is_it);
    found.unwrap_or_else(|| panic!("no stack of {name} in {stacks:#}"))
}

/// Within a share of what it should be.
#[track_caller]
fn is_near(what: &str, value: f64, truth: f64, share: f64) {
    assert!(
        (value - truth).abs() <= truth * share,
        "{what}: {value}, which should be {truth} within {share}"
    );
}

/// Whether the truth lies in an interval of 5 standard deviations around an estimate.
#[track_caller]
fn is_within(what: &str, value: &Value, interval: &Value, truth: f64) {
    let (value, low, high) = (as_number(value), as_number(&interval[0]), as_number(&interval[1]));
    let holds = (value - 2.6 * (value - low)..=value + 2.6 * (high - value)).contains(&truth);
    assert!(holds, "{what}: {value} ({low} to {high}), which should be {truth}");
}

impl Known {
    fn of(run: Traced, settings: &str) -> Known {
        let file = run.profile.to_str().unwrap();
        let json = analyzer(&["report", file, "--json"]);
        let report = done(analyzer_command().args(["report", file]).output().unwrap());
        let text = report.split_whitespace().collect::<Vec<_>>().join(" ");
        let known = Known { is_exact: settings == EVERY, run, json, text };
        let parts = known.json["parts"].as_object().expect("parts");
        let sum: i64 = parts.values().filter_map(Value::as_i64).sum();
        assert_eq!(known.json["growth_bytes"], sum, "the parts add up");
        known
    }

    /// Its class, in the words that the report opens with, and in what it says further.
    #[track_caller]
    fn is(&self, class: &str, says: &[&str]) {
        let verdict = &self.json["verdict"];
        assert_eq!(verdict["class"], class, "{:#}\n{}", self.json["parts"], self.text);
        assert!(self.text.starts_with(&format!("VERDICT {class} ")), "{}", self.text);
        for words in says {
            assert!(self.text.contains(words), "no {words:?} in {}", self.text);
        }
    }

    #[track_caller]
    fn does_not_say(&self, words: &str) {
        assert!(!self.text.contains(words), "{words:?} in {}", self.text);
    }

    /// What the program says of a function: bytes and blocks, or what it has said there.
    fn truth(&self, kind: &str, function: &str) -> (i64, i64) {
        self.run.truth(kind)[function]
    }

    /// What a stack of the growth is, of which the bytes and blocks are checked.
    #[track_caller]
    fn grown(&self, function: &str, shape: &str) -> &Value {
        let stack = of_function(&self.json["growth"], function);
        let (bytes, blocks) = self.truth("live", function);
        if self.is_exact {
            assert_eq!((&stack["retained_bytes"], &stack["retained_count"]), (&bytes.into(), &blocks.into()));
        } else {
            is_within("retained bytes", &stack["retained_bytes"], &stack["ci95"], bytes as f64);
            is_within("retained blocks", &stack["retained_count"], &stack["count_ci95"], blocks as f64);
        }
        assert_eq!(stack["shape"], shape, "{stack:#}");
        stack
    }

    fn part(&self, name: &str) -> i64 {
        as_integer(&self.json["parts"][name])
    }

    /// Bytes per second that a function's blocks become more by: every tick as many.
    fn slope(&self, function: &str) -> f64 {
        let (first, last) = self.truth("ticks", function);
        self.truth("live", function).0 as f64 / (TICK * (last - first + 1) as f64)
    }

    /// The named parts are nearly all that the process grew by.
    #[track_caller]
    fn is_mostly(&self, parts: &[&str]) {
        self.is_mostly_within(parts, 0.05);
    }

    #[track_caller]
    fn is_mostly_within(&self, parts: &[&str], share: f64) {
        let bytes: i64 = parts.iter().map(|name| self.part(name)).sum();
        let all = as_integer(&self.json["growth_bytes"]) - self.part("tracer");
        is_near(&format!("{parts:?} of {:#}", self.json["parts"]), bytes as f64, all as f64, share);
    }

    /// The first of the stacks that hold something, with its bytes and number.
    #[track_caller]
    fn is_held(&self, holders: &Value, function: &str, (bytes, count): (i64, i64)) {
        let first = &holders[0];
        let held = (&first["frames"][0]["name"], &first["bytes"], &first["now_count"]);
        assert_eq!(held, (&function.into(), &bytes.into(), &count.into()), "{holders:#}");
    }
}

#[test]
fn a_leak() {
    known("leak", |known| {
        known.is("live-growth", &["has not stopped: a leak", "Most comes from leak < live_leak < main"]);
        let stack = known.grown("leak", "steady");
        is_within("slope", &stack["slope_bytes_per_s"], &stack["slope_ci95"], known.slope("leak"));
        // It grows up to its end, and the last look at the allocator may be some ticks older than the one at the process.
        known.is_mostly_within(&["live", "allocator_overhead"], 0.1);
    });
}

/// A session that has leaked frees it all when it is closed: what is live at the process's end says nothing of it.
#[test]
fn a_leak_that_is_freed_at_the_end() {
    known("closed", |known| {
        let words =
            ["where the process began to exit", "Most comes from leak < closed < main", "F@50% F@exit"];
        known.is("live-growth", &words);
        assert_eq!(known.json["span"]["before_exit"], true, "{:#}", known.json["span"]);
        let stack = known.grown("leak", "steady");
        is_within("slope", &stack["slope_bytes_per_s"], &stack["slope_ci95"], known.slope("leak"));
        let file = known.run.profile.to_str().unwrap();
        let diff = |to: &str| analyzer(&["diff", &format!("{file}@start"), &format!("{file}{to}"), "--json"]);
        let (before, after) = (diff("@exit"), diff(""));
        let retained = |diff: &Value| as_integer(&diff["retained_bytes"]);
        assert!(retained(&after) < retained(&before) / 10, "{before:#} {after:#}");
        let warning = after["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.contains("@exit, at "), "{after:#}");
    });
}

#[test]
fn arenas_of_64_threads() {
    known("arenas", |known| {
        let pid = format!("analyzer ctl {} trim", pid(known));
        let words = ["Not a leak", &pid, "MALLOC_ARENA_MAX=2", "libjemalloc", "Fewer threads: there were 65"];
        known.is("allocator-retention", &words);
        known.does_not_say("MALLOC_MMAP_THRESHOLD_");
        let (bytes, _) = known.truth("peak", "work");
        let peak = &known.json["peak_stacks"][0];
        assert_eq!(peak["frames"][0]["name"], "work", "{peak:#}");
        is_within("live at the peak", &peak["live_bytes"], &peak["live_ci95"], bytes as f64);
        is_near("held", known.part("allocator_held") as f64, bytes as f64, 0.1);
        known.is_mostly(&["allocator_held", "thread_stacks", "allocator_overhead"]);
        let creators = &known.json["threads"]["created_by"];
        assert_eq!(
            (&creators[0]["frames"][0]["name"], &creators[0]["now_count"]),
            (&"create_servers".into(), &64.into())
        );
    });
}

fn pid(known: &Known) -> String {
    let info = analyzer(&["info", known.run.profile.to_str().unwrap(), "--json"]);
    info["facts"]["pid"].as_str().expect("a process id").to_owned()
}

#[test]
fn a_raised_threshold() {
    known("threshold", |known| {
        known.is(
            "allocator-retention",
            &["Not a leak", "MALLOC_MMAP_THRESHOLD_=131072", "64.0 MiB of what was live"],
        );
        known.does_not_say("MALLOC_ARENA_MAX");
        known.does_not_say("Fewer threads");
        let (bytes, _) = known.truth("peak", "batch");
        let peak = &known.json["peak_stacks"][0];
        // Blocks of 8 MiB are all recorded.
        assert_eq!((&peak["frames"][0]["name"], &peak["live_bytes"]), (&"batch".into(), &bytes.into()));
        is_near("held", known.part("allocator_held") as f64, bytes as f64, 0.05);
        known.is_mostly(&["allocator_held"]);
    });
}

#[test]
fn threads_and_their_stacks() {
    known("threads", |known| {
        known
            .is("thread-growth", &["Most threads are created by create_worker < threads < main: 64 of them"]);
        known.is_held(
            &known.json["threads"]["created_by"],
            "create_worker",
            known.truth("thread", "create_worker"),
        );
        assert_eq!(known.json["threads"]["peak"], 65);
        is_near("stacks", known.part("thread_stacks") as f64, 32.0 * 1048576.0, 0.05);
        known.is_mostly(&["thread_stacks"]);
    });
}

#[test]
fn mapped_memory() {
    known("mappings", |known| {
        known.is("mapped-growth", &["Most is mapped by map_more < mappings < main: 40.0 MiB in 80 mappings"]);
        let truth = known.truth("mapping", "map_more");
        known.is_held(&known.json["mapped_by"], "map_more", truth);
        is_near("mapped", known.part("mapped") as f64, truth.0 as f64, 0.05);
        known.is_mostly(&["mapped"]);
    });
}

#[test]
fn a_warm_up_that_has_ended() {
    known("warm-up", |known| {
        known.is("warm-up", &["has stopped growing: a warm-up that has ended", "Most of it is live heap"]);
        known.grown("fill", "warm-up");
        known.is_mostly(&["live", "allocator_overhead"]);
    });
}

#[test]
fn a_sawtooth() {
    known("sawtooth", |known| {
        known.is("none", &["Nothing grows that counts: the live heap goes up and down by"]);
        let stack = known.grown("buffer", "sawtooth");
        let (first, second) = known.truth("ticks", "buffer");
        is_within("period", &stack["period_s"], &stack["period_ci95"], TICK * (second - first) as f64);
        let (height, _) = known.truth("peak", "buffer");
        is_within("amplitude", &stack["amplitude_bytes"], &stack["amplitude_ci95"], height as f64);
    });
}

#[test]
fn a_step_at_a_mark() {
    let mark = |pid: u32, _: &Path| {
        done(ctl(&pid.to_string(), &["mark", "second model"]));
    };
    known_with("step", Some(&mark), |known| {
        known.is(
            "warm-up",
            &["grew at one moment, by 32.", "at the mark 'second model'", "a step, and no leak"],
        );
        let stack = known.grown("load", "step");
        // A block of 32 MiB is recorded at any interval.
        let (bytes, _) = known.truth("live", "load");
        assert_eq!((&stack["retained_bytes"], &stack["step_bytes"]), (&bytes.into(), &bytes.into()));
        assert_eq!(stack["step_mark"], "second model");
        known.is_mostly(&["live", "allocator_overhead"]);
    });
}

#[test]
fn inherited_pages_that_become_its_own() {
    let child = |directory: &Path| fs::read_to_string(directory.join("pid.child")).expect("a child");
    // The first look at what is its own comes before it writes to any of it.
    let wait = move |_: u32, profile: &Path| {
        let directory = profile.parent().unwrap();
        let file = directory.join(format!("run.{}.prof", child(directory)));
        wait_until("what is the child's own is known", || states(&file, Vital::Uss));
    };
    known_with("copy-on-write", Some(&wait), |parent| {
        let directory = parent.run.profile.parent().unwrap();
        let settings = if parent.is_exact { EVERY } else { AUTO };
        let known = Known::of(parent.run.file(&child(directory), "child"), settings);
        let words =
            ["Not growth of the heap", "pages that this process inherited", "copy-on-write", "gc.freeze"];
        known.is("copy-on-write", &words);
        let (bytes, blocks) = known.truth("live", "prepare");
        // With the allocator's header of each.
        let pages = (bytes + 16 * blocks) as f64;
        is_near("copied", known.part("copy_on_write") as f64, pages, 0.05);
        known.is_mostly(&["copy_on_write"]);
        assert!(as_integer(&known.json["rss_growth_bytes"]).abs() < 1 << 20, "{:#}", known.json["parts"]);
        // What the parent has taken, it took while it began.
        parent.is("warm-up", &[]);
        parent.is_mostly(&["live", "allocator_overhead"]);
    });
}

/// Whether a file that is being written says something of a vital.
fn states(file: &Path, vital: Vital) -> bool {
    let Some(mut reader) = File::open(file).ok().and_then(|file| Reader::new(BufReader::new(file)).ok())
    else {
        return false;
    };
    while let Ok(Some(block)) = reader.next_block() {
        let records = (block.kind == BlockKind::Records).then(|| block.records());
        let states = |record| matches!(record, Ok(Record::Vitals { values, .. }) if values.iter().any(|of| of.0 == vital));
        if records.into_iter().flatten().any(states) {
            return true;
        }
    }
    false
}

#[test]
fn nothing() {
    known("nothing", |known| {
        known.is("none", &["Nothing grows that counts."]);
        let others = as_integer(&known.json["growth_bytes"]) - known.part("tracer");
        assert!(others < 1 << 20, "{:#}", known.json["parts"]);
    });
}

/// A control group for memory with a limit, gone with its last process.
struct Group(PathBuf);

impl Group {
    /// Of version 2 or 1, where this process may make one.
    fn new(limit: u64) -> Result<Group, String> {
        let name = format!("libtrace-test-{}", std::process::id());
        let hierarchies =
            [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        let mut why = "no hierarchy for memory".to_owned();
        for (top, file) in hierarchies {
            let group = Group(Path::new(top).join(&name));
            // What is mounted there need not be a hierarchy.
            let made = fs::metadata(Path::new(top).join("cgroup.procs"))
                .and_then(|_| fs::create_dir(&group.0))
                .and_then(|()| fs::write(group.0.join(file), limit.to_string()));
            match made {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}: {error}", group.0.display()),
            }
        }
        Err(why)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_limit_of_a_control_group() {
    const LIMIT: u64 = 512 << 20;
    if machine().is_emulated() {
        return eprintln!("skipped: in an emulator, memory is the emulator's");
    }
    let group = match Group::new(LIMIT) {
        Ok(group) => group,
        Err(why) => return eprintln!("skipped: no control group can be made: {why}"),
    };
    let traced = command("leak");
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&group.0).arg("env");
    let variables = traced.get_envs().filter_map(|(name, value)| Some((name, value?)));
    for (name, value) in variables {
        let mut setting = name.to_os_string();
        setting.push("=");
        setting.push(value);
        shell.arg(setting);
    }
    shell.arg(traced.get_program()).args(traced.get_args());
    let known = Known::of(run(shell, EVERY, None), EVERY);
    let said = &known.json["cgroup"];
    assert_eq!(said["limit_bytes"], LIMIT);
    known.is("live-growth", &["The control group's limit is 512 MiB", "at this rate it will be reached in"]);
    let used = as_number(&said["used_bytes"]);
    // Beside the process's memory the kernel's own for it is charged.
    assert!((60e6..200e6).contains(&used), "{used}");
    let verdict = &known.json["verdict"];
    let left = (LIMIT as f64 - used) / as_number(&verdict["rss_slope_bytes_per_s"]);
    is_near("seconds left", as_number(&said["reached_in_s"]), left, 0.001);
    let slope = known.slope("leak");
    is_within("slope of memory", &verdict["rss_slope_bytes_per_s"], &verdict["rss_slope_ci95"], slope);
}
