//! Golden cases: small recordings under `testdata/golden`, with what each command says of them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p analyzer golden` makes the recordings and the texts anew, and the fuzz targets'
//! seeds.

use crate::dsl::analyzer;
use crate::synthetic::{every, sampled};
use prof::{BlockKind, Reader};
use std::fs;
use std::path::{Path, PathBuf};

/// A recording by name.
pub type Recording = (&'static str, fn() -> Vec<u8>);
/// A file for what a command prints, and its arguments.
pub type Text = (&'static str, &'static str);

pub fn check(case: &str, recordings: &[Recording], texts: &[Text]) {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden").join(case);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::create_dir_all(&dir).expect("a directory");
        for (name, make) in recordings {
            fs::write(dir.join(name), make()).expect("a written recording");
        }
    }
    for (name, arguments) in texts {
        let outcome = analyzer(&dir, arguments.split_whitespace());
        assert_eq!(outcome.code, Some(0), "{case}: {arguments}: {}", outcome.err);
        if update {
            fs::write(dir.join(name), &outcome.out).expect("a written text");
        }
        let expected = fs::read_to_string(dir.join(name)).expect("an expected text");
        assert_eq!(outcome.out, expected, "{case}: analyzer {arguments}");
    }
}

#[test]
fn every_allocation_of_one_process() {
    check(
        "every",
        &[("a.prof", || every(1, 10)), ("b.prof", || every(1, 20))],
        &[
            ("diff.txt", "diff a.prof b.prof"),
            ("diff.json", "diff a.prof b.prof --json"),
            ("diff.folded", "diff a.prof b.prof --format folded"),
            ("report.txt", "report b.prof"),
            ("report.json", "report b.prof --json"),
            ("live.folded", "export b.prof@12.5s --format folded"),
            ("info.txt", "info b.prof"),
        ],
    );
}

#[test]
fn samples_of_one_process() {
    check(
        "sampled",
        &[("run.prof", || sampled(2, 10))],
        &[
            ("diff.txt", "diff run.prof@20% run.prof"),
            ("diff.json", "diff run.prof@20% run.prof --json"),
            ("report.txt", "report run.prof"),
            ("info.json", "info run.prof --json"),
        ],
    );
}

#[test]
fn two_processes() {
    check(
        "two-processes",
        &[("a.prof", || every(3, 5)), ("b.prof", || every(4, 15))],
        &[("diff.txt", "diff a.prof b.prof"), ("diff.json", "diff a.prof b.prof --json")],
    );
}

/// What the target `profile` takes: a run, then kind, length, time and content of every block.
fn unframed(file: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(file).expect("a profile");
    let mut seed = vec![reader.header().run[0]];
    while let Some(block) = reader.next_block().expect("a sound block") {
        seed.push(u8::from(block.kind == BlockKind::Events));
        seed.extend_from_slice(&u16::try_from(block.payload.len()).expect("a short block").to_le_bytes());
        seed.extend_from_slice(&block.time.0.to_le_bytes());
        seed.extend_from_slice(block.payload);
    }
    seed
}

#[test]
fn fuzz_seeds_are_of_the_present_format() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (name, file) in [("every", every(1, 2)), ("sampled", sampled(1, 3))] {
        for (target, seed) in [("reader", file.clone()), ("profile", unframed(&file))] {
            let path = dir.join(target).join(name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(dir.join(target)).expect("a directory");
                fs::write(&path, &seed).expect("a written seed");
            }
            assert_eq!(fs::read(&path).expect("a seed"), seed, "{}", path.display());
        }
    }
}
