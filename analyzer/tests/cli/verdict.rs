//! The verdict and the shapes: a recording for each, of which the truth is known to the byte.

use crate::dsl::Dir;
use crate::synthetic::{File, Log, SECOND, chain};
use prof::record::{Resource, Vital};
use prof::{Nanos, NodeId, Record};
use serde_json::{Value, json};

const LEAK: [u64; 3] = [0x7f_0310, 0x7f_0300, 0x40_0400];
const CACHE: [u64; 2] = [0x40_0210, 0x40_0200];
const TEMPORARY: [u64; 2] = [0x40_0510, 0x40_0500];
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// A hundred seconds of a process, one step a second; the live bytes are counted along.
struct Run {
    file: File,
    log: Log,
    now: u64,
    live: u64,
    next: u64,
    marks: Vec<(u64, &'static str)>,
}

impl Run {
    fn new() -> Run {
        let (mut file, mut log) = (File::new(7), Log::new(0));
        file.preamble("every");
        log.generation(0);
        Run { file, log, now: 0, live: 0, next: 0x1000, marks: Vec::new() }
    }

    fn alloc(&mut self, size: u64, stack: &[u64]) -> u64 {
        let key = self.next;
        self.next += 16;
        self.now += 1;
        self.live += size;
        self.log.alloc(key, self.now, size, stack);
        key
    }

    fn free(&mut self, (key, size): (u64, u64)) {
        self.now += 1;
        self.live -= size;
        self.log.free(key, self.now);
    }

    /// Ends a second, with what was measured at its end.
    fn measure(&mut self, vitals: &[(Vital, u64)], more: &[Record]) {
        let end = (self.now / SECOND + 1) * SECOND;
        let mut records = more.to_vec();
        let due = self.marks.extract_if(.., |(second, _)| *second * SECOND <= end);
        records.extend(due.map(|(second, name)| Record::Mark { time: Nanos(second * SECOND), name }));
        records.push(Record::Vitals { time: Nanos(end), values: vitals.to_vec() });
        self.file.events(end, &mut self.log).records(end, &records).complete(end);
        self.now = end;
    }

    /// A hundred seconds; `second` is given how many have passed, and says what is measured then.
    fn seconds(mut self, mut second: impl FnMut(&mut Run, u64) -> Vec<(Vital, u64)>) -> Dir {
        let vitals = second(&mut self, 0);
        self.file.records(0, &[Record::Vitals { time: Nanos(0), values: vitals }]);
        for passed in 1..=100 {
            self.now += SECOND / 2;
            let vitals = second(&mut self, passed);
            self.measure(&vitals, &[]);
        }
        let dir = Dir::new();
        dir.file("run.prof", &self.file.0);
        dir
    }
}

fn report(dir: &Dir) -> Value {
    let json = dir.run("report run.prof --json").json();
    let parts = json["parts"].as_object().expect("parts");
    let sum: i64 = parts.values().filter_map(Value::as_i64).sum();
    assert_eq!(json["growth_bytes"], sum, "the parts add up: {json}");
    json
}

/// The report has each of these, wherever its lines are broken.
#[track_caller]
fn says(dir: &Dir, texts: &[&str]) -> String {
    let out = dir.run("report run.prof").out;
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in texts {
        assert!(words.contains(text), "no {text:?} in:\n{out}");
    }
    words
}

#[track_caller]
fn is_class(json: &Value, class: &str) {
    assert_eq!(json["verdict"]["class"], class, "{:#}", json["verdict"]);
}

#[track_caller]
fn has_parts(json: &Value, expected: &[(&str, u64)]) {
    for (name, bytes) in
        json["parts"].as_object().expect("parts").iter().filter(|(name, _)| *name != "not_measured")
    {
        let of_name = expected.iter().find(|(other, _)| other == name).map_or(0, |(_, bytes)| *bytes);
        assert_eq!(bytes, of_name, "{name} of {:#}", json["parts"]);
    }
}

#[track_caller]
fn near(value: &Value, expected: f64, share: f64) {
    let value = value.as_f64().expect("a number");
    assert!((value - expected).abs() <= expected.abs() * share, "{value} is not about {expected}");
}

#[test]
fn a_leak_is_growth_of_the_live_heap() {
    let dir = Run::new().seconds(|run, passed| {
        if passed > 0 {
            run.alloc(100 * KIB, &LEAK);
        }
        // The allocator needs 16 bytes for a block.
        let in_use = run.live + passed * 16;
        vec![
            (Vital::RssAnon, 20 * MIB + in_use),
            (Vital::RssFile, 5 * MIB),
            (Vital::AllocatorSystem, MIB + in_use),
            (Vital::AllocatorInUse, in_use),
            (Vital::CgroupLimit, 100 * MIB),
            (Vital::CgroupCurrent, 25 * MIB + in_use),
        ]
    });
    let json = report(&dir);
    is_class(&json, "live-growth");
    has_parts(&json, &[("live", 100 * 100 * KIB), ("allocator_overhead", 1600)]);
    assert_eq!(json["rss_growth_bytes"], 100 * 100 * KIB + 1600);
    let stack = &json["growth"][0];
    assert_eq!((&stack["shape"], &stack["lasting_bytes"]), (&json!("steady"), &json!(100 * 100 * KIB)));
    near(&stack["slope_bytes_per_s"], 102_400.0, 0.01);
    assert!(
        stack["slope_ci95"][0].as_f64() < Some(102_400.0)
            && stack["slope_ci95"][1].as_f64() > Some(102_400.0)
    );
    assert!(stack["r2"].as_f64() > Some(0.999));
    assert_eq!(json["cgroup"]["limit_bytes"], 100 * MIB);
    // 75 MiB less 10,000 KiB are left, at 100 KiB a second.
    near(&json["cgroup"]["reached_in_s"], 668.0, 0.02);
    says(&dir, &["has not stopped", "libplugin.so!0x30f", "100.0 % exact", "will be reached in 11m"]);
    let span = dir.run("report run.prof --span 50.5s..end --json").json();
    assert_eq!(span["parts"]["live"], 50 * 100 * KIB);
}

/// A burst on many threads: 200 MiB were live in it, and RSS stays.
fn burst(threshold: u64) -> Dir {
    burst_in(Run::new(), Some(threshold))
}

fn burst_in(run: Run, threshold: Option<u64>) -> Dir {
    let mut blocks = Vec::new();
    run.seconds(move |run, passed| {
        match passed {
            10..=29 => blocks.extend((0..10).map(|_| (run.alloc(MIB, &TEMPORARY), MIB))),
            30..=49 => blocks.drain(..10).collect::<Vec<_>>().into_iter().for_each(|block| run.free(block)),
            _ => {}
        }
        let system = (10 + if passed < 10 { 0 } else { (passed.min(29) - 9) * 10 }) * MIB;
        let mut vitals = vec![
            (Vital::RssAnon, 5 * MIB + system),
            (Vital::AllocatorSystem, system),
            (Vital::AllocatorInUse, run.live),
            (Vital::Arenas, 64),
            (Vital::Threads, if (10..50).contains(&passed) { 64 } else { 4 }),
        ];
        vitals.extend(threshold.map(|bytes| (Vital::MapThreshold, bytes)));
        vitals
    })
}

#[test]
fn what_is_freed_and_held_is_no_leak() {
    let dir = burst(128 * KIB);
    let json = report(&dir);
    is_class(&json, "allocator-retention");
    has_parts(&json, &[("allocator_held", 200 * MIB)]);
    assert_eq!(json["threads"], json!({"peak": 64, "now": 4, "created_by": []}));
    assert_eq!(json["peak_stacks"][0]["live_bytes"], 200 * MIB);
    assert_eq!(json["peak_stacks"][0]["frames"][0]["name"], "server!0x50f");
    let text = says(
        &dir,
        &["Not a leak", "holds 200 MiB", "MALLOC_ARENA_MAX", "64 arenas", "malloc_trim", "server!0x50f"],
    );
    assert!(!text.contains("MALLOC_MMAP_THRESHOLD_"));
}

#[test]
fn a_raised_threshold_is_named() {
    let dir = burst(32 * MIB);
    is_class(&report(&dir), "allocator-retention");
    says(&dir, &["MALLOC_MMAP_THRESHOLD_=131072", "raised its threshold to 32.0 MiB"]);
}

#[test]
fn a_threshold_that_nobody_states_is_known_by_large_blocks_that_are_held() {
    let dir = burst_in(Run::new(), None);
    says(
        &dir,
        &["MALLOC_MMAP_THRESHOLD_=131072", "200 MiB of what was live at the peak were blocks of 128 KiB"],
    );
}

#[test]
fn advice_is_for_the_allocator_in_use() {
    let allocators = [
        ("/usr/lib/libjemalloc.so.2", "dirty_decay_ms"),
        ("/usr/lib/libtcmalloc_minimal.so.4", "TCMALLOC_RELEASE_RATE"),
        ("/usr/lib/libmimalloc.so.2", "MIMALLOC_PURGE_DELAY"),
    ];
    for (value, advice) in allocators {
        let mut run = Run::new();
        run.file.records(0, &[Record::Fact { key: "allocator", value }]);
        let text = says(&burst_in(run, None), &["trim has the allocator return", advice]);
        assert!(!text.contains("MALLOC_ARENA_MAX") && !text.contains("malloc_trim"), "{text}");
    }
}

/// An epoch's tensors are freed at its end, and the allocator keeps them: RSS rises in the first epoch alone.
#[test]
fn what_is_freed_again_and_again_is_held() {
    let mut blocks = Vec::new();
    let dir = Run::new().seconds(move |run, passed| {
        if passed % 20 == 0 {
            blocks.drain(..).for_each(|block| run.free(block));
        }
        blocks.push((run.alloc(10 * MIB, &TEMPORARY), 10 * MIB));
        let system = (10 + 10 * passed.min(20)) * MIB;
        vec![
            (Vital::RssAnon, 5 * MIB + system),
            (Vital::AllocatorSystem, system),
            (Vital::AllocatorInUse, run.live),
        ]
    });
    is_class(&report(&dir), "allocator-retention");
    says(&dir, &["The live heap goes up and down by 190 MiB", "what is freed waits for the next time."]);
}

/// Every second one more is acquired, by a stack of two frames.
fn acquired(resource: Resource, each: u64, vitals: fn(u64) -> Vec<(Vital, u64)>) -> Dir {
    let mut run = Run::new();
    run.file.records(0, &chain(1, &[0x40_0600, 0x40_0610]));
    run.file.records(0, &[Record::Vitals { time: Nanos(0), values: vitals(0) }]);
    for passed in 1..=100 {
        let held = Record::Held {
            resource,
            node: NodeId(2),
            time: Nanos(run.now + SECOND),
            acquired: passed + 3,
            released: 3,
            bytes: passed * each,
        };
        run.measure(&vitals(passed), &[held]);
    }
    let dir = Dir::new();
    dir.file("run.prof", &run.file.0);
    dir
}

#[test]
fn threads_that_do_not_end() {
    let dir = acquired(Resource::Thread, 8 * MIB, |passed| {
        vec![
            (Vital::RssAnon, 10 * MIB + passed * 100 * KIB),
            (Vital::Threads, 1 + passed),
            (Vital::ThreadStacks, passed * 8 * MIB),
            (Vital::ThreadStacksResident, passed * 100 * KIB),
        ]
    });
    let json = report(&dir);
    is_class(&json, "thread-growth");
    has_parts(&json, &[("thread_stacks", 100 * 100 * KIB)]);
    let creator = &json["threads"]["created_by"][0];
    assert_eq!((&creator["count"], &creator["frames"][0]["name"]), (&json!(100), &json!("server!0x60f")));
    dir.run("report run.prof")
        .prints(&["Most threads are created by server!0x60f", "+800 MiB  100   103  server!0x60f"]);
}

#[test]
fn memory_that_is_mapped_directly() {
    let dir = acquired(Resource::Mapping, MIB, |passed| {
        vec![(Vital::RssAnon, 10 * MIB + passed * MIB), (Vital::Mapped, 64 * MIB + passed * MIB)]
    });
    let json = report(&dir);
    is_class(&json, "mapped-growth");
    has_parts(&json, &[("mapped", 100 * MIB)]);
    assert_eq!(json["mapped_by"][0]["bytes"], 100 * MIB);
    says(&dir, &["Most is mapped by server!0x60f", "+100 MiB 100 103 server!0x60f"]);
}

#[test]
fn pages_of_files_and_shared_memory_are_told_apart() {
    for (vital, says_what, advises) in [
        (Vital::RssFile, "Memory that holds pages of files grew by 100 MiB, not the heap", "no OOM kill"),
        (Vital::RssShmem, "Shared memory grew by 100 MiB, not the heap", "/dev/shm"),
    ] {
        let dir = Run::new().seconds(|_, passed| {
            vec![(Vital::RssAnon, 10 * MIB), (vital, 10 * MIB + passed * MIB), (Vital::Mapped, 64 * MIB)]
        });
        let json = report(&dir);
        is_class(&json, "mapped-growth");
        has_parts(&json, &[("file_shm", 100 * MIB)]);
        let text = says(&dir, &[says_what, advises]);
        assert!(!text.contains("munmap of the stacks below") && !text.contains("Most is mapped"), "{text}");
    }
}

#[test]
fn a_cache_that_fills_and_is_full() {
    let dir = Run::new().seconds(|run, passed| {
        if (1..=30).contains(&passed) {
            run.alloc(MIB, &CACHE);
        }
        vec![(Vital::RssAnon, 10 * MIB + run.live)]
    });
    let json = report(&dir);
    is_class(&json, "warm-up");
    has_parts(&json, &[("live", 30 * MIB)]);
    assert_eq!(json["growth"][0]["shape"], "warm-up");
    says(&dir, &["has stopped growing", "30.0 MiB"]);
}

#[test]
fn a_buffer_that_is_flushed_again_and_again() {
    let mut blocks = Vec::new();
    let dir = Run::new().seconds(move |run, passed| {
        blocks.push((run.alloc(MIB, &CACHE), MIB));
        if passed % 20 == 0 {
            blocks.drain(..).for_each(|block| run.free(block));
            blocks.push((run.alloc(MIB, &CACHE), MIB));
        }
        vec![(Vital::RssAnon, 10 * MIB + run.live)]
    });
    let json = report(&dir);
    is_class(&json, "none");
    let shape = |file: &str| dir.run(&format!("report run.prof --span start..{file} --json")).json();
    let json = shape("95s");
    assert_eq!(json["growth"][0]["shape"], "sawtooth", "{:#}", json["growth"][0]);
    near(&json["growth"][0]["period_s"], 20.0, 0.03);
    near(&json["growth"][0]["amplitude_bytes"], 19.0 * MIB as f64, 0.06);
    assert_eq!(json["verdict"]["class"], "none");
}

#[test]
fn a_second_model_is_a_step_at_its_mark() {
    let mut run = Run::new();
    run.marks = vec![(50, "model v2")];
    let dir = run.seconds(|run, passed| {
        if passed == 51 {
            for _ in 0..20 {
                run.alloc(MIB, &LEAK);
            }
        }
        vec![(Vital::RssAnon, 10 * MIB + run.live)]
    });
    let json = report(&dir);
    is_class(&json, "warm-up");
    let stack = &json["growth"][0];
    assert_eq!((&stack["shape"], &stack["step_mark"]), (&json!("step"), &json!("model v2")));
    near(&stack["step_at_s"], 51.0, 0.02);
    says(&dir, &["step: +20.0 MiB at", "at the mark 'model v2'"]);
}

#[test]
fn inherited_pages_that_are_written_to() {
    let mut run = Run::new();
    run.file.records(0, &[Record::Fork { time: Nanos(0), run: [9; 16], path: "/gone.prof", bytes: 0 }]);
    let dir = run.seconds(|_, passed| {
        vec![(Vital::RssAnon, 80 * MIB), (Vital::Uss, 5 * MIB + passed * 430 * KIB), (Vital::Pss, 40 * MIB)]
    });
    let json = report(&dir);
    is_class(&json, "copy-on-write");
    has_parts(&json, &[("copy_on_write", 100 * 430 * KIB)]);
    assert_eq!((&json["rss_growth_bytes"], &json["growth_bytes"]), (&json!(0), &json!(100 * 430 * KIB)));
    says(&dir, &["have become its own", "gc.freeze"]);
}

#[test]
fn nothing_that_grows_is_nothing() {
    let dir = Run::new().seconds(|run, _| {
        let block = (run.alloc(MIB, &TEMPORARY), MIB);
        run.free(block);
        vec![(Vital::RssAnon, 100 * MIB)]
    });
    let json = report(&dir);
    is_class(&json, "none");
    has_parts(&json, &[]);
    says(&dir, &["Nothing grows that counts."]);
}

#[test]
fn a_leak_beside_a_large_warm_up_is_found() {
    let dir = Run::new().seconds(|run, passed| {
        match passed {
            1..=5 => run.alloc(200 * MIB, &CACHE),
            _ => run.alloc(200 * KIB, &LEAK),
        };
        vec![(Vital::RssAnon, 10 * MIB + run.live)]
    });
    let json = report(&dir);
    is_class(&json, "live-growth");
    assert!(json["verdict"]["since_s"].as_f64() > Some(5.0));
    let of = |name: &str| {
        let stacks = json["growth"].as_array().expect("stacks");
        stacks.iter().find(|stack| stack["frames"][0]["name"] == name).expect("the stack").clone()
    };
    assert_eq!(of("libplugin.so!0x30f")["shape"], "steady");
    assert_eq!(of("server!0x20f")["shape"], "warm-up");
    says(&dir, &["Most comes from libplugin.so!0x30f"]);
}

#[test]
fn growth_per_mark() {
    let mut run = Run::new();
    run.marks = (0..=20).map(|n| (n * 5, "1000 requests")).collect();
    let dir = run.seconds(|run, _| {
        for _ in 0..100 {
            run.alloc(KIB, &LEAK);
        }
        vec![(Vital::RssAnon, 10 * MIB + run.live)]
    });
    near(&report(&dir)["growth"][0]["bytes_per_mark"], 512_000.0, 0.02);
    says(&dir, &["per mark"]);
}

#[test]
fn what_dies_is_not_growth() {
    // Two hundred blocks of a second each: what is live is the youngest, and none of it will stay.
    let mut blocks = Vec::new();
    let dir = Run::new().seconds(move |run, _| {
        blocks.push((run.alloc(MIB, &TEMPORARY), MIB));
        if blocks.len() > 10 {
            let oldest = blocks.remove(0);
            run.free(oldest);
        }
        vec![(Vital::RssAnon, 30 * MIB)]
    });
    let stack = &report(&dir)["growth"][0];
    assert_eq!((&stack["retained_bytes"], &stack["shape"]), (&json!(10 * MIB), &json!("churn")), "{stack:#}");
    assert!(stack["lasting_bytes"].as_u64() < Some(MIB / 2), "{stack:#}");
}

#[test]
fn without_measurements_the_live_heap_is_all_there_is() {
    let dir = Dir::recorded();
    let json = dir.run("report b.prof --json").json();
    assert_eq!((&json["verdict"]["class"], &json["parts"]), (&json!("live-growth"), &Value::Null));
    dir.run("report b.prof").prints(&["no measurements of the process's memory"]);
}
