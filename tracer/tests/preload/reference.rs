//! Every stack against the C library's own unwinder, frame by frame, in real programs.
//!
//! A second library behind ours, `reference_stacks.c`, is the allocator that the hooks call, and captures the same stacks
//! with `backtrace()`.

use crate::harness::{compiled, machine, tool_on, tracer};
use prof::{BlockKind, Event, EventDecoder, Reader, Record, Records, varint};
use std::collections::{HashMap, HashSet, VecDeque};
use std::env;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

/// At least so much of the stacks has to be equal: a signal or the C library's own end of a stack may differ.
const EQUAL: f64 = 0.999;

/// Of each block the stacks that it was allocated from, in order, leaf first.
type Stacks = HashMap<u64, VecDeque<Rc<[u64]>>>;

/// Runs a program with both libraries, every `every`-th stack captured by the reference; compares.
fn compare(program: &Path, args: &[&str], every: u32) {
    if machine().only_samples() {
        return;
    }
    let reference = compiled("reference_stacks.c", "reference_stacks.so", &["-fPIC", "-shared"]);
    let directory = tempfile::tempdir().unwrap();
    let [profile, captured] = ["run.prof", "captured"].map(|name| directory.path().join(name));
    let status = machine()
        .command(program, &[tracer(), reference])
        .args(args)
        .env("LIBTRACE", format!("interval=every,lossless=on,out={}", profile.display()))
        .env("REFERENCE_OUT", &captured)
        .env("REFERENCE_EVERY", every.to_string())
        .env("PYTHONMALLOC", "malloc")
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{} failed", program.display());
    let expected = expected(BufReader::new(File::open(&captured).unwrap()));
    let mut recorded = recorded(&profile, &expected);
    let (mut compared, mut equal, mut earlier, mut doubtful) = (0u64, 0u64, 0u64, 0u64);
    let mut example = None;
    for (block, mut expected) in expected {
        let mut ours = recorded.remove(&block).unwrap_or_default();
        // What was allocated there unrecorded, before tracing began or by the tracer as it began, is known by its stack alone.
        while let Some(stack) = expected.pop_back() {
            let may_be_unrecorded = expected.len() + 1 > ours.len();
            let is_recorded = |own: &&Rc<[u64]>| !may_be_unrecorded || stack.is_empty() || **own == stack;
            if ours.back().filter(is_recorded).is_none() {
                earlier += u64::from(!stack.is_empty());
                doubtful += u64::from(!stack.is_empty() && !ours.is_empty());
                continue;
            }
            let Some(own) = ours.pop_back().filter(|_| !stack.is_empty()) else { continue };
            compared += 1;
            match own == stack {
                true => equal += 1,
                false => example = example.take().or(Some((own, stack))),
            }
        }
    }
    // Where there is one that it could have been, it may be that one, and wrong.
    let share = equal as f64 / (compared + doubtful) as f64;
    println!(
        "{}: {equal} of {compared} stacks are equal, {earlier} are earlier, {doubtful} of them doubtful",
        program.display()
    );
    // Allocated before tracing began, for the tracer's threads, and where operators that no library has are looked for.
    assert!(earlier <= 40, "{earlier} stacks are not in the profile");
    assert!(compared >= 100, "{compared} stacks compared");
    assert!(share >= EQUAL, "{equal} of {compared} are equal, not {example:x?}");
}

/// Of the blocks in `wanted`.
fn recorded(profile: &Path, wanted: &Stacks) -> Stacks {
    let mut reader = Reader::new(File::open(profile).unwrap()).unwrap();
    let mut streams = HashMap::<u64, (EventDecoder, Vec<u64>)>::new();
    let mut births = Vec::new();
    let mut known = HashSet::<Rc<[u64]>>::new();
    let mut own_code = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        let mut input = block.payload;
        if block.kind == BlockKind::Records {
            let records = Records::new(block.time, block.payload).map(Result::unwrap);
            own_code.extend(records.filter_map(code_of_tracer).flatten());
        }
        if block.kind != BlockKind::Events {
            continue;
        }
        let (decoder, stack) = streams.entry(varint::take(&mut input).unwrap()).or_default();
        while let Some(event) = decoder.next(&mut input).unwrap() {
            match event {
                Event::Generation(_) => stack.clear(),
                Event::Alloc { key, stamp, kept, site, .. }
                | Event::Realloc { key, stamp, kept, site, .. } => {
                    stack.truncate(kept);
                    stack.extend_from_slice(decoder.pushed(site));
                    if wanted.contains_key(&key) {
                        let leaf_first: Vec<_> = stack.iter().rev().copied().collect();
                        births.push((stamp, key, shared(&mut known, &leaf_first)));
                    }
                }
                _ => {}
            }
        }
    }
    // Stable: a stream's order stands where its stamps are equal.
    births.sort_by_key(|(stamp, ..)| *stamp);
    let mut stacks = Stacks::new();
    let is_tracers = |frame: &u64| own_code.iter().any(|(start, len)| (*start..start + len).contains(frame));
    for (_, key, stack) in births {
        // An `operator new` of the tracer's own, which a process without a C++ runtime gets, is on the stack.
        let own = usize::from(stack.first().is_some_and(is_tracers));
        let stack = if own == 0 { stack } else { shared(&mut known, &stack[own..]) };
        stacks.entry(key).or_default().push_back(stack);
    }
    stacks
}

fn code_of_tracer(record: Record) -> Option<Vec<(u64, u64)>> {
    match record {
        Record::Module { path, ranges, .. } if path.ends_with("/libtrace.so") => Some(ranges),
        _ => None,
    }
}

/// Of the blocks of which at least one stack was captured; the stacks that were not are empty.
fn expected(mut file: impl Read) -> Stacks {
    let mut word = || {
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
    };
    let (mut stacks, mut known) = (Stacks::new(), HashSet::new());
    while let Some(block) = word() {
        let depth = word().unwrap();
        let stack: Vec<u64> = (0..depth).map(|_| word().unwrap()).collect();
        stacks.entry(block).or_default().push_back(shared(&mut known, &stack));
    }
    stacks.retain(|_, stacks| stacks.iter().any(|stack| !stack.is_empty()));
    stacks
}

/// The one copy of a stack.
fn shared(known: &mut HashSet<Rc<[u64]>>, stack: &[u64]) -> Rc<[u64]> {
    known.get(stack).cloned().unwrap_or_else(|| {
        let copy = Rc::<[u64]>::from(stack);
        known.insert(copy.clone());
        copy
    })
}

#[test]
fn stacks_of_cxx_programs() {
    compare(&compiled("exceptions.cpp", "exceptions_reference", &["-pthread"]), &[], 1);
    compare(&compiled("known_sites.cpp", "known_sites_reference", &["-O2", "-pthread"]), &[], 97);
}

/// On x86-64 the CFA of the program's frames lies in memory.
#[test]
fn stacks_of_realigned_frames() {
    let program = compiled("realigned.c", "realigned", &[]);
    if machine().keeps_cfa_in_memory {
        let frames = tool_on(&program, "readelf", &["--debug-dump=frames"]);
        assert!(frames.contains("DW_CFA_def_cfa_expression (DW_OP_breg6 (rbp): "), "{frames}");
    }
    compare(&program, &[], 1);
}

#[test]
fn stacks_of_a_threaded_server() {
    let program = compiled("../bench/server.cpp", "server_reference", &["-O2", "-pthread"]);
    compare(&program, &["4", "200", "20"], 3);
}

#[test]
fn stacks_of_python() {
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    match python {
        Ok(output) if output.status.success() && machine().runs_programs_of_this_system() => {
            let python = String::from_utf8(output.stdout).unwrap();
            let script = "import json, re, collections\nfor i in range(8):\n  json.loads(json.dumps([{'a': [str(j)] * 5, \
                          'b': {'c': j}} for j in range(200)]))\n  re.compile('(a|b)*' + str(i))";
            compare(Path::new(python.trim()), &["-c", script], 7);
        }
        _ => println!("skipped: there is no python3 that this library could be loaded into"),
    }
}

#[test]
fn stacks_of_the_compiler() {
    if !machine().runs_programs_of_this_system() {
        return println!("skipped: this library is not for the compiler's processor");
    }
    let compiler =
        |args: &[&str]| String::from_utf8(Command::new("g++").args(args).output().unwrap().stdout).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/bench/templates.cpp");
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole.ii");
    fs::write(&whole, compiler(&["-std=c++17", "-E", source.to_str().unwrap()])).unwrap();
    let cc1plus = compiler(&["-print-prog-name=cc1plus"]);
    let args = ["-quiet", "-std=c++17", "-fpreprocessed", whole.to_str().unwrap(), "-o", "/dev/null"];
    compare(Path::new(cc1plus.trim()), &args, 29);
}

/// `REFERENCE_COMMAND` names the program and its arguments, `REFERENCE_EVERY` how many of its allocations are one comparison.
#[test]
fn stacks_of_a_program_that_is_named() {
    let Ok(command) = env::var("REFERENCE_COMMAND") else {
        return println!("skipped: REFERENCE_COMMAND names no program");
    };
    let every =
        env::var("REFERENCE_EVERY").map_or(1, |every| every.parse().expect("REFERENCE_EVERY is a number"));
    let mut words = command.split_whitespace();
    let program = Path::new(words.next().expect("REFERENCE_COMMAND is empty"));
    compare(program, &words.collect::<Vec<_>>(), every);
}
