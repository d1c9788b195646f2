//! `timeline --json`: columns, each value at one of `times_s`.

use crate::output::json::VERSION;
use crate::timeline::{Series, Timeline};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

/// All of it. Every column is one line.
#[derive(Serialize, Debug)]
pub struct Document<'a> {
    version: u32,
    file: String,
    process: &'a str,
    span: Value,
    lost_events: u64,
    warnings: &'a [String],
    cgroup: Option<Value>,
    marks: Vec<Value>,
    pauses: Vec<Value>,
    intervals: Vec<Value>,
    not_measured: Vec<&'static str>,
    figures: Map<String, Value>,
    times_s: Box<RawValue>,
    memory: Vec<Column>,
    parts: Vec<Column>,
}

#[derive(Serialize, Debug)]
struct Column {
    name: &'static str,
    bytes: Box<RawValue>,
}

impl<'a> Document<'a> {
    /// What stands in it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn new(timeline: &'a Timeline) -> serde_json::Result<Document<'a>> {
        let (from, to) = timeline.span();
        let Timeline { resident, kinds, parts, .. } = timeline;
        let memory: Vec<&Series> = resident.iter().chain(kinds).collect();
        let figures = memory.iter().copied().chain(parts).map(|series| {
            let (peak, at) = series.peak.unzip();
            let figures =
                json!({"start": series.start(), "end": series.end(), "peak": peak, "peak_at_s": at});
            (series.text.to_owned(), figures)
        });
        Ok(Document {
            version: VERSION,
            file: timeline.path.display().to_string(),
            process: &timeline.process,
            span: json!({"from_s": from, "to_s": to}),
            lost_events: timeline.lost_events,
            warnings: &timeline.warnings,
            cgroup: timeline.limit.map(|bytes| json!({"limit_bytes": bytes})),
            marks: timeline.marks.iter().map(|(name, at)| json!({"name": name, "at_s": at})).collect(),
            pauses: timeline.pauses.iter().map(|(from, to)| json!({"from_s": from, "to_s": to})).collect(),
            intervals: timeline
                .intervals
                .iter()
                .map(|(at, bytes)| json!({"at_s": at, "bytes": bytes}))
                .collect(),
            not_measured: timeline.unknown.iter().map(|name| name.text()).collect(),
            figures: figures.collect(),
            times_s: to_raw_value(&timeline.times)?,
            memory: memory.into_iter().map(Column::new).collect::<Result<_, _>>()?,
            parts: parts.iter().map(Column::new).collect::<Result<_, _>>()?,
        })
    }
}

impl Column {
    fn new(series: &Series) -> serde_json::Result<Column> {
        Ok(Column { name: series.text, bytes: to_raw_value(&series.values)? })
    }
}
