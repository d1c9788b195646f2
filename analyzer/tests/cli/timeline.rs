//! `timeline`: of a recording of which every figure is known.

use crate::dsl::Dir;
use crate::golden::check;
use crate::synthetic::{File, Log, SECOND, sampled};
use prof::record::Vital;
use prof::{Nanos, Record};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const MARK: &str = "v2 <b> & \"two\"";

/// Forty seconds: 1 MiB a second that stays, 4 MiB for a moment at 10 s, 8 MiB that are freed at 20 s and held from then on,
/// a thread of 1 MiB from 30 s on; with a limit of 64 MiB, a mark, a pause and a change of the interval.
fn measured() -> Vec<u8> {
    let (mut file, mut log) = (File::new(9), Log::new(0));
    file.preamble("every");
    let stack = [0x40_0110, 0x40_0100];
    log.generation(0);
    let mut live = 0;
    for second in 0..=40 {
        let now = second * SECOND;
        if second > 0 {
            log.alloc(0x1000 + second * 16, now - 100, MIB, &stack);
            live += MIB;
        }
        if second == 10 {
            // Between two instants that the timeline looks at.
            log.alloc(0x9000, now - 50, 4 * MIB, &stack).free(0x9000, now - 40);
        }
        let held = match second {
            5..20 => {
                if second == 5 {
                    log.alloc(0x9010, now - 30, 8 * MIB, &stack);
                    live += 8 * MIB;
                }
                0
            }
            20.. => {
                if second == 20 {
                    log.free(0x9010, now - 30);
                    live -= 8 * MIB;
                }
                8 * MIB
            }
            _ => 0,
        };
        let stacks = if second >= 30 { MIB } else { 0 };
        let vitals = vec![
            (Vital::RssAnon, live + held + stacks + 3 * MIB),
            (Vital::RssFile, 2 * MIB),
            (Vital::RssShmem, 0),
            (Vital::Swap, 0),
            (Vital::AllocatorSystem, live + held + MIB),
            (Vital::AllocatorInUse, live + MIB),
            (Vital::ThreadStacksResident, stacks),
            (Vital::Mapped, MIB),
            (Vital::TracerMemory, MIB / 2),
            (Vital::CgroupLimit, 64 * MIB),
        ];
        let time = Nanos(now);
        let mut records = vec![Record::Vitals { time, values: vitals }];
        match second {
            12 => records.push(Record::Mark { time, name: MARK }),
            24 => records.push(Record::Interval { time, bytes: 0 }),
            28 => records.push(Record::Interval { time, bytes: 1 }),
            36 => records.push(Record::Interval { time, bytes: 65536 }),
            _ => {}
        }
        file.events(now, &mut log).records(now, &records).complete(now);
    }
    file.0
}

fn directory() -> Dir {
    let dir = Dir::new();
    dir.file("run.prof", &measured()).file("bare.prof", &sampled(2, 10));
    dir
}

#[test]
fn golden() {
    check(
        "timeline",
        &[("run.prof", measured), ("bare.prof", || sampled(2, 10))],
        &[
            ("timeline.txt", "timeline run.prof"),
            ("timeline.json", "timeline run.prof --json"),
            ("span.txt", "timeline run.prof --span 10s..20s"),
            ("bare.txt", "timeline bare.prof"),
        ],
    );
}

fn column<'a>(json: &'a Value, group: &str, name: &str) -> &'a [Value] {
    let column = json[group].as_array().expect("columns").iter().find(|column| column["name"] == name);
    column.unwrap_or_else(|| panic!("no {name}"))["bytes"].as_array().expect("a column")
}

#[test]
fn parts_add_up_to_the_resident_set_at_every_instant() {
    let json = directory().run("timeline run.prof --json").json();
    let parts = json["parts"].as_array().expect("parts");
    let resident = column(&json, "memory", "rss");
    assert_eq!(resident.len(), json["times_s"].as_array().expect("times").len());
    for (at, resident) in resident.iter().enumerate() {
        let sum: i64 = parts.iter().filter_map(|part| part["bytes"][at].as_i64()).sum();
        assert_eq!(Some(sum), resident.as_i64(), "at {}", json["times_s"][at]);
    }
    let at_end = |name| column(&json, "parts", name).last().expect("a value").as_u64();
    assert_eq!(at_end("live"), Some(40 * MIB));
    assert_eq!(at_end("allocator_held"), Some(8 * MIB));
    assert_eq!(at_end("thread_stacks"), Some(MIB));
    assert_eq!(at_end("mapped"), Some(MIB));
}

#[test]
fn a_peak_between_two_instants_is_found() {
    let json = directory().run("timeline run.prof --json").json();
    // The file counts from half a second after the process began.
    let figures = json!({"start": 0, "end": 40 * MIB, "peak": 40 * MIB, "peak_at_s": 40.4999999});
    assert_eq!(json["figures"]["live"], figures);
    let json = directory().run("timeline run.prof --span 9.75s..10.75s --json").json();
    assert_eq!(json["figures"]["live"]["end"], 18 * MIB);
    assert_eq!(json["figures"]["live"]["peak"], 22 * MIB);
    assert_eq!(json["figures"]["live"]["peak_at_s"], 10.49999995);
    let json = directory().run("timeline run.prof --span 11s..12s --json").json();
    assert_eq!(json["figures"]["live"]["peak"], 19 * MIB, "what was live before the span is not its peak");
}

#[test]
fn without_measurements_there_is_the_live_heap_alone() {
    let dir = directory();
    let words =
        "The recording has no measurements of the process's memory: this is about the live heap alone.";
    dir.run("timeline bare.prof").ok().prints(&[words]);
    let json = dir.run("timeline bare.prof --json").json();
    assert_eq!(json["memory"], json!([]));
    assert_eq!(json["parts"].as_array().expect("parts").len(), 1);
}

#[test]
fn what_is_no_terminal_gets_ascii() {
    assert!(directory().run("timeline bare.prof").ok().out.is_ascii());
}

#[test]
fn what_is_refused() {
    let dir = directory();
    dir.run("timeline run.prof --span 20s..10s").fails(
        "analyzer: failed to compare: run.prof (20.0 s) is later than run.prof (10.0 s), of one process",
    );
    dir.run("timeline run.prof --span 20s").fails("analyzer: failed to read the span '20s': '..' is missing");
    dir.run("timeline none.prof")
        .fails("analyzer: failed to read none.prof: No such file or directory (os error 2)");
    let unwritten = dir.run("timeline run.prof -o no/such.svg");
    assert_eq!((unwritten.code, &*unwritten.out), (Some(2), ""));
}

/// Texts of an SVG, and the classes of its elements; it has to be well-formed.
fn read(svg: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut reader = Reader::from_str(svg);
    let (mut texts, mut classes, mut open) = (Vec::new(), Vec::new(), 0);
    let mut text = String::new();
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                open += 1;
                text.clear();
                note(&element, &mut classes);
            }
            Event::Empty(element) => note(&element, &mut classes),
            Event::End(_) => {
                open -= 1;
                texts.push(std::mem::take(&mut text));
            }
            Event::Text(part) => text.push_str(&part.decode().expect("UTF-8")),
            Event::GeneralRef(name) => text.push(match &*name.decode().expect("UTF-8") {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                other => panic!("unknown entity {other}"),
            }),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open, 0, "every element ends");
    (texts, classes)
}

fn note(element: &quick_xml::events::BytesStart, classes: &mut Vec<(String, String)>) {
    let attributes: Vec<_> = element.attributes().map(|attribute| attribute.expect("an attribute")).collect();
    let value = |key: &[u8]| {
        let attribute = attributes.iter().find(|attribute| attribute.key.as_ref() == key);
        attribute.map_or(String::new(), |attribute| String::from_utf8_lossy(&attribute.value).into_owned())
    };
    if attributes.iter().any(|attribute| attribute.key.as_ref() == b"class") {
        classes.push((value(b"class"), value(b"d")));
    }
}

#[test]
fn the_svg_is_well_formed_and_has_all_of_it() {
    let dir = directory();
    dir.run("timeline run.prof -o run.svg").warns("recording was paused from 24.5 s to 28.5 s");
    let (texts, classes) = read(&dir.read("run.svg"));
    let has = |text: &str| assert!(texts.iter().any(|t| t == text), "no {text:?} in {texts:#?}");
    has("server --port 8500, pid 4711: 0.5 s to 40.5 s");
    has(MARK);
    has(&format!("{MARK} at 12.5 s"));
    has("paused");
    has("recording paused from 24.5 s to 28.5 s");
    has("sampling interval 64.0 KiB from 36.5 s");
    has("the control group's limit, 64.0 MiB");
    has("held by the allocator: freed by the program, not returned");
    let count = |class: &str| classes.iter().filter(|(name, _)| name == class).count();
    let counts = ["part", "resident", "live", "limit", "mark", "pause"].map(count);
    // All parts but none of copy-on-write.
    assert_eq!(counts, [8, 1, 1, 1, 1, 1], "{classes:?}");
    for (class, path) in classes.iter().filter(|(_, path)| !path.is_empty()) {
        let numbers = path.split(|c: char| "MLHVZ ".contains(c)).filter(|number| !number.is_empty());
        for number in numbers {
            let number: f64 = number.parse().unwrap_or_else(|_| panic!("{number} in {class}"));
            assert!((0.0..=1200.0).contains(&number), "{number} in {class}");
        }
    }
    dir.run("timeline bare.prof -o bare.svg").ok();
    let (_, classes) = read(&dir.read("bare.svg"));
    assert!(classes.iter().all(|(class, _)| class != "resident"), "{classes:?}");
}
