//! Processes that come from the traced one.

use crate::harness::{Case, Traced, analyzer, compiled, machine, tracer};
use crate::symbols::needed;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Parent, child and grandchild know all that each has live, from before its fork and from after it.
fn forks(end: &str) {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        let traced = Case::new("fork.c").arg(end).settings(mode).unchanged().exact();
        traced.process("child").exact();
        traced.process("grandchild").exact();
        assert_eq!(traced.files().len(), 3);
    }
}

#[test]
fn forked_children_return() {
    forks("return");
}

#[test]
fn forked_children_exit() {
    forks("exit");
}

#[test]
fn forked_children_call_underscore_exit() {
    forks("_exit");
}

#[test]
fn forked_children_call_quick_exit() {
    forks("quick_exit");
}

#[test]
fn a_childs_span_begins_with_its_fork() {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        let child = Case::new("fork.c").settings(mode).unchanged().process("child");
        let path = child.profile.to_str().unwrap();
        let diff = analyzer(&["diff", &format!("{path}@start"), path, "--json"]);
        assert_eq!((diff["meaning"].as_str(), diff["before"]["at_s"].as_f64()), (Some("matched"), Some(0.0)));
        // 60 blocks of 100 to 159 bytes before the fork, of which the first ten had been freed.
        assert!(diff["before"]["live_bytes"].as_i64().unwrap() >= (110..160).sum());
        // Of its own blocks the first 30 are left.
        let grown: Vec<_> =
            diff["stacks"].as_array().unwrap().iter().filter(|stack| is_of(stack, "at_second")).collect();
        let sum = |key: &str| grown.iter().map(|stack| stack[key].as_i64().unwrap()).sum::<i64>();
        assert_eq!((sum("retained_bytes"), sum("retained_count")), ((100..130).sum(), 30));
        assert!(
            diff["stacks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|stack| { !is_of(stack, "at_first") || stack["retained_bytes"] == 0 })
        );
    }
}

fn is_of(stack: &serde_json::Value, site: &str) -> bool {
    stack["frames"].as_array().unwrap().iter().any(|frame| frame["name"] == site)
}

#[test]
fn what_a_child_inherited_is_said_to_be_missing_with_its_parents_file() {
    if machine().is_alone() {
        return;
    }
    let traced = Case::new("fork.c").unchanged();
    let grandchild = traced.process("grandchild");
    let path = grandchild.profile.to_str().unwrap();
    assert_eq!(analyzer(&["report", path, "--json"])["warnings"].as_array().unwrap().len(), 0);
    fs::remove_file(&traced.profile).unwrap();
    let report = analyzer(&["report", path, "--json"]);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("inherited") && warnings.contains("run.prof"), "{warnings}");
    // What it allocated itself is known all the same: 20 blocks of 200 bytes.
    let third = report["growth"].as_array().unwrap().iter().find(|stack| is_of(stack, "at_third"));
    assert_eq!(third.unwrap()["retained_bytes"], 4000);
}

#[test]
fn forks_while_threads_allocate() {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        let traced = Case::new("fork_threads.c").arg("60").settings(mode).unchanged().exact();
        traced.process("child").exact();
        // Every fourth child records nothing, and leaves nothing.
        assert_eq!(traced.files().len(), 1 + 60 * 3 / 4);
        let readable = |name: &String| {
            let number = name.split('.').nth(1).filter(|number| number.parse::<u32>().is_ok())?;
            Some(traced.file(number, "any"))
        };
        for child in traced.files().iter().filter_map(readable) {
            let info = analyzer(&["info", child.profile.to_str().unwrap(), "--json"]);
            assert_eq!(info["ended"], "the process exited");
        }
    }
}

#[test]
fn daemons() {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        for how in ["daemon", "double"] {
            Case::new("daemon.c").arg(how).settings(mode).unchanged().process("daemon").exact();
        }
    }
}

#[test]
fn spawns() {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the library is not for the programs of this system");
        return;
    }
    for mode in machine().modes {
        let traced = Case::new("spawn.c").settings(mode).unchanged().exact();
        // Four children, and the shells of two of them: each has to stay for what follows.
        assert_eq!(traced.files().len(), 7, "{:?}", traced.files());
    }
}

#[test]
fn clones_on_a_stack_of_their_own() {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        let traced = Case::new("clone.c").settings(mode).unchanged().exact();
        assert_eq!(traced.files(), ["run.prof"]);
    }
}

#[test]
fn executes_itself_in_place() {
    if machine().is_alone() {
        return;
    }
    for mode in machine().modes {
        let traced = Case::new("exec.c").settings(mode).unchanged();
        for program in 0..8 {
            traced.file(&(program + 1).to_string(), &program.to_string()).exact();
        }
        traced.acting("8").exact();
        let ended =
            |file: Traced| analyzer(&["info", file.profile.to_str().unwrap(), "--json"])["ended"].to_string();
        assert_eq!(ended(traced.file("1", "")), "\"the process executed another program\"");
        assert_eq!(ended(traced.clone()), "\"the process exited\"");
    }
}

/// How many files a run leaves whose shell forks a program, and then becomes another.
fn followed(follow: &str) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = machine().command(Path::new("/bin/sh"), &[tracer()]);
    let program = compiled("fork.c", "fork", &[]);
    let line = format!("'{0}' return; exec '{0}' return", program.display());
    shell
        .args(["-c", &line])
        .current_dir(&directory)
        .env("LIBTRACE", format!("interval=every,follow={follow}"));
    let done = shell.output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(3), ""));
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter(|name| name.to_str().unwrap().ends_with(".prof")).count()
}

#[test]
fn follows_as_it_is_told() {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the library is not for the programs of this system");
        return;
    }
    // The shell, and of each program the parent, the child and the grandchild.
    assert_eq!(followed("all"), 7);
    assert_eq!(followed("exec"), 3);
    assert_eq!(followed("none"), 1);
    // The shell's child records before it executes the program, or not: that is the shell's affair.
    assert!((1..=2).contains(&followed("fork")));
}

/// Tools that are often run with the library preloaded by chance: they behave as always.
#[test]
fn tools_that_inherit_the_library() {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the library is not for the programs of this system");
        return;
    }
    let program = compiled("churn.c", "churn", &[]);
    let still = compiled("static.c", "static", &["-static"]);
    let directory = tempfile::tempdir().unwrap();
    let needed = needed();
    let commands = [
        vec![PathBuf::from("sh"), "-c".into(), "echo $(echo a | cat) | tr a b; (exit 3)".into()],
        vec!["env".into(), "-u".into(), "LIBTRACE".into(), "true".into()],
        vec!["ldd".into(), program.clone()],
        vec![still],
    ];
    for command in commands {
        let run = |preload: bool| {
            let mut tool = Command::new(&command[0]);
            tool.args(&command[1..]).current_dir(&directory).env_remove("LD_PRELOAD");
            if preload {
                tool.env("LD_PRELOAD", tracer()).env("LIBTRACE", "interval=every");
            }
            let done = tool.output().unwrap();
            // Addresses differ from run to run, and ldd lists the library too, with what it needs.
            let lines = String::from_utf8(done.stdout).unwrap();
            let words = |line: &str| {
                line.split_whitespace().filter(|word| !word.starts_with("(0x")).collect::<Vec<_>>().join(" ")
            };
            let lines: Vec<String> = lines
                .lines()
                .map(words)
                .filter(|line| {
                    !line.contains("libtrace.so") && !needed.iter().any(|name| line.starts_with(name))
                })
                .collect();
            (lines, String::from_utf8(done.stderr).unwrap(), done.status)
        };
        assert_eq!(run(false), run(true), "{command:?}");
    }
}

/// The loader ignores the library where a program runs with its owner's rights.
#[test]
fn setuid_programs_are_left_alone() {
    if machine().is_alone() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("churn");
    fs::copy(compiled("churn.c", "churn", &[]), &program).unwrap();
    let prepared = [("chown", "nobody"), ("chmod", "u+s")].iter().all(|(tool, how)| {
        Command::new(tool)
            .arg(how)
            .arg(&program)
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    if !prepared {
        eprintln!("skipped: only root can make a program that runs with another's rights");
        return;
    }
    let mut command = Command::new(&program);
    command.arg("1").env("LD_PRELOAD", tracer()).env("LIBTRACE", "interval=every").current_dir(&directory);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["churn"], "nothing was recorded");
}

/// The loader refuses the library, which is for another class of programs, says so itself, and goes on.
#[test]
fn programs_of_32_bits_run_untraced() {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the library is not for the programs of this system");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("narrow");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/preload/narrow.c");
    let built = Command::new("gcc").arg("-m32").arg(source).arg("-o").arg(&program).output().unwrap();
    if !built.status.success() {
        eprintln!("skipped: gcc -m32 does not work here: install libc6-dev-i386 and lib32gcc-NUMBER-dev");
        return;
    }
    let mut command = machine().command(&program, &[tracer()]);
    let done = command.env("LIBTRACE", "interval=every").current_dir(&directory).output().unwrap();
    assert_eq!(
        (done.status.code(), String::from_utf8_lossy(&done.stdout).as_ref()),
        (Some(5), "4 bytes an address\n")
    );
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.lines().count() == 1 && said.contains("libtrace.so") && said.contains("cannot be preloaded"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing was recorded");
}
