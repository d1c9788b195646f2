//! What is measured of the process as a whole, against what the process itself reads.

use crate::harness::{Case, Traced, compiled, machine};
use prof::record::Vital;
use prof::{BlockKind, Reader, Record};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

/// What the program's threads hold in blocks.
const HELD: u64 = 8 * 4000 * 1000 + (5 << 20);

/// Last values, and how often any was stated.
struct Measured {
    values: BTreeMap<Vital, u64>,
    /// System and free bytes.
    arenas: BTreeMap<u32, (u64, u64)>,
    records: usize,
}

impl Measured {
    fn of(traced: &Traced) -> Measured {
        let mut measured = Measured { values: BTreeMap::new(), arenas: BTreeMap::new(), records: 0 };
        let file = File::open(&traced.profile).unwrap();
        let mut reader = Reader::new(BufReader::new(file)).unwrap();
        while let Some(block) = reader.next_block().unwrap() {
            if block.kind != BlockKind::Records {
                continue;
            }
            for record in block.records().map(Result::unwrap) {
                match record {
                    Record::Vitals { values, .. } => {
                        measured.values.extend(values);
                        measured.records += 1;
                    }
                    Record::Arena { arena, system, free, .. } => {
                        measured.arenas.insert(arena, (system, free));
                    }
                    _ => {}
                }
            }
        }
        measured
    }

    fn get(&self, vital: Vital) -> u64 {
        *self.values.get(&vital).unwrap_or_else(|| panic!("{vital:?} is not stated: {:?}", self.values))
    }

    #[track_caller]
    fn is_near(&self, vital: Vital, expected: u64, most: u64) {
        let value = self.get(vital);
        assert!(value.abs_diff(expected) <= most, "{vital:?}: {value}, expected {expected}");
    }
}

/// The attribute of an element of `malloc_info`'s.
fn attribute(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {name}=\"")).expect("the attribute");
    rest.split('"').next().unwrap().parse().unwrap()
}

/// System and free bytes of each arena, and bytes of mapped blocks, as the program read them.
fn arenas(directory: &Path) -> (BTreeMap<u32, (u64, u64)>, u64) {
    let (mut arenas, mut mapped, mut now) = (BTreeMap::new(), 0, None);
    for line in fs::read_to_string(directory.join("arenas")).unwrap().lines() {
        if line.starts_with("<heap nr") {
            now = Some((attribute(line, "nr") as u32, 0, 0));
        } else if line.starts_with("</heap") {
            let (arena, system, free) = now.take().unwrap();
            arenas.insert(arena, (system, free));
        } else if line.starts_with("<total type=\"mmap\"") {
            mapped = attribute(line, "size");
        } else if let Some((_, system, free)) = &mut now {
            match line {
                _ if line.starts_with("<total") => *free += attribute(line, "size"),
                _ if line.starts_with("<system type=\"current\"") => *system = attribute(line, "size"),
                _ => {}
            }
        }
    }
    (arenas, mapped)
}

/// Whether that cannot be tested here, which is then said.
fn is_dear() -> bool {
    if machine().is_emulated() {
        eprintln!("skipped: in an emulator the first look is so dear that the next comes too late");
    }
    machine().is_emulated()
}

#[test]
fn the_process_and_its_allocator_are_as_they_say() {
    if is_dear() {
        return;
    }
    for settings in ["interval=every,lossless=on", "interval=auto"] {
        if !machine().records(settings) {
            continue;
        }
        let traced = Case::new("vitals.c").arg("wait").settings(settings).unchanged();
        let (measured, directory) = (Measured::of(&traced), traced.profile.parent().unwrap());
        let (arenas, mapped) = arenas(directory);
        assert!(arenas.len() > 4, "{arenas:?}");
        assert_eq!(measured.arenas.len(), arenas.len());
        for (arena, truth) in arenas.clone() {
            // Files are opened and closed between the program's look and ours.
            let most = if arena == 0 { 16 << 10 } else { 0 };
            let (system, free) = measured.arenas[&arena];
            assert_eq!(system, truth.0, "arena {arena}");
            assert!(free.abs_diff(truth.1) <= most, "arena {arena}: {free}, the program read {}", truth.1);
        }
        let sum = |of: fn(&(u64, u64)) -> u64| arenas.values().map(of).sum::<u64>();
        let system = sum(|arena| arena.0) + mapped;
        measured.is_near(Vital::AllocatorSystem, system, 0);
        measured.is_near(Vital::AllocatorMapped, mapped, 0);
        measured.is_near(Vital::AllocatorInUse, system - sum(|arena| arena.1), 16 << 10);
        measured.is_near(Vital::AllocatorInUse, HELD, HELD / 10);
        measured.is_near(Vital::Arenas, arenas.len() as u64, 0);
        measured.is_near(Vital::Mapped, 38 << 20, 0);
        assert!(measured.get(Vital::Cpu) > measured.get(Vital::TracerCpu));
        assert!(measured.get(Vital::TracerCpu) > 0);
        assert!((100 << 10..64 << 20).contains(&measured.get(Vital::TracerMemory)));
        let status = fs::read_to_string(directory.join("status")).unwrap();
        let said = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        measured.is_near(Vital::RssAnon, said("RssAnon:") << 10, 2 << 20);
        measured.is_near(Vital::RssFile, said("RssFile:") << 10, 2 << 20);
        measured.is_near(Vital::RssShmem, 6 << 20, 64 << 10);
        measured.is_near(Vital::Swap, said("VmSwap:") << 10, 1 << 20);
        // Without this library's own.
        measured.is_near(Vital::Threads, 9, 0);
        assert_eq!(measured.get(Vital::ThreadStacks) % 8, 0);
        assert!(measured.get(Vital::ThreadStacks) >= 8 << 16);
        // Each has used some pages, and few.
        assert!((8 << 12..=8 << 20).contains(&measured.get(Vital::ThreadStacksResident)));
        assert!(measured.get(Vital::Uss) > 60 << 20 && measured.get(Vital::Pss) >= measured.get(Vital::Uss));
        assert!(measured.get(Vital::MinorFaults) > 1000);
    }
}

#[test]
fn they_are_read_again_and_again() {
    let traced = Case::new("vitals.c").arg("wait").settings("interval=auto").unchanged();
    let records = Measured::of(&traced).records;
    assert!((4..=40).contains(&records), "{records} records in two seconds");
}

/// What is stated of a moment after that up to which the file is complete is not believed.
#[test]
fn the_last_look_is_of_the_time_that_the_file_has() {
    let traced = Case::new("vitals.c").settings("interval=auto").unchanged();
    let mut reader = Reader::new(BufReader::new(File::open(&traced.profile).unwrap())).unwrap();
    let (mut looks, mut complete) = (Vec::new(), None);
    while let Some(block) = reader.next_block().unwrap() {
        if block.kind != BlockKind::Records {
            continue;
        }
        for record in block.records().map(Result::unwrap) {
            match record {
                Record::Vitals { time, values } if values.iter().any(|of| of.0 == Vital::Threads) => {
                    looks.push(time)
                }
                Record::Complete { time } => complete = Some(time),
                _ => {}
            }
        }
    }
    assert!(looks.len() >= 2, "{looks:?}");
    assert!(looks.iter().all(|time| Some(*time) <= complete), "{looks:?}, complete up to {complete:?}");
}

#[test]
fn without_proc_the_rest_is_told() {
    if is_dear() {
        return;
    }
    let traced = Case::new("vitals.c").arg("chroot").settings("interval=auto").unchanged();
    if traced.outcome.stdout != "chroot\n" {
        return eprintln!("skipped: chroot: {}", traced.outcome.stdout.trim());
    }
    let measured = Measured::of(&traced);
    // From before the program began.
    assert!(measured.get(Vital::RssAnon) < 8 << 20, "{:?}", measured.values);
    measured.is_near(Vital::Threads, 1, 0);
    measured.is_near(Vital::Mapped, 38 << 20, 0);
    measured.is_near(Vital::AllocatorInUse, HELD, HELD / 10);
}

/// Allocators that tell of themselves, linked to the program.
#[test]
fn other_allocators_tell_of_themselves() {
    if !machine().runs_programs_of_this_system() {
        return eprintln!("skipped: the libraries are this system's");
    }
    for (name, tells_use) in
        [("libjemalloc.so.2", true), ("libtcmalloc_minimal.so.4", true), ("libmimalloc.so.2", false)]
    {
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        if !folders.iter().any(|folder| Path::new(folder).join(name).exists()) {
            eprintln!("skipped: {name} is not installed");
            continue;
        }
        let flags = ["-Wl,--no-as-needed", &format!("-l:{name}")];
        let traced = Case::of(compiled("vitals.c", &format!("vitals-{name}"), &flags))
            .arg("wait")
            .settings("interval=auto")
            .unchanged();
        let measured = Measured::of(&traced);
        if tells_use {
            measured.is_near(Vital::AllocatorInUse, HELD, HELD / 4);
        }
        assert!(measured.get(Vital::AllocatorSystem) > HELD, "{name}: {:?}", measured.values);
        assert!(measured.arenas.is_empty());
        // What the allocator maps is not the program's.
        measured.is_near(Vital::Mapped, 38 << 20, 0);
    }
}
