//! `analyzer report`.

use super::{lookup, width, write_json, write_to};
use crate::cli::Report;
use crate::message::{self, SymbolBar};
use analyzer::compare::{Comparison, compare};
use analyzer::input::Input;
use analyzer::instant::{At, Target};
use analyzer::output::table::Extent;
use analyzer::output::{json, table};
use analyzer::profile::{Segment, Survey};
use analyzer::symbols::Names;
use analyzer::units::{Bytes, Count, Seconds, plain};
use anyhow::{Context, Result};
use std::io::{self, Write};

pub fn run(options: &Report) -> Result<()> {
    let (from, to) = span(options.span.as_deref())?;
    let after = Input::open(&Target { path: options.file.clone(), at: to })?;
    let before = after.moved(&from)?;
    let mut bar = SymbolBar::new();
    let comparison = compare(&before, &after, &lookup(&options.symbols)?, |progress| bar.update(progress))?;
    drop(bar);
    message::warn(&comparison.warnings);
    let names = comparison.tree.symbols.display(options.symbols.names.into());
    let peak_s = after.survey.seconds(comparison.peak.time);
    let extent = Extent { width: width(), top: options.top };
    write_to(None, |out| match options.json {
        true => write_json(&json::Report::new(&comparison, &after.survey, &names), out),
        false => write_text(&after.survey, &comparison, Seconds(peak_s), &names, extent, out),
    })
}

/// `A..B`, each as it stands after '@'.
fn span(typed: Option<&str>) -> Result<(At, At)> {
    let Some(typed) = typed else { return Ok((At::Start, At::End)) };
    let failed = || format!("failed to read the span '{typed}'");
    let (from, to) = typed.split_once("..").context("'..' is missing").with_context(failed)?;
    Ok((At::parse(from).with_context(failed)?, At::parse(to).with_context(failed)?))
}

fn write_text(
    survey: &Survey,
    comparison: &Comparison,
    peak_at: Seconds,
    names: &Names,
    extent: Extent,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let Comparison { before, after, growth, peak, allocated, .. } = comparison;
    writeln!(out, "process    {}", plain(&process(survey)))?;
    writeln!(out, "span       {} to {}", before.at, after.at)?;
    let end = Seconds(survey.seconds(survey.end()));
    match &survey.ended {
        Some(reason) => writeln!(out, "file       complete, up to {end}: {}", plain(reason))?,
        None => writeln!(
            out,
            "file       complete up to {end}, without an end: the process went on, or ended without closing it"
        )?,
    }
    if let Some(Segment { time, number, path, allocated }) = &survey.segment {
        let (from, path) = (Seconds(survey.seconds(*time)), path.display().to_string());
        let (bytes, blocks) = (Bytes(allocated.bytes), Count(allocated.blocks));
        writeln!(
            out,
            "segment    {number}, which begins at {from} with what was live; the peak is since then"
        )?;
        writeln!(
            out,
            "           before: {bytes} allocated in {blocks} blocks; the file before: {}",
            plain(&path)
        )?;
    }
    let (from, to) = (Bytes(before.live_bytes), Bytes(after.live_bytes));
    writeln!(
        out,
        "live       {from} at its start, {to} at its end, {} at the peak ({peak_at})",
        Bytes(peak.bytes)
    )?;
    let (bytes, blocks) = (Bytes(allocated.bytes), Count(allocated.blocks));
    writeln!(out, "allocated  {bytes} in {blocks} blocks since the start")?;
    let how = comparison.recording;
    writeln!(
        out,
        "retained   {}, {how}, {}",
        Bytes(growth.retained.bytes),
        table::lost(comparison.lost_events)
    )?;
    table::write_growth(comparison, names, extent, &mut out)?;
    table::write_warnings(&comparison.warnings, &mut out)
}

/// Command, process id and settings, as far as the file has them.
fn process(survey: &Survey) -> String {
    let mut parts =
        vec![survey.fact("command").or(survey.fact("executable")).unwrap_or("unknown").to_owned()];
    let named =
        [("pid", "pid"), ("interval", "interval"), ("allocator", "allocator"), ("libtrace", "tracer")];
    for (name, key) in named {
        parts.extend(survey.fact(key).map(|value| format!("{name} {value}")));
    }
    parts.join(", ")
}
