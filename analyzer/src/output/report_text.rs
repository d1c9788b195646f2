//! A report for a terminal: the verdict, what it rests on, and the stacks.

use crate::breakdown::By;
use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::compare::Comparison;
use crate::output::table::{self, Extent, callers_line, cut, interval};
use crate::output::{rows_text, top};
use crate::shape::{Kind, Shape};
use crate::story::{Holders, Story, mark_near, per_mark};
use crate::survey::{Segment, Survey};
use crate::symbols::Names;
use crate::units::{Bytes, Count, Duration, Net, Rate, Seconds, plain};
use crate::verdict::{Class, Parts};
use prof::Nanos;
use std::io::{self, Write};

/// Stacks in the tables beside the one of growth.
const FEW: usize = 5;

/// Writes all of it.
///
/// # Errors
/// Those of `out`.
pub fn write(
    story: &Story,
    survey: &Survey,
    chosen: &Chosen,
    extent: Extent,
    out: &mut impl Write,
) -> io::Result<()> {
    write_verdict(story, extent, out)?;
    write_facts(story, survey, out)?;
    if let Some(parts) = &story.finding.whole {
        write_parts(parts, story.finding.recent.as_ref(), survey, out)?;
    }
    if let Some(peak) = &story.peak {
        let at = Seconds(survey.seconds(peak.at));
        writeln!(
            out,
            "\nLive at the peak, {} at {at}: what was freed since, and is held\n",
            Bytes(peak.bytes)
        )?;
        for (node, bytes) in peak.stacks.iter().take(extent.top.min(FEW)) {
            write_stack(&peak.tree, *node, &peak.names, &Bytes(*bytes).to_string(), extent, out)?;
        }
    }
    if story.finding.class == Class::ThreadGrowth || story.finding.class == Class::AllocatorRetention {
        write_holders("threads", "Threads, by the stack that creates them", &story.threads, extent, out)?;
    }
    if story.finding.class == Class::MappedGrowth {
        write_holders("mappings", "Mapped memory, by the stack that maps it", &story.mappings, extent, out)?;
    }
    let by = chosen.breakdown.as_ref().map_or(By::Stack, |(rows, _)| rows.by);
    writeln!(out, "\nLive heap by {}: allocated in the span, and live at its end", by.text())?;
    rows_text::write_hidden(chosen, out)?;
    let note = |node| {
        let development = story.stacks.get(&node)?;
        Some(shape_line(&development.shape, story, survey))
    };
    table::write_chosen(&story.comparison, &story.names, chosen, extent, note, out)?;
    table::write_warnings(&story.comparison.warnings, out)
}

fn write_verdict(story: &Story, extent: Extent, out: &mut impl Write) -> io::Result<()> {
    let mut label = "VERDICT";
    let class = std::iter::once(story.finding.class.text());
    for line in class.chain(story.verdict.iter().map(String::as_str)) {
        write_wrapped(std::mem::take(&mut label), line, extent.width, out)?;
    }
    let mut label = "WHAT TO DO";
    for line in &story.advice {
        write_wrapped(std::mem::take(&mut label), line, extent.width, out)?;
    }
    writeln!(out)
}

/// A line beside its label, and what does not fit on it below. A number stays with its unit.
fn write_wrapped(label: &str, text: &str, width: usize, out: &mut impl Write) -> io::Result<()> {
    const MARGIN: usize = 11;
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '(');
    let mut line = format!("{label:MARGIN$}");
    let (mut used, mut glued) = (0, String::new());
    for word in plain(text).split(' ') {
        glued.push_str(word);
        if is_number(word) && !word.ends_with(|c: char| ".,:)".contains(c)) {
            glued.push(' ');
            continue;
        }
        let len = glued.chars().count();
        if used > 0 && MARGIN + used + 1 + len > width {
            writeln!(out, "{line}")?;
            line = " ".repeat(MARGIN);
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(&std::mem::take(&mut glued));
        used += len;
    }
    writeln!(out, "{}", format!("{line}{glued}").trim_end())
}

fn write_facts(story: &Story, survey: &Survey, out: &mut impl Write) -> io::Result<()> {
    let Comparison { before, after, growth, peak, allocated, .. } = &story.comparison;
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
    let peak_at = Seconds(survey.seconds(peak.time));
    writeln!(
        out,
        "live       {from} at its start, {to} at its end, {} at the peak ({peak_at})",
        Bytes(peak.bytes)
    )?;
    let resident = |time| survey.vitals.resident(time).map(|bytes| Bytes(bytes as f64));
    let (start, end) = (story.grid.time(0), story.grid.time(story.grid.steps()));
    if let (Some(from), Some(to)) = (resident(start), resident(end)) {
        writeln!(out, "memory     {from} at its start, {to} at its end: resident set and swap")?;
    }
    let (bytes, blocks) = (Bytes(allocated.bytes), Count(allocated.blocks));
    writeln!(out, "allocated  {bytes} in {blocks} blocks since the start")?;
    let how = story.comparison.recording;
    writeln!(
        out,
        "retained   {}, {how}, {}",
        Bytes(growth.retained.bytes),
        table::lost(story.comparison.lost_events)
    )
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

/// What the memory is that the process grew by.
fn write_parts(
    parts: &Parts,
    recent: Option<&Parts>,
    survey: &Survey,
    out: &mut impl Write,
) -> io::Result<()> {
    let at = |time| Seconds(survey.seconds(time));
    writeln!(out, "\nWhat the process grew by, {} to {}\n", at(parts.from), at(parts.to))?;
    let since =
        recent.map_or(String::new(), |recent| format!("{:>16}", format!("SINCE {}", at(recent.from))));
    writeln!(out, "{:>11}{:>8}{:>22}{since}  PART", "GROWTH", "SHARE", "95 % INTERVAL")?;
    for part in &parts.all {
        let recent = recent.map(|recent| (recent.get(part.name), recent));
        if part.bytes == 0 && recent.is_none_or(|(bytes, _)| bytes == 0) {
            continue;
        }
        // Of nearly nothing there are no shares.
        let percent = Some(100.0 * part.bytes as f64 / parts.growth as f64);
        let percent = percent.filter(|percent| parts.growth > 0 && percent.abs() < 999.95);
        let share = percent.map_or("–".to_owned(), |percent| format!("{percent:.1} %"));
        let interval = interval((part.ci95.0 as f64, part.ci95.1 as f64));
        let since =
            recent.map_or(String::new(), |(bytes, _)| format!("{:>16}", Net(bytes as f64).to_string()));
        let growth = Net(part.bytes as f64).to_string();
        writeln!(out, "{growth:>11}{share:>8}{interval:>22}{since}  {}", part.name.words())?;
    }
    let since =
        recent.map_or(String::new(), |recent| format!("{:>16}", Net(recent.growth as f64).to_string()));
    let growth = Net(parts.growth as f64).to_string();
    writeln!(out, "{growth:>11}{:>8}{:>22}{since}  all of it", "", "")?;
    let unknown: Vec<&str> = parts
        .all
        .iter()
        .filter(|part| !part.is_known && part.name != crate::verdict::Name::CopyOnWrite)
        .map(|part| part.name.words().split(':').next().unwrap_or(""))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    writeln!(out, "{:>11}  not measured: {}", "", unknown.join(", "))
}

fn write_holders(
    what: &str,
    title: &str,
    holders: &Holders,
    extent: Extent,
    out: &mut impl Write,
) -> io::Result<()> {
    let held: Vec<_> = holders.stacks.iter().filter(|(_, change)| change.after.acquired > 0).collect();
    if held.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}\n")?;
    for (node, change) in held.into_iter().take(extent.top.min(FEW)) {
        let (now, ever) = (Count(change.after.count() as f64), Count(change.after.acquired as f64));
        let figures =
            format!("{:>10}  {now} {what} now, {ever} ever", Net(change.bytes() as f64).to_string());
        write_stack(&holders.tree, *node, &holders.names, &figures, extent, out)?;
    }
    Ok(())
}

/// Two lines: figures and function, and its callers.
fn write_stack<V>(
    tree: &CallTree<V>,
    node: NodeHandle,
    names: &Names,
    figures: &str,
    extent: Extent,
    out: &mut impl Write,
) -> io::Result<()> {
    let top = top::of_stack(tree, node, names);
    let (function, callers) = top.split_first().unwrap_or((&"", &[]));
    let room = extent.width.saturating_sub(figures.chars().count().max(10) + 2).max(20);
    writeln!(out, "{figures:>10}  {}", cut(function, room))?;
    let callers = callers_line(callers, extent.width);
    if callers.is_empty() { Ok(()) } else { writeln!(out, "{callers}") }
}

/// `steady: +1.00 KiB/s (975 B/s – 1.02 KiB/s), r² 0.99, 270 B per mark`
fn shape_line(shape: &Shape, story: &Story, survey: &Survey) -> String {
    let at = |seconds: f64| Nanos(story.grid.time(0).0.saturating_add((seconds * 1e9) as u64));
    let lasting = shape.lasting.value;
    let new = match lasting > 0.0 {
        true => format!("{} expected to stay", Bytes(lasting)),
        false => "nothing expected to stay".to_owned(),
    };
    match shape.kind {
        Kind::Steady => {
            let (low, high) = shape.fit.ci95();
            let interval = match low == high {
                true => "exact".to_owned(),
                false => format!("{} – {}", rate(low), rate(high)),
            };
            let since = match shape.since > 0.0 {
                true => format!(" since {}", Seconds(survey.seconds(at(shape.since)))),
                false => String::new(),
            };
            let mark = per_mark(survey, &story.grid, shape);
            let mark = mark.map_or(String::new(), |bytes| format!(", {} per mark", Bytes(bytes)));
            format!(
                "steady: {} ({interval}){since}, r² {:.3}{mark}, {new}",
                Rate(shape.fit.slope),
                shape.fit.r2
            )
        }
        Kind::WarmUp => format!("warm-up: it has stopped growing, {new}"),
        Kind::Sawtooth { period, amplitude } => {
            format!("sawtooth: {} up and down, every {}, {new}", Bytes(amplitude), Duration(period))
        }
        Kind::Step { at: seconds, height } => {
            let time = at(seconds);
            let mark = mark_near(survey, &story.grid, time);
            let mark = mark.map_or(String::new(), |mark| format!(", at the mark '{mark}'"));
            format!("step: {} at {}{mark}, {new}", Net(height), Seconds(survey.seconds(time)))
        }
        Kind::Churn => format!("churn: blocks are replaced, {new}"),
        Kind::Unclear => "too few samples to tell a shape".to_owned(),
    }
}

fn rate(slope: f64) -> String {
    Rate(slope).to_string().trim_start_matches('+').to_owned()
}
