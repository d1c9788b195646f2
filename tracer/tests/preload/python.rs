//! Python's forked workers, which leave by `os._exit`.

use crate::harness::{Case, analyzer, machine};
use std::path::{Path, PathBuf};

/// The interpreter itself: a script that finds one, as version managers have it, is not what forks.
fn python() -> Option<PathBuf> {
    let found =
        ["/usr/bin/python3", "/usr/local/bin/python3"].iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned)
}

fn workers_leave_complete_files(settings: &str) {
    const EPOCHS: usize = 3;
    const WORKERS: usize = 4;
    if !machine().runs_programs_of_this_system() {
        eprintln!("skipped: the library is not for the programs of this system");
        return;
    }
    let Some(python) = python() else {
        eprintln!("skipped: there is no python3 in /usr/bin or /usr/local/bin");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/preload/workers.py");
    let case =
        Case::of(python).arg(script.to_str().unwrap()).arg(EPOCHS.to_string()).arg(WORKERS.to_string());
    // Without it most allocations come out of Python's own pools.
    let traced = case.variable("PYTHONMALLOC", "malloc").settings(settings).unchanged();
    let files = traced.files();
    assert_eq!(files.len(), 1 + EPOCHS * WORKERS, "{files:?}");
    for name in files.iter().filter_map(|name| name.strip_prefix("run.")?.strip_suffix(".prof")) {
        let path = traced.file(name, "worker").profile;
        let info = analyzer(&["info", path.to_str().unwrap(), "--json"]);
        assert_eq!((&info["ended"], &info["lost_events"]), (&"the process exited".into(), &0.into()));
        let report = analyzer(&["report", path.to_str().unwrap(), "--json"]);
        let warnings = report["warnings"].to_string();
        assert!(
            !warnings.contains("inherited") && !warnings.contains("another was still live"),
            "{warnings}"
        );
        // The data set: 2000 objects of 448 bytes in the mean and their headers.
        let diff =
            analyzer(&["diff", &format!("{}@start", path.display()), path.to_str().unwrap(), "--json"]);
        assert!(diff["before"]["live_bytes"].as_i64().unwrap() > 900_000, "{}", diff["before"]);
    }
}

#[test]
fn workers_with_every_allocation() {
    workers_leave_complete_files("interval=every,lossless=on");
}

#[test]
fn workers_with_samples() {
    workers_leave_complete_files("interval=4k");
}
