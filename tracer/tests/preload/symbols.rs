//! What the library exports and imports, against the lists beside this file.

use crate::harness::tool;

#[test]
fn exports_the_hooks_and_nothing_else() {
    let mut names: Vec<String> = tool("nm", &["-D", "--defined-only"])
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    names.sort();
    assert_eq!(names, include_str!("exported.txt").lines().collect::<Vec<_>>());
}

#[test]
fn uses_little_static_tls() {
    let headers = tool("readelf", &["-lW"]);
    let line = headers.lines().find(|line| line.trim_start().starts_with("TLS")).unwrap();
    let memory = line.split_whitespace().nth(5).unwrap().trim_start_matches("0x");
    assert!(u64::from_str_radix(memory, 16).unwrap() < 1024, "{line}");
}

#[test]
fn depends_on_the_c_library_only() {
    let dynamic = tool("readelf", &["-d"]);
    let needed: Vec<_> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    let known = ["libc.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0"];
    let known = |name: &str| known.contains(&name) || name.starts_with("ld-linux-");
    assert!(needed.iter().all(|name| known(name)), "{needed:?}");
}
