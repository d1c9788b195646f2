//! What stacks hold beside blocks: threads and mappings, to the byte.

use crate::harness::{Case, Traced, machine};
use prof::record::Resource;
use prof::{BlockKind, Reader, Record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

/// Acquired, released, and bytes of what is left.
type Counts = (u64, u64, u64);

/// What the program says, by resource and function.
fn truth(traced: &Traced, role: &str) -> BTreeMap<(String, String), Counts> {
    let words = traced.outcome.stdout.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let number = |word: &str| word.parse().expect("a number");
    let mut truth = BTreeMap::new();
    for words in words {
        let [resource, site, acquired, released, bytes] = words[..] else { continue };
        if let Some(resource) = resource.strip_prefix(role).filter(|resource| !resource.contains(':')) {
            let counts = (number(acquired), number(released), number(bytes));
            truth.insert((resource.to_owned(), site.to_owned()), counts);
        }
    }
    assert!(!truth.is_empty(), "the program printed nothing");
    truth
}

/// What the file says at its end, by resource and the program's function that is nearest to the leaf and named in `sites`.
fn held(profile: &Path, program: &str, sites: &[&str]) -> BTreeMap<(String, String), Counts> {
    let functions = functions(program);
    let mut reader = Reader::new(BufReader::new(File::open(profile).unwrap())).unwrap();
    let (mut nodes, mut last, mut bias) = (vec![(0, 0)], BTreeMap::new(), 0);
    while let Some(block) = reader.next_block().unwrap() {
        if block.kind != BlockKind::Records {
            continue;
        }
        for record in block.records().map(Result::unwrap) {
            match record {
                Record::Module { bias: at, path, .. } if path.ends_with(program) => bias = at,
                Record::Node { parent, address } => nodes.push((parent.0 as usize, address)),
                Record::Held { resource, node, acquired, released, bytes, .. } => {
                    last.insert((resource == Resource::Thread, node.0 as usize), (acquired, released, bytes));
                }
                Record::Lost { events, .. } => panic!("{events} events were lost"),
                _ => {}
            }
        }
    }
    let function = |address: u64| {
        let at = address.wrapping_sub(bias) - 1;
        functions.range(..=at).next_back().map_or("", |(_, name)| name.as_str())
    };
    let mut sums = BTreeMap::<_, Counts>::new();
    for ((is_thread, mut node), counts) in last {
        let mut site = "unknown";
        while node != 0 {
            let name = function(nodes[node].1);
            if sites.contains(&name) {
                site = name;
                break;
            }
            node = nodes[node].0;
        }
        let resource = if is_thread { "thread" } else { "mapping" };
        let sum = sums.entry((resource.to_owned(), site.to_owned())).or_default();
        *sum = (sum.0 + counts.0, sum.1 + counts.1, sum.2 + counts.2);
    }
    sums
}

/// Where each function of the program begins.
fn functions(program: &str) -> BTreeMap<u64, String> {
    let path = crate::harness::compiled(&format!("{program}.c"), program, &[]);
    let done = Command::new(machine().tool("nm")).arg(path).output().unwrap();
    let symbols = String::from_utf8(done.stdout).unwrap();
    let words = symbols.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let functions = words.filter(|words| words.len() == 3 && ["t", "T"].contains(&words[1]));
    functions.map(|words| (u64::from_str_radix(words[0], 16).unwrap(), words[2].to_owned())).collect()
}

fn check(traced: &Traced, role: &str) {
    let truth = truth(traced, role);
    let sites: Vec<_> = truth.keys().map(|(_, site)| site.as_str()).collect();
    let mut held = held(&traced.profile, "holding", &sites);
    held.retain(|key, _| truth.contains_key(key) || key.1 == "unknown");
    assert_eq!(held, truth, "measured (left) and true (right) differ");
}

#[test]
fn threads_and_mappings_are_their_creators() {
    let traced = Case::new("holding.c").unchanged();
    check(&traced, "");
    let sampled = Case::new("holding.c").settings("settle=20ms").unchanged();
    check(&sampled, "");
}

/// What was mapped stays mapped in a forked child; its parent's threads are not there.
#[test]
fn a_forked_child_has_its_parents_mappings() {
    if machine().is_alone() {
        return;
    }
    for settings in ["interval=every,lossless=on", "interval=auto"] {
        let traced = Case::new("holding.c").arg("fork").settings(settings).unchanged();
        check(&traced, "");
        let child = traced.process("child");
        let truth = truth(&child, "child:");
        let sites: Vec<_> = truth.keys().map(|(_, site)| site.as_str()).collect();
        let held = held(&child.profile, "holding", &sites);
        for (key, counts) in truth {
            assert_eq!(held.get(&key), Some(&counts), "{key:?}, {settings}");
        }
    }
}
