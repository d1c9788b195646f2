//! Other allocators: preloaded behind the tracer, or ahead of it where it cannot see them.

use std::path::PathBuf;

use crate::harness::{Case, Traced, analyzer, compiled, machine, tracer};

/// A library that Debian's package `package` has, unless it is not installed, which is then said.
fn installed(name: &str, package: &str) -> Option<PathBuf> {
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: {package} is for the programs of this system");
        return None;
    }
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is missing: install {package}");
    }
    found
}

/// Every entry point and operator, blocks that cross threads: exact, in both modes, with another allocator behind the hooks.
fn behind(name: &str, package: &str) {
    let Some(library) = installed(name, package) else { return };
    for &mode in machine().modes {
        let run = |case: Case| case.preload(library.clone()).settings(mode).unchanged().exact();
        let traced = run(Case::new("entry_points.c")).rooted_in("main");
        run(Case::new("operators.cpp").arg("succeed")).rooted_in("main");
        run(Case::new("realloc_chain.c"));
        let info = analyzer(&["info", traced.profile.to_str().unwrap(), "--json"]);
        let named = info["facts"]["allocator"].as_str().unwrap().to_owned();
        assert!(named.contains(name.split('.').next().unwrap()), "the allocator is {named}");
        assert_eq!(info["warnings"].as_array().unwrap().len(), 0, "{}", info["warnings"]);
    }
    // Its blocks are too small for all to be among the samples.
    Case::new("threads.cpp").preload(library).unchanged().exact();
}

#[test]
fn jemalloc_behind_the_tracer() {
    behind("libjemalloc.so.2", "libjemalloc2");
}

#[test]
fn tcmalloc_behind_the_tracer() {
    behind("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4");
}

#[test]
fn mimalloc_behind_the_tracer() {
    behind("libmimalloc.so.2.0", "libmimalloc2.0");
}

/// The program runs as untraced, but for one line that names whose allocations are missing; so does the profile, in every
/// command. What is its own is exact.
fn uncovered(case: Case, owner: &str) {
    for mode in machine().modes.iter().map(|mode| format!("settle=10ms,{mode}")) {
        let directory = tempfile::tempdir().unwrap();
        let untraced = case.run(directory.path(), None);
        let profile = directory.path().join("run.prof");
        let settings = format!("out={},{mode}", profile.display());
        let traced = case.run(directory.path(), Some(&settings));
        assert_eq!((&untraced.stdout, untraced.status), (&traced.stdout, traced.status));
        let lines = traced.stderr.strip_prefix(&untraced.stderr).unwrap();
        let said = lines.starts_with("libtrace: ") && lines.contains(owner) && lines.contains("not recorded");
        assert!(said && lines.lines().count() == 1, "{lines}");
        for command in ["info", "report"] {
            let warnings = analyzer(&[command, profile.to_str().unwrap(), "--json"])["warnings"].to_string();
            assert!(warnings.contains(owner) && warnings.contains("not recorded"), "{command}: {warnings}");
        }
        if traced.stdout.contains("in_the_program ") {
            Traced::of(traced, profile, directory).exact().rooted_in("main");
        }
    }
}

#[test]
fn a_program_with_a_malloc_of_its_own() {
    uncovered(Case::of(compiled("own_malloc.c", "own_malloc", &["-fno-builtin"])), "own_malloc");
}

#[test]
fn jemalloc_linked_into_the_program() {
    let Some(library) = installed("libjemalloc.a", "libjemalloc-dev") else { return };
    let flags = [library.to_str().unwrap(), "-lm", "-lstdc++"];
    uncovered(
        Case::of(compiled("known_sites.cpp", "known_sites_jemalloc", &flags)).arg("1"),
        "known_sites_jemalloc",
    );
}

/// The order of `LD_PRELOAD` is the wrong one.
#[test]
fn an_allocator_ahead_of_the_tracer() {
    let Some(library) = installed("libjemalloc.so.2", "libjemalloc2") else { return };
    let directory = tempfile::tempdir().unwrap();
    let program = compiled("churn.c", "churn", &[]);
    let mut command = machine().command(&program, &[library, tracer()]);
    command.arg("1").env("LIBTRACE", "interval=every").current_dir(&directory);
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.starts_with("libtrace: ") && said.lines().count() == 1, "{said}");
    assert!(said.contains("libjemalloc.so.2") && said.contains("not recorded"), "{said}");
}

/// In such a program, which is how Debian links Python, the address of malloc is one of the program's own.
#[test]
fn a_program_that_takes_the_address_of_malloc() {
    let fixed = ["-no-pie", "-fno-pie"];
    let program = compiled("address_of_malloc.c", "address_of_malloc", &fixed);
    for &mode in machine().modes {
        let traced = Case::of(program.clone()).settings(mode).unchanged().exact();
        assert!(traced.outcome.stdout.starts_with("malloc is the program's\n"), "{}", traced.outcome.stdout);
    }
}

/// What the library allocates passes the tracer by, and what it does with the program's blocks too.
#[test]
fn a_library_that_looks_into_the_c_library_first() {
    let bind = |how: &str| {
        let flag = format!("-Wl,-z,{how}");
        let name = format!("deepbind_{how}.so");
        (compiled("deepbind_library.c", &name, &["-fPIC", "-shared", &flag]).display().to_string(), name)
    };
    for (how, (library, name)) in ["now", "lazy"].map(|how| (how, bind(how))) {
        uncovered(Case::new("deepbind.c").arg(library).arg(how), &name);
    }
}
