//! What the library exports and imports, against the lists beside this file.

use crate::harness::{is_released, machine, tool};

#[test]
fn exports_the_hooks_and_nothing_else() {
    let mut names: Vec<String> = tool("nm", &["-D", "--defined-only"])
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    names.sort();
    // Variable lists of arguments cannot be handed on without assembly.
    let lists = ["execl", "execle", "execlp"];
    let listed =
        include_str!("exported.txt").lines().filter(|name| machine().has_own_code || !lists.contains(name));
    assert_eq!(names, listed.collect::<Vec<_>>());
}

/// Names, and the glibc version that each is bound to, "" where to none.
fn imported() -> Vec<(String, String)> {
    let mut imported = Vec::new();
    for line in tool("readelf", &["--dyn-syms", "-W"]).lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let Some(["UND", symbol]) = words.get(6..8) {
            let (name, version) = symbol.split_once('@').unwrap_or((symbol, ""));
            imported.push((name.to_owned(), version.trim_start_matches('@').to_owned()));
        }
    }
    assert!(imported.iter().any(|(name, _)| name == "memcpy"), "{imported:?}");
    imported
}

#[test]
fn imports_nothing_but_what_is_listed() {
    let mut listed: Vec<_> = include_str!("imported.txt").lines().collect();
    if !machine().has_own_code {
        // Finds the thread's block.
        listed.push("pthread_getspecific");
    }
    let others: Vec<_> = imported()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !listed.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "not in imported.txt: {others:?}");
}

/// A library that is handed out binds to no symbol version later than glibc 2.17's, needs nothing but glibc, and says
/// which build it is. What `cargo build` makes binds to what this machine has.
#[test]
fn a_released_library_runs_from_glibc_2_17_on() {
    if !is_released() {
        eprintln!("not a released library: scripts/release --check tests one");
        return;
    }
    for (name, version) in imported() {
        let number = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
        // What is weak and bound to no version is looked up and done without where it is missing.
        let old = version.is_empty() || number(version.strip_prefix("GLIBC_").unwrap()) <= vec![2, 17];
        assert!(old, "{name}@{version}");
    }
    assert!(!needed().iter().any(|name| name.starts_with("libgcc_s")), "{:?}", needed());
    assert!(tool("readelf", &["-n"]).contains("Build ID"), "no build-id");
    assert!(tool("readelf", &["-SW"]).contains(".gnu_debuglink"), "no way to the debug file");
}

#[test]
fn uses_little_static_tls() {
    if !machine().has_own_code {
        eprintln!("skipped: on this processor the tracer has no static TLS of its own");
        return;
    }
    let headers = tool("readelf", &["-lW"]);
    let line = headers.lines().find(|line| line.trim_start().starts_with("TLS")).unwrap();
    let memory = line.split_whitespace().nth(5).unwrap().trim_start_matches("0x");
    assert!(u64::from_str_radix(memory, 16).unwrap() < 1024, "{line}");
    // Hooks reach their block at a fixed distance from the thread pointer, which the loader writes once.
    let relocations = tool("readelf", &["-rW"]);
    let fixed = |line: &&str| line.contains("R_X86_64_TPOFF64") || line.contains("R_AARCH64_TLS_TPREL64");
    assert_eq!(relocations.lines().filter(fixed).count(), 1, "{relocations}");
}

/// The libraries that the library under test asks for.
pub fn needed() -> Vec<String> {
    let dynamic = tool("readelf", &["-d"]);
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| line.split(['[', ']']).nth(1)).map(str::to_owned).collect()
}

#[test]
fn depends_on_the_c_library_only() {
    let known = ["libc.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0"];
    let known = |name: &String| known.contains(&name.as_str()) || name.starts_with("ld-linux-");
    assert!(needed().iter().all(known), "{:?}", needed());
}
