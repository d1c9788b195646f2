//! What the stream says of the process.

use crate::settings::{Interval, Settings};
use crate::unwind::objects;
use crate::{clock, lookup};
use prof::weight::EVERY;
use prof::{Nanos, Record, RecordWriter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Keys and values.
pub struct Facts {
    /// What a forked child has in common with its parent, and may not look up again.
    common: Vec<(&'static str, String)>,
    own: Vec<(&'static str, String)>,
}

impl Facts {
    /// The facts of this process; for the thread that starts tracing.
    pub fn new(settings: &Settings) -> Facts {
        // SAFETY: asks for a number.
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let interval = match settings.interval {
            Interval::Auto => "auto".to_owned(),
            Interval::Fixed(EVERY) => "every".to_owned(),
            Interval::Fixed(bytes) => bytes.to_string(),
        };
        let mut common = vec![
            ("page_size", page_size.to_string()),
            ("interval", interval),
            ("settle_ns", settings.settle.0.to_string()),
            ("module_lookup", if objects::by_table() { "table" } else { "loader" }.to_owned()),
        ];
        common.extend(lookup::allocator().map(|path| ("allocator", path)));
        common.extend(lookup::preempted_by().map(|path| ("uncovered", path)));
        if !settings.text.is_empty() {
            common.push(("settings", settings.text.clone()));
        }
        Facts { common, own: own(process_age()) }
    }

    /// Adds what has been learned in the meantime, and appends it.
    pub fn add(&mut self, key: &'static str, value: String, records: &mut RecordWriter) {
        let fact = (key, value);
        // A forked child knows it from its parent.
        if !self.common.contains(&fact) {
            records.push(&Record::Fact { key, value: &fact.1 });
            self.common.push(fact);
        }
    }

    /// In a forked child: looks at the process again.
    pub fn renew(&mut self) {
        self.own = own(None);
    }

    /// Adds where the control socket is, or why there is none.
    pub fn add_control(&mut self, socket: String) {
        self.own.push(("control", socket));
    }

    /// How long the process had lived when its file begins.
    pub fn process_age(&self) -> Nanos {
        let age = self.own.iter().find(|(key, _)| *key == "process_age_ns");
        Nanos(age.and_then(|(_, nanos)| nanos.parse().ok()).unwrap_or(0))
    }

    /// The path of the main program.
    pub fn executable(&self) -> &str {
        self.own.iter().find(|(key, _)| *key == "executable").map_or("", |(_, path)| path)
    }

    /// Appends the facts.
    pub fn push(&self, records: &mut RecordWriter) {
        for (key, value) in self.own.iter().chain(&self.common) {
            records.push(&Record::Fact { key, value });
        }
    }
}

/// What differs between processes; `age` at the start of tracing.
fn own(age: Option<Duration>) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("tracer", env!("CARGO_PKG_VERSION").to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("pid", std::process::id().to_string()),
    ];
    if let Ok(command) = std::fs::read("/proc/self/cmdline") {
        let words = command.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        facts.push(("command", words.collect::<Vec<_>>().join(" ").trim_end().to_owned()));
    }
    if let Ok(executable) = std::fs::read_link("/proc/self/exe") {
        facts.push(("executable", executable.to_string_lossy().into_owned()));
    }
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        let start = now.saturating_sub(Duration::from_nanos(clock::now().0));
        facts.push(("start_unix_ns", start.as_nanos().to_string()));
    }
    facts.extend(age.map(|age| ("process_age_ns", age.as_nanos().to_string())));
    facts.extend(start_ticks().map(|ticks| ("process_start_ticks", ticks.to_string())));
    facts
}

/// When the process was made, in clock ticks since boot: with its id this names it, whatever it executes.
pub fn start_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may contain anything; start time is the 20th field behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// How long the process had lived when tracing began.
fn process_age() -> Option<Duration> {
    let ticks = start_ticks()?;
    // SAFETY: asks for a number.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok().filter(|&n| n > 0)?;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    now.checked_sub(Duration::from_nanos((u128::from(ticks) * 1_000_000_000 / u128::from(per_second)) as u64))
}
