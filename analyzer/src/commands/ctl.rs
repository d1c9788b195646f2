//! `analyzer ctl`: tells a running traced process what to do.

use super::{write_json, write_to};
use crate::cli::{Ctl, Order};
use analyzer::control;
use analyzer::instant::At;
use analyzer::units::{Bytes, Count, Seconds, plain};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::time::Duration;

/// The writer may be at writing to a slow disk, and another client before us.
const PATIENCE: Duration = Duration::from_secs(10);

/// An allocator may hold much.
const PATIENCE_WITH_ALLOCATORS: Duration = Duration::from_secs(300);

pub fn run(options: &Ctl) -> Result<()> {
    let request = request(options)?;
    let patience = match options.order {
        Order::Trim => PATIENCE_WITH_ALLOCATORS,
        _ => PATIENCE,
    };
    let failed = || format!("failed to {}", options.order.task());
    let endpoint = control::find(&options.target).with_context(failed)?;
    let values = Values(endpoint.ask(&request, patience).with_context(failed)?);
    write_to(None, |out| match options.json {
        true => write_json(&values.as_json(), out),
        false => values.write(options, out),
    })
}

/// The line to send.
fn request(options: &Ctl) -> Result<String> {
    let name = options.order.name();
    match (options.order, options.argument.as_deref()) {
        (Order::Mark, Some(mark)) => {
            let is_name = At::parse(mark) == Ok(At::Mark(mark.to_owned()));
            if !is_name || mark.contains('@') || mark.contains("..") || mark.chars().any(char::is_control) {
                bail!("failed to mark '{}': F@{0} would not find it", plain(mark));
            }
            Ok(format!("mark {mark}"))
        }
        (Order::Interval, Some(interval)) => Ok(format!("interval {interval}")),
        (Order::Mark, None) => bail!("failed to mark: a name is missing"),
        (Order::Interval, None) => bail!("failed to change the interval: auto or bytes are missing"),
        (order, Some(argument)) => {
            bail!("failed to {}: '{}' is one argument too many", order.task(), plain(argument))
        }
        (_, None) => Ok(name.to_owned()),
    }
}

/// What the process answered.
struct Values(Vec<(String, String)>);

impl Values {
    fn text(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    fn number(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap_or(0.0)
    }

    fn seconds(&self, key: &str) -> Seconds {
        Seconds(self.number(key) / 1e9)
    }

    /// Times in seconds, as in all JSON.
    fn as_json(&self) -> Value {
        let mut all = Map::from_iter([("version".to_owned(), Value::from(1))]);
        for (key, text) in &self.0 {
            match (key.strip_suffix("_ns"), text.parse::<u64>()) {
                (Some(key), Ok(nanos)) => all.insert(format!("{key}_s"), Value::from(nanos as f64 / 1e9)),
                (None, Ok(number)) if key != "file" => all.insert(key.clone(), Value::from(number)),
                _ => all.insert(key.clone(), Value::from(text.as_str())),
            };
        }
        Value::from(all)
    }

    fn write(&self, options: &Ctl, out: &mut dyn Write) -> io::Result<()> {
        let file = plain(self.text("file"));
        let (at, bytes) = (self.seconds("complete_ns"), Bytes(self.number("bytes")));
        let argument = plain(options.argument.as_deref().unwrap_or_default());
        match options.order {
            Order::Mark => writeln!(out, "marked {at}: {file}@{argument}"),
            Order::Flush => writeln!(out, "{file} is complete up to {at}, {bytes}"),
            Order::Pause => writeln!(
                out,
                "paused at {at}: allocations are not recorded until resume; frees of recorded blocks are"
            ),
            Order::Resume => writeln!(out, "resumed: allocations are recorded again; {file}@resume"),
            Order::Interval => writeln!(out, "interval {argument} from {at} on"),
            Order::Stop => writeln!(out, "stopped at {at}: {file}, {bytes}; the process goes on untraced"),
            Order::Trim => self.write_trim(out),
            Order::Status => self.write_status(out),
        }
    }

    /// How much of what was resident the allocator was holding without need.
    fn write_trim(&self, out: &mut dyn Write) -> io::Result<()> {
        const WORTH: f64 = 0.05;
        let (before, after) = (self.number("resident_before"), self.number("resident_after"));
        let returned = (before - after).max(0.0);
        let meaning = match returned > WORTH * before {
            true => "the allocator was holding freed memory",
            false => {
                "the allocator held little that it could give back: what is resident is in use, at least in part of each page"
            }
        };
        writeln!(
            out,
            "{} gave back {}: resident memory {} → {} in {}: {meaning}",
            plain(self.text("function")),
            Bytes(returned),
            Bytes(before),
            Bytes(after),
            self.seconds("took_ns")
        )
    }

    fn write_status(&self, out: &mut dyn Write) -> io::Result<()> {
        let interval = match self.text("interval") {
            "every" => "every allocation".to_owned(),
            _ => format!("{} ({})", Bytes(self.number("interval")), self.text("chosen")),
        };
        let bytes = |key| Bytes(self.number(key));
        let count = |key| Count(self.number(key));
        writeln!(out, "process    {}, {} threads", self.text("pid"), count("threads"))?;
        writeln!(out, "file       {}, {}", plain(self.text("file")), bytes("bytes"))?;
        writeln!(out, "complete   up to {}; it is {}", self.seconds("complete_ns"), self.seconds("now_ns"))?;
        writeln!(out, "recording  {}, interval {interval}", self.text("recording"))?;
        if self.text("interval") != "every" {
            writeln!(out, "samples    {}, {} live", count("samples"), count("live_samples"))?;
        }
        writeln!(out, "lost       {} events", count("lost_events"))?;
        writeln!(out, "tracer     at most {} of its own memory", bytes("tracer_bytes"))
    }
}
