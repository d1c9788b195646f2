//! `analyzer info`.

use super::{write_json, write_to};
use crate::cli::Info;
use crate::message;
use analyzer::census::Census;
use analyzer::compare::Error;
use analyzer::profile::Profile;
use analyzer::survey::{Segment, Survey};
use analyzer::units::{Bytes, Count, Seconds, plain};
use anyhow::Result;
use prof::{Nanos, Vital};
use serde_json::{Value, json};
use std::io::{self, Write};

pub fn run(options: &Info) -> Result<()> {
    let profile = Profile::at(&options.file);
    let failed = |error| Error::Read(options.file.clone(), error);
    let survey = profile.survey().map_err(failed)?;
    let census = Census::take(&profile, &survey).map_err(failed)?;
    let path = options.file.display();
    let damage = survey.damage.iter().map(|damage| format!("{path}: {damage}; what precedes it is used"));
    let warnings: Vec<String> = damage.chain(survey.uncovered(&path.to_string())).collect();
    message::warn(&warnings);
    write_to(None, |out| match options.json {
        true => write_json(&as_json(&survey, &census, &warnings), out),
        false => write_text(&survey, &census, &warnings, out),
    })
}

fn run_id(run: prof::RunId) -> String {
    run.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_text(survey: &Survey, census: &Census, warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "format     version {}, run {}", survey.header.version, run_id(survey.header.run))?;
    let ended = match &survey.ended {
        Some(reason) => format!("ended: {reason}"),
        None => "no end recorded".to_owned(),
    };
    let (from, to) = (survey.seconds(survey.start()), survey.seconds(survey.end()));
    writeln!(out, "span       {} to {}, {ended}", Seconds(from), Seconds(to))?;
    if let Some(fork) = &survey.fork {
        let path = fork.path.display().to_string();
        writeln!(out, "forked     from run {}, {}", run_id(fork.run), plain(&path))?;
    }
    if let Some(Segment { time, number, path, .. }) = &survey.segment {
        let (from, path) = (Seconds(survey.seconds(*time)), path.display().to_string());
        writeln!(out, "segment    {number}, from {from} on; before: {}", plain(&path))?;
    }
    let size = Bytes(survey.sound_bytes as f64);
    writeln!(out, "file       {size} in {} blocks", Count(survey.blocks as f64))?;
    let records = survey.records;
    writeln!(
        out,
        "records    {}: {} stack nodes, {} samples, {} of them freed, {} sums of samples that died young",
        Count(records.all as f64),
        Count(records.nodes as f64),
        Count(records.samples as f64),
        Count(records.freed as f64),
        Count(records.folded as f64)
    )?;
    let (events, bytes) = (Count(census.events as f64), Bytes(survey.event_bytes as f64));
    writeln!(out, "events     {events} in {bytes}")?;
    let lost: Vec<String> = survey
        .lost
        .iter()
        .map(|(why, events)| format!("{} ({})", Count(*events as f64), why.text()))
        .collect();
    writeln!(out, "lost       {}", if lost.is_empty() { "no events".to_owned() } else { lost.join(", ") })?;
    section(out, "facts", survey.facts.iter().map(|(key, value)| format!("{key} = {value}")))?;
    let vitals = last_vitals(survey).map(|(vital, value)| format!("{} = {value}", vital.text()));
    section(out, "vitals", vitals.collect::<Vec<_>>().into_iter())?;
    let at = |time| Seconds(survey.seconds(time));
    section(out, "marks", survey.marks.iter().map(|(name, time)| format!("{} {name}", at(*time))))?;
    let paused = |(from, to): &(Nanos, Option<Nanos>)| {
        format!("{} to {}", at(*from), to.map_or("the end".to_owned(), |to| at(to).to_string()))
    };
    section(out, "pauses", survey.pauses.all().iter().map(paused))?;
    section(
        out,
        "threads",
        census.threads.iter().map(|thread| {
            let end = thread.end.map_or("the end".to_owned(), |end| at(end).to_string());
            format!("{} {} ({} to {end})", thread.tid, thread.name, at(thread.start))
        }),
    )?;
    section(
        out,
        "modules",
        survey.images.iter().map(|image| {
            let gone = if image.generations.1.is_some() { " (unloaded)" } else { "" };
            format!("{} {}{gone}", image.identity, image.path)
        }),
    )?;
    warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn section(out: &mut dyn Write, name: &str, lines: impl ExactSizeIterator<Item = String>) -> io::Result<()> {
    if lines.len() == 0 {
        return Ok(());
    }
    writeln!(out, "{name} ({})", lines.len())?;
    for line in lines {
        writeln!(out, "  {}", plain(&line))?;
    }
    Ok(())
}

fn as_json(survey: &Survey, census: &Census, warnings: &[String]) -> Value {
    let at = |time| survey.seconds(time);
    let facts: serde_json::Map<String, Value> =
        survey.facts.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    let threads: Vec<Value> = census
        .threads
        .iter()
        .map(|t| json!({"tid": t.tid, "name": &*t.name, "start_s": at(t.start), "end_s": t.end.map(at)}))
        .collect();
    let modules: Vec<Value> = survey
        .images
        .iter()
        .map(|image| {
            let gone = image.generations.1.is_some();
            json!({"path": image.path, "identity": image.identity, "unloaded": gone})
        })
        .collect();
    let lost: serde_json::Map<String, Value> =
        survey.lost.iter().map(|(why, events)| (why.text().to_owned(), Value::from(*events))).collect();
    let vitals: serde_json::Map<String, Value> =
        last_vitals(survey).map(|(vital, value)| (vital.text().to_owned(), Value::from(value))).collect();
    let marks: Vec<Value> =
        survey.marks.iter().map(|(name, time)| json!({"name": name, "at_s": at(*time)})).collect();
    let pauses: Vec<Value> = survey
        .pauses
        .all()
        .iter()
        .map(|(from, to)| json!({"from_s": at(*from), "to_s": to.map(at)}))
        .collect();
    json!({
        "version": 1,
        "format_version": survey.header.version,
        "run": run_id(survey.header.run),
        "span": {"from_s": at(survey.start()), "to_s": at(survey.end())},
        "forked_from": survey.fork.as_ref().map(|fork| json!({"run": run_id(fork.run), "file": fork.path})),
        "segment": survey.segment.as_ref().map(|s| json!({"number": s.number, "from_s": at(s.time), "file_before": s.path})),
        "ended": survey.ended,
        "blocks": survey.blocks,
        "sound_bytes": survey.sound_bytes,
        "records": {
            "all": survey.records.all,
            "nodes": survey.records.nodes,
            "samples": survey.records.samples,
            "freed": survey.records.freed,
            "folded": survey.records.folded,
        },
        "events": census.events,
        "event_bytes": survey.event_bytes,
        "facts": facts,
        "vitals": vitals,
        "marks": marks,
        "pauses": pauses,
        "threads": threads,
        "modules": modules,
        "lost": lost,
        "lost_events": survey.lost_events(),
        "warnings": warnings,
    })
}

/// The last value of each.
fn last_vitals(survey: &Survey) -> impl Iterator<Item = (Vital, u64)> + '_ {
    Vital::ALL.iter().filter_map(|&vital| Some((vital, survey.vitals.at(vital, survey.end())?)))
}
