//! `analyzer ctl`, with a thread of the test in the place of a traced process.

use crate::dsl::{Dir, Outcome};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;

/// Listens beside `run.prof`, and answers one request with `reply`. What was asked, and what came of the run.
fn answered(arguments: &str, reply: &str) -> (String, Outcome) {
    let dir = Dir::new();
    dir.file("run.prof", b"");
    let listener = UnixListener::bind(dir.path("run.prof.ctl")).unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&client).read_line(&mut request).unwrap();
            client.write_all(reply.as_bytes()).unwrap();
            request
        });
        let outcome = dir.run(&format!("ctl run.prof {arguments}"));
        (server.join().unwrap(), outcome)
    })
}

const STATE: &str = "ok\nfile /data/run.prof\nbytes 2048\ncomplete_ns 12340000000\n\n";

#[test]
fn what_was_done_is_said_in_words() {
    let cases = [
        ("mark v2", "mark v2\n", "marked 12.3 s: /data/run.prof@v2\n"),
        ("flush", "flush\n", "/data/run.prof is complete up to 12.3 s, 2.00 KiB\n"),
        (
            "pause",
            "pause\n",
            "paused at 12.3 s: allocations are not recorded until resume; frees of recorded blocks are\n",
        ),
        ("resume", "resume\n", "resumed: allocations are recorded again; /data/run.prof@resume\n"),
        ("interval 64k", "interval 64k\n", "interval 64k from 12.3 s on\n"),
        ("stop", "stop\n", "stopped at 12.3 s: /data/run.prof, 2.00 KiB; the process goes on untraced\n"),
    ];
    for (arguments, asked, said) in cases {
        let (request, outcome) = answered(arguments, STATE);
        assert_eq!((&*request, &*outcome.ok().out), (asked, said));
    }
}

#[test]
fn a_trim_says_what_it_means() {
    let trimmed = |before: u64, after: u64| {
        let reply = format!(
            "ok\nfunction malloc_trim\nresident_before {before}\nresident_after {after}\ntook_ns 1500000000\n\n"
        );
        answered("trim", &reply).1.ok().out
    };
    let held = "malloc_trim gave back 1.12 GiB: resident memory 1.18 GiB → 55.0 MiB in 1.5 s: \
                the allocator was holding freed memory\n";
    assert_eq!(trimmed(1205 << 20, 55 << 20), held);
    let little = trimmed(1205 << 20, 1200 << 20);
    assert!(
        little.contains("gave back 5.00 MiB") && little.contains("what is resident is in use"),
        "{little}"
    );
    // The process may have grown meanwhile.
    assert!(trimmed(1 << 20, 2 << 20).contains("gave back 0 B"));
}

#[test]
fn a_status_is_a_table_or_json() {
    let reply = "ok\npid 4711\nfile /data/42\nbytes 2048\nnow_ns 13000000000\ncomplete_ns 12340000000\n\
                 recording paused\ninterval 65536\nchosen auto\nsamples 1234\nlive_samples 56\nlost_events 7\n\
                 tracer_bytes 1048576\nthreads 3\n\n";
    let table = "process    4711, 3 threads\n\
                 file       /data/42, 2.00 KiB\n\
                 complete   up to 12.3 s; it is 13.0 s\n\
                 recording  paused, interval 64.0 KiB (auto)\n\
                 samples    1,234, 56 live\n\
                 lost       7 events\n\
                 tracer     at most 1.00 MiB of its own memory\n";
    assert_eq!(answered("status", reply).1.ok().out, table);
    let json = answered("status --json", reply).1.ok().json();
    assert_eq!((&json["version"], &json["pid"], &json["lost_events"]), (&1.into(), &4711.into(), &7.into()));
    assert_eq!((&json["file"], &json["complete_s"]), (&"/data/42".into(), &12.34.into()));
    assert_eq!((&json["recording"], &json["interval"]), (&"paused".into(), &65536.into()));
}

#[test]
fn answers_that_are_none_are_named() {
    let fails = |reply: &str, line: &str| {
        answered("flush", reply).1.fails(line);
    };
    fails("error the disk is full\n\n", "analyzer: failed to flush: refused: the disk is full");
    let denied = "permission denied: the process of run.prof is another user's, or protected (run as that user, \
                  or as root)";
    fails("error permission denied\n\n", &format!("analyzer: failed to flush: {denied}"));
    let ended = "analyzer: failed to flush: the process of run.prof ended before it had answered";
    for part in ["", "ok\n", "ok\nbytes 20\n", "\n\n", "something else\n\n"] {
        fails(part, ended);
    }
    // What a process says reaches the terminal as text.
    let (_, outcome) = answered("flush", "ok\nfile /data/\u{1b}[31mrun.prof\nbytes 1\ncomplete_ns 1\n\n");
    assert!(!outcome.ok().out.contains('\u{1b}'));
}

#[test]
fn what_cannot_be_reached_is_said_in_one_line() {
    let dir = Dir::recorded();
    let fails = |arguments: &str, why: &str| {
        dir.run(&format!("ctl {arguments}")).fails(&format!("analyzer: failed to {why}"));
    };
    fails(
        "a.prof flush",
        "flush: no control socket beside a.prof: its process has ended, or runs without one",
    );
    fails(
        "missing status",
        "read the status: failed to reach missing: No such file or directory (os error 2)",
    );
    fails("4194305 stop", "stop: no process has the id 4194305");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let id = other.id();
    fails(
        &format!("{id} trim"),
        &format!("trim the allocator: process {id} is not traced: libtrace.so is not loaded in it"),
    );
    other.kill().and_then(|()| other.wait()).unwrap();
    drop(UnixListener::bind(dir.path("a.prof.ctl")).unwrap());
    fails("a.prof pause", "pause: nobody listens at the process of a.prof: it has ended, or its tracing has");
    fails("a.prof.ctl resume", "resume: nobody listens at a.prof.ctl: it has ended, or its tracing has");
}

#[test]
fn marks_that_no_instant_could_name_are_refused() {
    let dir = Dir::recorded();
    for name in ["start", "end", "peak", "10m", "50%", "a@b", "a..b"] {
        dir.run(&format!("ctl a.prof mark {name}"))
            .fails(&format!("analyzer: failed to mark '{name}': F@{name} would not find it"));
    }
    dir.run("ctl a.prof mark").fails("analyzer: failed to mark: a name is missing");
    dir.run("ctl a.prof interval")
        .fails("analyzer: failed to change the interval: auto or bytes are missing");
    dir.run("ctl a.prof flush now").fails("analyzer: failed to flush: 'now' is one argument too many");
}

/// A file says when recording was paused, and so does everything that rests on it.
#[test]
fn a_pause_is_a_warning() {
    let dir = Dir::new();
    let mut file = crate::synthetic::every(1, 10);
    let mut records = prof::RecordWriter::new(prof::Nanos(9_000_000_000));
    for (second, bytes) in [(4, 0), (6, 1)] {
        records.push(&prof::Record::Interval { time: prof::Nanos(second * 1_000_000_000), bytes });
    }
    prof::block::write(&mut file, prof::BlockKind::Records, records.time(), records.payload());
    dir.file("run.prof", &file);
    let why =
        "run.prof: recording was paused from 4.5 s to 6.5 s: what was allocated or resized then is missing";
    dir.run("report run.prof").warns(why).prints(&["every allocation recorded", why]);
    let json = dir.run("diff run.prof@start run.prof --json").warns(why).json();
    assert!(json["warnings"].as_array().unwrap().contains(&why.into()), "{json}");
    // Of an instant before it, nothing is missing.
    let early = dir.run("diff run.prof@start run.prof@3s --json").json()["warnings"].to_string();
    assert!(!early.contains("paused"), "{early}");
    dir.run("info run.prof").ok().prints(&["pauses (1)\n  4.5 s to 6.5 s\n"]);
}
