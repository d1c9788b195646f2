//! Damaged ELF files: whatever happens to the bytes, every address has a location.

use std::fs;

use super::programs::Workshop;
use super::{Library, only_beside, symbolize};

/// Symbolizes the library's code with these bytes in its place.
fn survive(library: &Library, bytes: &[u8]) {
    let (start, size) = library.outer;
    let mut svmas: Vec<u64> = (start..start + size).step_by(7).collect();
    svmas.extend(library.svmas());
    svmas.extend([0, 0x1008, u64::MAX]);
    svmas.sort_unstable();
    svmas.dedup();
    fs::write(&library.path, bytes).unwrap();
    let symbols = symbolize(&library.image(), &svmas, &only_beside());
    assert_eq!(symbols.locations.len(), svmas.len());
    assert!(symbols.locations.iter().all(|it| !it.frames.is_empty()));
}

/// Variants that go through all the readers.
fn variants(workshop: &Workshop) -> Vec<Library> {
    let mut variants = vec![
        Library::read(&workshop.build("libplain.so", &["-O1", "-g"])),
        Library::read(&workshop.build("libpacked.so", &["-O1", "-g", "-gz"])),
    ];
    let zstd = Library::read(&workshop.build("libzstd.so", &["-O1", "-g"]));
    if workshop.try_run("objcopy", &["--compress-debug-sections=zstd", "libzstd.so"]) {
        variants.push(zstd);
    }
    let mini = Library::read(&workshop.build("libmini.so", &["-O1"]));
    if workshop.try_run("sh", &["-c", "xz -k libmini.so && strip libmini.so"]) {
        let add = ["--add-section", ".gnu_debugdata=libmini.so.xz", "libmini.so"];
        workshop.run("objcopy", &add);
        variants.push(mini);
    }
    variants
}

#[test]
fn truncated_files_are_survived() {
    let workshop = Workshop::new();
    for library in variants(&workshop) {
        let bytes = fs::read(&library.path).unwrap();
        let ends = (0..0x400).step_by(5).chain((0x400..bytes.len()).step_by(61));
        for end in ends {
            survive(&library, &bytes[..end]);
        }
    }
}

#[test]
fn flipped_bits_and_absurd_numbers_are_survived() {
    let workshop = Workshop::new();
    let rounds: u64 = std::env::var("DAMAGE_ROUNDS").map_or(500, |text| text.parse().unwrap());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
    for library in variants(&workshop) {
        let bytes = fs::read(&library.path).unwrap();
        let section_headers = bytes.len() - 64 * 30;
        for round in 0..rounds {
            let mut damaged = bytes.clone();
            for _ in 0..=below(3) {
                let at = match round % 4 {
                    0 => below(0x300),
                    1 => section_headers + below(64 * 30),
                    _ => below(bytes.len()),
                };
                if below(2) == 0 {
                    damaged[at] ^= 1 << below(8);
                } else {
                    let end = (at + 1 + below(8)).min(damaged.len());
                    damaged[at..end].fill([0, 0x7f, 0xff][below(3)]);
                }
            }
            survive(&library, &damaged);
        }
    }
}
