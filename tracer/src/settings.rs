//! `LIBTRACE=key=value,key=value`.
//!
//! | key | value | default | meaning |
//! |---|---|---|---|
//! | `out` | path | `trace.%p.prof` | the file; `%p` is the process id, `%%` a percent sign; a file that another process is writing gets the id as well |
//! | `interval` | `auto`, bytes (`64k`, `2m`), `every` | `auto` | mean bytes between samples: as few as the budget buys, fixed, all; `every` on x86-64 and AArch64 only |
//! | `settle` | time (`500ms`, `2s`) | `1s` | how often the stream is flushed; what died younger is only counted |
//! | `vitals` | `auto`, time (`100ms`) | `auto` | how often the process's memory is looked at, at flushes: once a second and less where a look is dear, or this often whatever it costs |
//! | `max_file` | bytes (`64k`, `100m`) | no limit | a file that is as large goes on in a new one; `run.prof` then is `run.1.prof` |
//! | `lossless` | `on`, `off` | `off` | a thread waits for the writer rather than lose events |
//! | `follow` | `all`, `fork`, `exec`, `none` | `all` | which new processes are traced: forked children, executed programs |
//! | `start` | `on`, `paused` | `on` | whether allocations are recorded from the start, or from `analyzer ctl … resume` on |
//! | `ctl` | `on`, `off` | `on` | a control socket beside the file, for `analyzer ctl` |

use prof::Nanos;
use prof::weight::EVERY;

/// Of a file before another follows: the facts and images that every file begins with take some kilobytes.
const SMALLEST_FILE: u64 = 64 << 10;

/// How densely to sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interval {
    /// As densely as the [budget](crate::budget) allows.
    Auto,
    /// This many bytes between samples in the mean; [`EVERY`]: every allocation.
    Fixed(u64),
}

impl Interval {
    /// Whether every allocation is recorded.
    pub fn is_every(self) -> bool {
        self == Interval::Fixed(EVERY)
    }
}

/// Which of the processes that come from this one are traced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// Forked children go on in a file of their own, and programs that any of them executes are traced.
    All,
    /// Forked children; programs that are executed are not traced.
    Fork,
    /// Programs that are executed, by forked children too, which themselves are not traced.
    Exec,
    /// This process alone.
    None,
}

impl Follow {
    /// Whether a forked child goes on.
    pub fn forks(self) -> bool {
        matches!(self, Follow::All | Follow::Fork)
    }

    /// Whether a program that is executed is traced.
    pub fn executes(self) -> bool {
        matches!(self, Follow::All | Follow::Exec)
    }
}

/// The table above, as values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// With `%p` and `%%` still in it.
    pub out: String,
    /// How densely to sample.
    pub interval: Interval,
    /// Time between flushes.
    pub settle: Nanos,
    /// Time between looks at the process's memory, where it was set.
    pub vitals: Option<Nanos>,
    /// How large a file gets before the stream goes on in a new one.
    pub max_file: Option<u64>,
    /// Wait rather than lose.
    pub lossless: bool,
    /// Which new processes are traced.
    pub follow: Follow,
    /// Nothing is recorded before it is asked for.
    pub paused: bool,
    /// There is a control socket.
    pub ctl: bool,
    /// What was read.
    pub text: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            out: "trace.%p.prof".into(),
            interval: Interval::Auto,
            settle: Nanos::SECOND,
            vitals: None,
            max_file: None,
            lossless: false,
            follow: Follow::All,
            paused: false,
            ctl: true,
            text: String::new(),
        }
    }
}

impl Settings {
    /// Reads the value of `LIBTRACE`.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn parse(text: &str) -> Result<Settings, String> {
        let mut settings = Settings { text: text.to_owned(), ..Settings::default() };
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| format!("key '{item}' has no value"))?;
            let wrong = |expected: &str| format!("key '{key}': expected {expected}, not '{value}'");
            match key {
                "out" if value.is_empty() => return Err(wrong("a path")),
                "out" => settings.out = value.into(),
                "interval" => {
                    settings.interval = interval(value).ok_or_else(|| wrong("auto, every or bytes"))?
                }
                "settle" => settings.settle = time(value).ok_or_else(|| wrong("a time from 10ms to 1h"))?,
                "vitals" if value == "auto" => settings.vitals = None,
                "vitals" => {
                    settings.vitals =
                        Some(time(value).ok_or_else(|| wrong("auto or a time from 10ms to 1h"))?)
                }
                "max_file" => {
                    let size = bytes(value).filter(|&bytes| bytes >= SMALLEST_FILE);
                    settings.max_file = Some(size.ok_or_else(|| wrong("a size from 64k"))?);
                }
                "lossless" => settings.lossless = switch(value).ok_or_else(|| wrong("on or off"))?,
                "follow" => {
                    settings.follow = follow(value).ok_or_else(|| wrong("all, fork, exec or none"))?
                }
                "start" => settings.paused = start(value).ok_or_else(|| wrong("on or paused"))?,
                "ctl" => settings.ctl = switch(value).ok_or_else(|| wrong("on or off"))?,
                _ => return Err(format!("unknown key '{key}'")),
            }
        }
        if settings.max_file.is_some() && settings.interval.is_every() {
            return Err(
                "key 'max_file': not with interval=every, of which a part of the stream is worth nothing: \
                        a new file would have to begin with every live block, which the process does not keep"
                    .into(),
            );
        }
        Ok(settings)
    }

    /// The output path of a process, and whether its id is in it.
    pub fn path(&self, pid: u32) -> (String, bool) {
        let (mut path, mut has_id) = (String::new(), false);
        let mut chars = self.out.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('%', Some('p')) => {
                    chars.next();
                    path.push_str(&pid.to_string());
                    has_id = true;
                }
                ('%', Some('%')) => {
                    chars.next();
                    path.push('%');
                }
                _ => path.push(c),
            }
        }
        (path, has_id)
    }
}

/// What `interval` may be.
pub fn interval(text: &str) -> Option<Interval> {
    match text {
        "auto" => Some(Interval::Auto),
        "every" => Some(Interval::Fixed(EVERY)),
        _ => bytes(text).map(Interval::Fixed),
    }
}

/// From 1 byte to a tebibyte.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(scale)?;
    (1..=1 << 40).contains(&bytes).then_some(bytes)
}

fn time(text: &str) -> Option<Nanos> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        _ => return None,
    };
    let nanos = digits.parse::<u64>().ok()?.checked_mul(scale)?;
    (10_000_000..=3_600_000_000_000).contains(&nanos).then_some(Nanos(nanos))
}

fn follow(text: &str) -> Option<Follow> {
    match text {
        "all" => Some(Follow::All),
        "fork" => Some(Follow::Fork),
        "exec" => Some(Follow::Exec),
        "none" => Some(Follow::None),
        _ => None,
    }
}

/// Whether recording is to begin paused.
fn start(text: &str) -> Option<bool> {
    match text {
        "on" => Some(false),
        "paused" => Some(true),
        _ => None,
    }
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_key() {
        let text =
            "out=/tmp/%p-%%.prof,interval=64k,settle=250ms,lossless=on,follow=exec,start=paused,ctl=off";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.path(42), ("/tmp/42-%.prof".to_owned(), true));
        assert_eq!(Settings { out: "a%".into(), ..settings.clone() }.path(42), ("a%".to_owned(), false));
        assert_eq!((settings.follow, settings.text.as_str()), (Follow::Exec, text));
        assert_eq!((settings.paused, settings.ctl), (true, false));
        assert_eq!(
            (settings.interval, settings.settle, settings.lossless),
            (Interval::Fixed(64 << 10), Nanos(250_000_000), true)
        );
        assert_eq!(Settings::parse("max_file=2m").unwrap().max_file, Some(2 << 20));
        assert_eq!(Settings::parse("vitals=100ms").unwrap().vitals, Some(Nanos(100_000_000)));
        assert_eq!(Settings::parse("vitals=5s,vitals=auto").unwrap().vitals, None);
        assert!(Settings::parse("interval=every").unwrap().interval.is_every());
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse("interval=auto,").unwrap().interval, Interval::Auto);
    }

    #[test]
    fn names_the_key_that_is_wrong() {
        let error = |text| Settings::parse(text).unwrap_err();
        assert_eq!(error("colour=red"), "unknown key 'colour'");
        assert_eq!(error("interval"), "key 'interval' has no value");
        assert_eq!(error("interval=often"), "key 'interval': expected auto, every or bytes, not 'often'");
        assert_eq!(error("interval=0"), "key 'interval': expected auto, every or bytes, not '0'");
        assert_eq!(
            error("interval=99999999999g"),
            "key 'interval': expected auto, every or bytes, not '99999999999g'"
        );
        assert_eq!(error("max_file=1k"), "key 'max_file': expected a size from 64k, not '1k'");
        for text in ["max_file=1m,interval=every", "interval=every,max_file=1m"] {
            assert!(error(text).starts_with("key 'max_file': not with interval=every"));
        }
        assert_eq!(error("settle=1ms"), "key 'settle': expected a time from 10ms to 1h, not '1ms'");
        assert_eq!(
            error("vitals=often"),
            "key 'vitals': expected auto or a time from 10ms to 1h, not 'often'"
        );
        assert_eq!(error("lossless=1"), "key 'lossless': expected on or off, not '1'");
        assert_eq!(error("follow=me"), "key 'follow': expected all, fork, exec or none, not 'me'");
        assert_eq!(error("start=off"), "key 'start': expected on or paused, not 'off'");
        assert_eq!(error("ctl=yes"), "key 'ctl': expected on or off, not 'yes'");
        assert_eq!(error("out="), "key 'out': expected a path, not ''");
    }
}
