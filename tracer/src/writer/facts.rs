//! What the stream says of the process.

use crate::entry;
use crate::settings::{Interval, Settings};
use crate::unwind::objects;
use prof::weight::EVERY;
use prof::{Record, RecordWriter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends the facts.
pub fn push(records: &mut RecordWriter, settings: &Settings) {
    let mut fact = |key: &str, value: &str| records.push(&Record::Fact { key, value });
    fact("tracer", env!("CARGO_PKG_VERSION"));
    fact("arch", std::env::consts::ARCH);
    fact("pid", &std::process::id().to_string());
    if let Ok(command) = std::fs::read("/proc/self/cmdline") {
        let words = command.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        fact("command", words.collect::<Vec<_>>().join(" ").trim_end());
    }
    if let Ok(executable) = std::fs::read_link("/proc/self/exe") {
        fact("executable", &executable.to_string_lossy());
    }
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        fact("start_unix_ns", &now.as_nanos().to_string());
    }
    if let Some(age) = process_age() {
        fact("process_age_ns", &age.as_nanos().to_string());
    }
    // SAFETY: asks for a number.
    fact("page_size", &unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.to_string());
    let interval = match settings.interval {
        Interval::Auto => "auto".to_owned(),
        Interval::Fixed(EVERY) => "every".to_owned(),
        Interval::Fixed(bytes) => bytes.to_string(),
    };
    fact("interval", &interval);
    fact("settle_ns", &settings.settle.0.to_string());
    fact("module_lookup", if objects::by_table() { "table" } else { "loader" });
    if let Some(allocator) = entry::allocator() {
        fact("allocator", &allocator);
    }
    if let Ok(text) = std::env::var("LIBTRACE") {
        fact("settings", &text);
    }
}

/// How long the process had lived when tracing began: the kernel counts its start in clock ticks since boot.
fn process_age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may contain anything; start time is the 20th field behind it.
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()?;
    // SAFETY: asks for a number.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|&n| n > 0)?;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    now.checked_sub(Duration::from_nanos((u128::from(ticks) * 1_000_000_000 / u128::from(per_second)) as u64))
}
