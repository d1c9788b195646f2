//! The commands.

use super::request::{Order, Values, ask};
use crate::settings;
use crate::{allocator, clock, heap, own_thread, phase, record, writer};
use prof::control::{LONGEST_NAME, done, failed};
use prof::weight::EVERY;

const COMMANDS: &str = "mark NAME, flush, pause, resume, interval N, status, stop, trim";

/// Carries a request out. The reply.
pub fn perform(line: &str) -> String {
    let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
    let result = match (command, argument.trim()) {
        ("mark", name) => mark(name),
        ("interval", text) => match settings::interval(text) {
            Some(interval) => ask(Order::Interval(interval)),
            None => Err(format!("expected auto or bytes, not '{text}'")),
        },
        (_, "") => match command {
            "flush" => ask(Order::Flush),
            "pause" => ask(Order::Pause),
            "resume" => ask(Order::Resume),
            // The client is told when the socket has gone.
            "stop" => ask(Order::Stop).inspect(|_| super::end()),
            "status" => Ok(status()),
            "trim" => trim(),
            _ => Err(format!("unknown command '{command}'; there are {COMMANDS}")),
        },
        _ => Err(format!("'{command}' has no argument, or is unknown; there are {COMMANDS}")),
    };
    match result {
        Ok(values) => done(&values),
        Err(why) => failed(&why),
    }
}

fn mark(name: &str) -> Result<Values, String> {
    let is_printable = !name.chars().any(char::is_control);
    if name.is_empty() || name.len() > LONGEST_NAME || !is_printable {
        return Err(format!("a mark's name has 1 to {LONGEST_NAME} printable bytes"));
    }
    ask(Order::Mark(name.to_owned()))
}

/// Does not need the writer, which may be waiting for the disk.
fn status() -> Values {
    let progress = writer::progress();
    let interval = match phase::interval() {
        EVERY => "every".to_owned(),
        bytes => bytes.to_string(),
    };
    let mut values = vec![
        ("pid", std::process::id().to_string()),
        ("file", progress.path.clone()),
        ("bytes", progress.written.to_string()),
        ("now_ns", progress.since_start(clock::now()).0.to_string()),
        ("complete_ns", progress.since_start(progress.complete).0.to_string()),
        ("recording", if phase::is_paused() { "paused" } else { "on" }.to_owned()),
        ("interval", interval),
        ("chosen", if progress.is_auto { "auto" } else { "fixed" }.to_owned()),
        ("samples", record::samples().to_string()),
        ("live_samples", record::live_samples().to_string()),
        ("lost_events", progress.lost.to_string()),
        ("tracer_bytes", memory().to_string()),
    ];
    values.extend(threads().map(|threads| ("threads", threads.to_string())));
    values
}

/// Bytes of the library's own heap and mappings, of which not every page need be in RAM.
fn memory() -> u64 {
    heap::allocated() + heap::mapped().map(|(_, bytes)| bytes).sum::<u64>()
}

/// The program's own threads.
fn threads() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may contain anything; the number of threads is the 18th field behind it.
    let all: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(17)?.parse().ok()?;
    all.checked_sub(own_thread::running().into())
}

/// Has the allocator trimmed, by this thread: it takes the allocator's locks. The file says when.
fn trim() -> Result<Values, String> {
    if allocator::in_use().is_some() {
        ask(Order::Mark("trim".to_owned()))?;
    }
    let (begin, before) = (clock::now(), resident());
    let function = allocator::trim()?;
    let (after, end) = (resident(), clock::now());
    let bytes = |bytes: Option<u64>| bytes.ok_or("the resident memory cannot be read").map(|n| n.to_string());
    Ok(vec![
        ("function", function.to_owned()),
        ("resident_before", bytes(before)?),
        ("resident_after", bytes(after)?),
        ("took_ns", end.0.saturating_sub(begin.0).to_string()),
    ])
}

/// The process's resident memory in bytes.
fn resident() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: asks for a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page)
}
