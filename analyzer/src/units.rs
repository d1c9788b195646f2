//! Quantities as people read them.

use crate::estimate::Estimated;
use std::fmt;

/// Requested bytes, exact or estimated; prints as `512 B`, `61.2 MiB`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Bytes(pub f64);

/// Signed bytes; prints as `+61.2 MiB`, `-512 B`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Net(pub f64);

/// A share of something; prints as `42.5 %`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Share(pub f64);

/// A number of blocks; prints as `312,004`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Count(pub f64);

/// Seconds since the start of the process; prints as `12.0 s`, `1h10m05s`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Seconds(pub f64);

/// Bytes per second, signed; prints as `+3.94 MiB/s`, `+1.76 KiB/h` where it is slow.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Rate(pub f64);

/// A duration in seconds, to two units or digits; prints as `1h42m`, `3d04h`, `12 s`, `1.2 s`, `80 ms`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Duration(pub f64);

/// Text of a recording on one line: without line ends, and without what would drive a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The ends of an interval, the unit once where both have the same; or `exact`.
pub fn interval<T: ToString>((low, high): (f64, f64), unit: impl Fn(f64) -> T) -> String {
    if low == high {
        return "exact".to_owned();
    }
    let (low, high) = (unit(low).to_string(), unit(high).to_string());
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} – {high}"),
        _ => format!("{low} – {high}"),
    }
}

/// A figure and its interval in one line: `77.2 MiB (65.0 – 91.2 MiB)`, or `77.2 MiB` where it is exact.
pub fn with_interval<T: ToString>(of: impl Into<Estimated>, unit: impl Fn(f64) -> T) -> String {
    let Estimated { value, ci95 } = of.into();
    let text = unit(value).to_string();
    if ci95.0 < ci95.1 { format!("{text} ({})", interval(ci95, unit)) } else { text }
}

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut value = self.0;
        if value.abs() < 1023.5 {
            return f.pad(&format!("{value:.0} B"));
        }
        let mut unit = "";
        for next in UNITS {
            (value, unit) = (value / 1024.0, next);
            if value.abs() < 1023.5 {
                break;
            }
        }
        let digits = if value.abs() < 9.995 { 2 } else { usize::from(value.abs() < 99.95) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.0.round() > 0.0 { "+" } else { "" };
        // Adding zero turns −0 into 0.
        f.pad(&format!("{sign}{}", Bytes(self.0.round() + 0.0)))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&format!("{:.1} %", 100.0 * self.0))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let units = [("s", 1.0), ("min", 60.0), ("h", 3600.0)];
        let fits = |(_, seconds): &(&str, f64)| (self.0 * seconds).abs() >= 99.5;
        let (unit, seconds) = units.into_iter().find(fits).unwrap_or(("h", 3600.0));
        let (unit, seconds) = if self.0 == 0.0 { ("s", 1.0) } else { (unit, seconds) };
        f.pad(&format!("{}/{unit}", Net(self.0 * seconds)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0 < 9.95 {
            return f.pad(&match self.0.max(0.0) {
                short if short < 0.0995 => format!("{:.0} ms", short * 1e3),
                short => format!("{short:.1} s"),
            });
        }
        let all = self.0.round().min(1e15) as u64;
        let (days, hours, minutes, seconds) = (all / 86400, all / 3600 % 24, all / 60 % 60, all % 60);
        f.pad(&match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds} s"),
            (0, 0, _) => format!("{minutes}m{seconds:02}s"),
            (0, _, _) => format!("{hours}h{minutes:02}m"),
            _ => format!("{days}d{hours:02}h"),
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let digits = format!("{:.0}", self.0.max(0.0));
        let mut grouped = String::with_capacity(digits.len() * 4 / 3);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0 < 99.95 {
            return f.pad(&format!("{:.1} s", self.0));
        }
        let all = self.0.round() as u64;
        let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
        f.pad(&if hours > 0 {
            format!("{hours}h{minutes:02}m{seconds:02}s")
        } else {
            format!("{minutes}m{seconds:02}s")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits() {
        let cases = [
            (0.0, "0 B"),
            (512.0, "512 B"),
            (1023.4, "1023 B"),
            (1023.6, "1.00 KiB"),
            (1536.0, "1.50 KiB"),
            (61.24 * 1048576.0, "61.2 MiB"),
            (180.0 * 1048576.0, "180 MiB"),
            (1024.0 * 1048576.0, "1.00 GiB"),
            (-2048.0, "-2.00 KiB"),
        ];
        for (value, text) in cases {
            assert_eq!(Bytes(value).to_string(), text);
        }
    }

    #[test]
    fn net_has_a_sign_unless_zero() {
        assert_eq!(Net(2048.0).to_string(), "+2.00 KiB");
        assert_eq!(Net(-2048.0).to_string(), "-2.00 KiB");
        assert_eq!(Net(-0.2).to_string(), "0 B");
    }

    #[test]
    fn rates_and_durations_fit_what_they_are_of() {
        let rates = [
            (4194304.0, "+4.00 MiB/s"),
            (-100.0, "-100 B/s"),
            (0.01, "+36 B/h"),
            (2.0, "+120 B/min"),
            (0.0, "0 B/s"),
        ];
        for (rate, text) in rates {
            assert_eq!(Rate(rate).to_string(), text);
        }
        let durations = [
            (0.08, "80 ms"),
            (1.24, "1.2 s"),
            (12.4, "12 s"),
            (62.0, "1m02s"),
            (6120.0, "1h42m"),
            (273600.0, "3d04h"),
        ];
        for (seconds, text) in durations {
            assert_eq!(Duration(seconds).to_string(), text);
        }
    }

    #[test]
    fn plain_text_is_one_harmless_line() {
        assert_eq!(plain("python -c 'a\nb'\u{1b}[2J größer"), "python -c 'a b' [2J größer");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(Count(999.0).to_string(), "999");
        assert_eq!(Count(1234567.4).to_string(), "1,234,567");
    }

    #[test]
    fn seconds_become_hours() {
        assert_eq!(Seconds(12.0).to_string(), "12.0 s");
        assert_eq!(Seconds(99.96).to_string(), "1m40s");
        assert_eq!(Seconds(4205.0).to_string(), "1h10m05s");
    }

    #[test]
    fn an_interval_has_its_unit_once() {
        let text = |low, high| with_interval(Estimated { value: 2048.0, ci95: (low, high) }, Bytes);
        assert_eq!(text(1024.0, 4096.0), "2.00 KiB (1.00 – 4.00 KiB)");
        assert_eq!(text(512.0, 4096.0), "2.00 KiB (512 B – 4.00 KiB)");
        assert_eq!(text(2048.0, 2048.0), "2.00 KiB");
        assert_eq!(interval((2.0, 3.0), Count), "2 – 3");
    }
}
