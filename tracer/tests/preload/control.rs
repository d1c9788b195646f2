//! The commands of the control socket.

use crate::controlled::{Controlled, ctl, done, grown_in, wait_until};
use crate::harness::{analyzer, analyzer_command, machine};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_mark_names_an_instant_for_every_command() {
    for &mode in machine().modes {
        let mut program = Controlled::start(mode);
        program.tell("grow 10");
        let said = program.ctl(&["mark", "model v2"]);
        assert!(said.starts_with("marked ") && said.ends_with("run.prof@model v2\n"), "{said}");
        program.tell("grow 5");
        program.tell("drop 1");
        program.ctl(&["mark", "v3"]);
        program.tell("grow 2");
        assert_eq!(program.quit(), "");
        assert_eq!(program.grown("start", "model v2"), (10_000, 10));
        assert_eq!(program.grown("model v2", "v3"), (5_000, 5));
        assert_eq!(program.grown("v3", "end"), (2_000, 2));

        let path = program.profile.to_str().unwrap();
        let report = analyzer(&["report", path, "--span", "model v2..v3", "--json"]);
        assert_eq!(grown_in(&report["growth"]), (5_000, 5));
        let out = program.directory.path().join("out");
        let out = out.to_str().unwrap();
        let at = format!("{path}@v3");
        wrote(analyzer_command().args(["export", &at, "--format", "folded", "-o", out]));
        let folded = fs::read_to_string(out).unwrap();
        let line = folded.lines().find(|line| line.contains("at_grow")).unwrap();
        assert!(line.ends_with(" 14000"), "{line}");
        for value in ["live", "peak", "allocated"] {
            wrote(analyzer_command().args(["flamegraph", &at, "--value", value, "-o", out]));
            assert!(fs::read_to_string(out).unwrap().contains("at_grow"), "{value}");
        }
        let marks = analyzer(&["info", path, "--json"])["marks"].to_string();
        assert!(marks.contains("model v2") && marks.contains("v3"), "{marks}");
    }
}

/// A command that may miss the symbols of the C library, as with an emulator's.
fn wrote(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// At an instant that is marked, blocks live that die before the next flush.
#[test]
fn a_mark_has_what_dies_soon_after() {
    let mut program = Controlled::start("interval=2,settle=60m");
    program.tell("grow 10");
    program.ctl(&["mark", "full"]);
    program.tell("drop 10");
    program.quit();
    assert_eq!((program.grown("start", "full"), program.grown("start", "end")), ((10_000, 10), (0, 0)));
}

#[test]
fn after_a_flush_a_copy_has_everything() {
    for &mode in machine().modes {
        let mut program = Controlled::start(&format!("{mode},settle=60m"));
        program.tell("grow 10");
        let said = program.ctl(&["flush"]);
        assert!(said.contains("run.prof is complete up to "), "{said}");
        program.kill();
        assert_eq!(program.grown("start", "end"), (10_000, 10));
    }
}

#[test]
fn what_is_allocated_in_a_pause_is_missing_and_what_is_freed_is_not() {
    for &mode in machine().modes {
        let mut program = Controlled::start(mode);
        program.tell("grow 10");
        program.ctl(&["pause"]);
        assert_eq!(program.status()["recording"], "paused");
        assert!(program.ctl_fails(&["pause"]).contains("paused already"));
        program.tell("grow 7");
        program.tell("drop 3");
        program.tell("resize 2");
        program.ctl(&["resume"]);
        assert_eq!(program.status()["recording"], "on");
        assert!(program.ctl_fails(&["resume"]).contains("not paused"));
        program.tell("grow 5");
        assert_eq!(program.quit(), "");
        // Of the first ten three were freed and two resized; seven were not seen.
        assert_eq!(program.grown("start", "end"), (10_000, 10));
        assert_eq!(program.grown("start", "pause"), (10_000, 10));
        assert_eq!(program.grown("start", "resume"), (5_000, 5));
        let report = analyzer(&["report", program.profile.to_str().unwrap(), "--json"]);
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("recording was paused from "), "{warnings}");
        assert_eq!(report["lost_events"], 0);
    }
}

/// What comes after a pause is freed as it was allocated: nothing of the pause is taken for it.
#[test]
fn blocks_of_a_pause_die_unseen() {
    for &mode in machine().modes {
        let mut program = Controlled::start(mode);
        program.ctl(&["pause"]);
        program.tell("grow 20");
        program.ctl(&["resume"]);
        program.tell("drop 20");
        program.tell("grow 4");
        program.tell("drop 1");
        assert_eq!(program.quit(), "");
        assert_eq!(program.grown("start", "end"), (3_000, 3));
    }
}

#[test]
fn recording_may_start_paused() {
    for &mode in machine().modes {
        let mut program = Controlled::start(&format!("{mode},start=paused"));
        program.tell("grow 10");
        program.ctl(&["resume"]);
        program.tell("grow 5");
        program.tell("drop 11");
        assert_eq!(program.quit(), "");
        assert_eq!(program.grown("start", "end"), (4_000, 4));
        let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
        assert!(info["pauses"][0]["to_s"].as_f64().unwrap() > 0.0, "{info}");
    }
}

#[test]
fn the_interval_of_samples_changes() {
    let mut program = Controlled::start("interval=64k");
    assert_eq!(program.status()["interval"], 64 << 10);
    program.ctl(&["interval", "2"]);
    assert_eq!((&program.status()["interval"], &program.status()["chosen"]), (&2.into(), &"fixed".into()));
    // A thread notices within 256 KiB.
    program.tell("grow 300");
    program.tell("drop 300");
    program.tell("grow 9");
    program.ctl(&["interval", "auto"]);
    assert_eq!(program.status()["chosen"], "auto");
    assert!(program.ctl_fails(&["interval", "every"]).contains("takes a new process"));
    assert!(program.ctl_fails(&["interval", "often"]).contains("expected auto or bytes, not 'often'"));
    program.quit();
    let (bytes, blocks) = program.grown("start", "end");
    assert!((9_000..9_100).contains(&bytes) && blocks == 9, "{bytes} {blocks}");
    let report = analyzer_command().arg("report").arg(&program.profile).output().unwrap();
    let said = String::from_utf8(report.stdout).unwrap();
    assert!(said.contains("samples every 2 B to "), "{said}");

    let mut every = Controlled::start("interval=every");
    assert!(every.ctl_fails(&["interval", "64k"]).contains("takes a new process"));
    every.quit();
}

#[test]
fn tracing_stops_and_the_program_goes_on() {
    for &mode in machine().modes {
        let mut program = Controlled::start(mode);
        program.tell("grow 10");
        let said = program.ctl(&["stop"]);
        assert!(said.starts_with("stopped at "), "{said}");
        assert!(!program.has_socket());
        program.tell("grow 10");
        program.tell("drop 15");
        // Its thread ends soon after it has answered, and the socket with it.
        wait_until("the socket is gone", || program.ctl_fails(&["status"]).contains("has no control socket"));
        if !machine().is_alone() {
            let threads = format!("/proc/{}/task", program.pid());
            wait_until("the library's threads end", || fs::read_dir(&threads).unwrap().count() == 1);
        }
        assert_eq!(program.quit(), "");
        assert_eq!(program.grown("start", "end"), (10_000, 10));
        let info = analyzer(&["info", program.profile.to_str().unwrap(), "--json"]);
        assert_eq!(info["ended"], "stopped over the control socket");
    }
}

#[test]
fn the_status_says_how_it_goes() {
    let mut program = Controlled::start("interval=2,settle=60m");
    program.tell("grow 10");
    program.ctl(&["flush"]);
    let status = program.status();
    assert_eq!(status["pid"].to_string(), program.pid());
    assert_eq!(status["file"].as_str(), program.profile.to_str());
    assert_eq!(status["bytes"].as_u64().unwrap(), fs::metadata(&program.profile).unwrap().len());
    assert!(status["live_samples"].as_u64().unwrap() >= 10, "{status}");
    assert!(status["complete_s"].as_f64().unwrap() <= status["now_s"].as_f64().unwrap(), "{status}");
    assert_eq!(status["lost_events"], 0);
    assert!(status["tracer_bytes"].as_u64().unwrap() > 10_000, "{status}");
    if !machine().is_alone() {
        assert_eq!(status["threads"], 1);
    }
    let words = program.ctl(&["status"]);
    assert!(words.contains("recording  on, interval 2 B (fixed)"), "{words}");
    let by_file = done(ctl(program.profile.to_str().unwrap(), &["status"]));
    let by_socket = done(ctl(program.socket().to_str().unwrap(), &["status"]));
    assert!(by_file.contains("threads") && by_socket.contains("threads"));
    program.quit();
}

fn trims(library: Option<&str>, function: &str) {
    let place = "/usr/lib/x86_64-linux-gnu/";
    let library = library.map(|name| format!("{place}{name}"));
    if let Some(path) = library.as_ref().filter(|path| !Path::new(path).exists()) {
        return eprintln!("skipped: {path} is not installed");
    }
    let libraries: Vec<&str> = library.iter().map(String::as_str).collect();
    let mut program =
        Controlled::start_in(tempfile::tempdir().unwrap(), "run.prof", "interval=1m", &libraries);
    program.tell("hold");
    let trimmed: serde_json::Value = serde_json::from_str(&program.ctl(&["trim", "--json"])).unwrap();
    assert_eq!(trimmed["function"], function);
    let bytes = |key: &str| trimmed[key].as_u64().unwrap();
    // Trimming itself may touch a page.
    assert!(bytes("resident_after") <= bytes("resident_before") + (64 << 10), "{trimmed}");
    // Other allocators have given most of it back by themselves.
    if library.is_none() {
        assert!(bytes("resident_after") + (70 << 20) < bytes("resident_before"), "{trimmed}");
        program.tell("hold");
        let words = program.ctl(&["trim"]);
        assert!(
            words.starts_with("malloc_trim gave back ") && words.contains("holding freed memory"),
            "{words}"
        );
    }
    assert_eq!(program.quit(), "");
    let marks = &analyzer(&["info", program.profile.to_str().unwrap(), "--json"])["marks"];
    assert_eq!(marks[0]["name"], "trim");
}

#[test]
fn the_c_library_gives_freed_memory_back() {
    trims(None, "malloc_trim");
}

#[test]
fn other_allocators_are_asked_in_their_own_way() {
    if !machine().runs_programs_of_this_system() {
        return eprintln!("skipped: the allocators of this system are not for that machine");
    }
    trims(Some("libjemalloc.so.2"), "mallctl arena.<all>.purge");
    trims(Some("libtcmalloc_minimal.so.4"), "MallocExtension_ReleaseFreeMemory");
    trims(Some("libmimalloc.so.2"), "mi_collect");
}
