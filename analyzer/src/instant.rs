//! `F@T`: which file, and which instant of it.

use crate::survey::Survey;
use prof::Nanos;
use std::fmt;
use std::path::{Path, PathBuf};

/// What was typed: a file, and an instant where one was given.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// The instant; [`At::End`] where none was given.
    pub at: At,
}

/// An instant as it is written after '@'.
#[derive(Clone, PartialEq, Debug)]
pub enum At {
    /// Of what the file has.
    Start,
    /// The last instant of which everything is in the file.
    End,
    /// When most bytes were live.
    Peak,
    /// Before the process freed what it had in order to end; as [`At::End`] where it did not.
    Exit,
    /// Since the start of the process.
    Time(Nanos),
    /// Of the time traced, in percent.
    Percent(f64),
    /// A mark's name; of several with one name the last.
    Mark(String),
}

/// An instant that only the events tell of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// That of [`At::Peak`].
    Peak,
    /// That of [`At::Exit`].
    Exit,
}

/// Why an instant cannot be had.
#[derive(Clone, PartialEq, Debug)]
pub enum InstantError {
    /// Nothing stands after '@'.
    Empty,
    /// Above 100 %.
    Percent(f64),
    /// After the last instant of which everything is in the file; both in seconds.
    Later(f64, f64),
    /// Before the first instant that is in the file; both in seconds, and the file that may have it.
    Earlier(f64, f64, String),
    /// Neither a mark nor a time.
    Unknown(String),
}

impl fmt::Display for InstantError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            InstantError::Empty => write!(f, "nothing stands after '@'"),
            InstantError::Percent(percent) => write!(f, "{percent}% is above 100%"),
            InstantError::Later(at, end) => write!(f, "{at:.3} s is after the file's end at {end:.3} s"),
            InstantError::Earlier(at, start, path) => {
                write!(
                    f,
                    "{at:.3} s is before the file's beginning at {start:.3} s; the file before was {path}"
                )
            }
            InstantError::Unknown(text) => write!(
                f,
                "'{text}' is not a mark of the file, and not one of 10m, 1h30m, 90s, 50%, start, end, peak, exit"
            ),
        }
    }
}

impl std::error::Error for InstantError {}

impl Target {
    /// Splits off what stands after the last '@'. A file whose name contains '@' wins where it `exists`.
    ///
    /// # Errors
    /// Where nothing stands after '@', or too large a percentage.
    pub fn parse(typed: &str, exists: impl Fn(&Path) -> bool) -> Result<Target, InstantError> {
        let whole = Target { path: typed.into(), at: At::End };
        match typed.rsplit_once('@') {
            Some((path, at)) if !path.is_empty() && !exists(&whole.path) => {
                Ok(Target { path: path.into(), at: At::parse(at)? })
            }
            _ => Ok(whole),
        }
    }
}

impl At {
    /// Reads what stands after '@'.
    ///
    /// # Errors
    /// Where it is nothing or more than 100 %.
    pub fn parse(text: &str) -> Result<At, InstantError> {
        let percent = || text.strip_suffix('%').and_then(number);
        match text {
            "" => Err(InstantError::Empty),
            "start" => Ok(At::Start),
            "end" => Ok(At::End),
            "peak" => Ok(At::Peak),
            "exit" => Ok(At::Exit),
            _ => match (percent(), duration(text)) {
                (Some(percent), _) if percent > 100.0 => Err(InstantError::Percent(percent)),
                (Some(percent), _) => Ok(At::Percent(percent)),
                (None, Some(time)) => Ok(At::Time(time)),
                (None, None) => Ok(At::Mark(text.to_owned())),
            },
        }
    }

    /// The instant in a file; `find` looks for those that its events tell of.
    ///
    /// # Errors
    /// Where the file does not have it, and those of `find`.
    pub fn resolve<E: From<InstantError>>(
        &self,
        survey: &Survey,
        find: impl FnOnce(Found) -> Result<Nanos, E>,
    ) -> Result<Nanos, E> {
        let end = survey.end();
        let at = match self {
            At::Start => survey.start(),
            At::End => end,
            At::Peak => find(Found::Peak)?,
            At::Exit => find(Found::Exit)?,
            At::Percent(percent) => {
                let (start, span) = (survey.start().0, end.0.saturating_sub(survey.start().0));
                Nanos(start + (span as f64 * percent / 100.0) as u64)
            }
            At::Time(time) => survey.instant(*time),
            At::Mark(name) => {
                let last = survey.marks.iter().rev().find(|(mark, _)| mark == name);
                last.ok_or_else(|| InstantError::Unknown(name.clone()))?.1
            }
        };
        if at > end {
            return Err(InstantError::Later(survey.seconds(at), survey.seconds(end)).into());
        }
        if let Some(segment) = survey.segment.as_ref().filter(|segment| at < segment.time) {
            let (at, start) = (survey.seconds(at), survey.seconds(segment.time));
            return Err(InstantError::Earlier(at, start, segment.path.display().to_string()).into());
        }
        Ok(at)
    }
}

/// A number without sign or exponent.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

/// Numbers with units, the largest unit first: `1h30m`, `90s`, `1.5s`, `250ms`.
fn duration(text: &str) -> Option<Nanos> {
    const UNITS: [(&str, f64); 5] = [("d", 86400e9), ("h", 3600e9), ("m", 60e9), ("s", 1e9), ("ms", 1e6)];
    let mut rest = text;
    let mut nanos = 0.0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, tail) = rest.split_at(digits);
        let unit = &tail[..tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len())];
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        nanos += number(value)? * scale;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then_some(Nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(typed: &str) -> Result<(String, At), InstantError> {
        let target = Target::parse(typed, |path| path == Path::new("odd@10m"))?;
        Ok((target.path.display().to_string(), target.at))
    }

    #[test]
    fn suffixes() {
        let seconds = |s: f64| At::Time(Nanos((s * 1e9) as u64));
        let cases = [
            ("a.prof", "a.prof", At::End),
            ("a.prof@start", "a.prof", At::Start),
            ("a.prof@end", "a.prof", At::End),
            ("a.prof@peak", "a.prof", At::Peak),
            ("a.prof@exit", "a.prof", At::Exit),
            ("a.prof@10m", "a.prof", seconds(600.0)),
            ("a.prof@1h30m", "a.prof", seconds(5400.0)),
            ("a.prof@90s", "a.prof", seconds(90.0)),
            ("a.prof@1.5s", "a.prof", seconds(1.5)),
            ("a.prof@250ms", "a.prof", seconds(0.25)),
            ("a.prof@2d1s", "a.prof", seconds(172801.0)),
            ("a.prof@50%", "a.prof", At::Percent(50.0)),
            ("a.prof@100%", "a.prof", At::Percent(100.0)),
            ("a.prof@model v2", "a.prof", At::Mark("model v2".into())),
            ("a.prof@30m1h", "a.prof", At::Mark("30m1h".into())),
            ("a.prof@10", "a.prof", At::Mark("10".into())),
            ("a.prof@-1s", "a.prof", At::Mark("-1s".into())),
            ("user@host.prof@10s", "user@host.prof", seconds(10.0)),
            ("odd@10m", "odd@10m", At::End),
            ("odd@10m@10m", "odd@10m", seconds(600.0)),
            ("@10m", "@10m", At::End),
        ];
        for (typed, path, at) in cases {
            assert_eq!(parse(typed), Ok((path.to_owned(), at)), "{typed}");
        }
        assert_eq!(parse("a.prof@"), Err(InstantError::Empty));
        assert_eq!(parse("a.prof@101%"), Err(InstantError::Percent(101.0)));
    }

    proptest! {
        #[test]
        fn parsing_is_total(text: String) {
            let _ = At::parse(&text);
        }
    }
}
