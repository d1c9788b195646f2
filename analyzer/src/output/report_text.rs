//! A report for a terminal: the verdict, what it rests on, and the stacks.

use crate::breakdown::By;
use crate::calltree::NodeHandle;
use crate::choice::Chosen;
use crate::compare::Comparison;
use crate::estimate::{Estimate, Sum};
use crate::output::columns::{self, Cell, Line};
use crate::output::rows_text;
use crate::output::table::{self, Extent};
use crate::shape::{Kind, Shape};
use crate::story::{Change, Holders, Story, mark_near, per_mark};
use crate::survey::{Recording, Survey};
use crate::units::{Bytes, Count, Duration, Net, Rate, Seconds, interval, with_interval};
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
    write_facts(story, survey, extent.width, out)?;
    if let Some(parts) = &story.finding.whole {
        write_parts(parts, story.finding.recent.as_ref(), survey, out)?;
    }
    if let Some(peak) = &story.peak {
        let (bytes, at) = (with_interval(peak.bytes, Bytes), Seconds(survey.seconds(peak.at)));
        let title = format!("Live at the peak, {bytes} at {at}: what was freed since, and is held");
        let young = match story.comparison.recording {
            Recording::Every => String::new(),
            Recording::Sampled { .. } => {
                let age = Duration(survey.settle_time().seconds());
                format!("; without blocks that lived for less than {age}")
            }
        };
        writeln!(out)?;
        for line in columns::wrapped(&format!("{title}{young}"), extent.width) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        let line = |(node, bytes): &(NodeHandle, Sum)| {
            Line::of_stack(vec![Cell::estimate(*bytes, Bytes)], &peak.tree, *node, &peak.names, None)
        };
        let lines: Vec<Line> = peak.stacks.iter().take(extent.top.min(FEW)).map(line).collect();
        columns::write((&["LIVE"], "FUNCTION < CALLERS"), &lines, extent.width, out)?;
    }
    if story.finding.class == Class::ThreadGrowth || story.finding.class == Class::AllocatorRetention {
        write_holders("Threads, by the stack that creates them", &story.threads, extent, out)?;
    }
    if story.finding.class == Class::MappedGrowth {
        write_holders("Mapped memory, by the stack that maps it", &story.mappings, extent, out)?;
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

/// A line beside its label, and what does not fit on it below.
fn write_wrapped(label: &str, text: &str, width: usize, out: &mut impl Write) -> io::Result<()> {
    const MARGIN: usize = 11;
    let lines = columns::wrapped(text, width.saturating_sub(MARGIN));
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels
        .zip(lines)
        .try_for_each(|(label, line)| writeln!(out, "{}", format!("{label:MARGIN$}{line}").trim_end()))
}

fn write_facts(story: &Story, survey: &Survey, width: usize, out: &mut impl Write) -> io::Result<()> {
    let Comparison { before, after, growth, peak, allocated, .. } = &story.comparison;
    write_wrapped("process", &process(survey), width, out)?;
    let end = Seconds(survey.seconds(survey.end()));
    let mut span = format!("{} to {}", before.at, after.at);
    if story.after.is_before_exit() {
        let rest = Duration(end.0 - after.at.0);
        span += &format!(", where the process began to exit: what it freed in the last {rest} is left out");
        span += " (--span start..end has all)";
    }
    write_wrapped("span", &span, width, out)?;
    let file = match &survey.ended {
        Some(reason) => format!("complete, up to {end}: {reason}"),
        None => {
            format!("complete up to {end}, without an end: the process went on, or ended without closing it")
        }
    };
    write_wrapped("file", &file, width, out)?;
    if let Some(segment) = &survey.segment {
        let (from, path) = (Seconds(survey.seconds(segment.time)), segment.path.display().to_string());
        let (number, allocated) = (segment.number, amount(&segment.allocated(survey)));
        let since = format!("{number}, which begins at {from} with what was live; the peak is since then");
        write_wrapped("segment", &since, width, out)?;
        write_wrapped("", &format!("before: {allocated} allocated; the file before: {path}"), width, out)?;
    }
    let [from, to, most] = [before.live, after.live, peak.bytes].map(|sum| with_interval(sum, Bytes));
    let peak_at = Seconds(survey.seconds(peak.time));
    let live = format!("{from} at its start, {to} at its end, {most} at the peak, {peak_at}");
    write_wrapped("live", &live, width, out)?;
    let resident = |time| survey.vitals.resident(time).map(|bytes| Bytes(bytes as f64));
    let (start, end) = (story.grid.time(0), story.grid.time(story.grid.steps()));
    if let (Some(from), Some(to)) = (resident(start), resident(end)) {
        writeln!(out, "memory     {from} at its start, {to} at its end: resident set and swap")?;
    }
    write_wrapped("allocated", &format!("{} since the start", amount(allocated)), width, out)?;
    let retained = with_interval(growth.retained.estimated_bytes(), Bytes);
    let (how, lost) = (story.comparison.recording, table::lost(story.comparison.lost_events));
    write_wrapped("retained", &format!("{retained}, {how}, {lost}"), width, out)
}

/// `61.2 MiB (52.0 – 71.6 MiB) in 312,004 blocks (265,000 – 365,000)`
fn amount(of: &Estimate) -> String {
    format!(
        "{} in {}",
        with_interval(of.bytes, Bytes),
        with_interval(of.blocks, |n| format!("{} blocks", Count(n)))
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
        let interval = interval((part.ci95.0 as f64, part.ci95.1 as f64), Bytes);
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

fn write_holders(title: &str, holders: &Holders, extent: Extent, out: &mut impl Write) -> io::Result<()> {
    let held: Vec<_> = holders.stacks.iter().filter(|(_, change)| change.after.acquired > 0).collect();
    if held.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}\n")?;
    let line = |(node, change): &&(NodeHandle, Change)| {
        let (now, ever) = (change.after.count(), change.after.acquired);
        let cells = vec![
            Cell::plain(Net(change.bytes() as f64)),
            Cell::plain(Count(now as f64)),
            Cell::plain(Count(ever as f64)),
        ];
        Line::of_stack(cells, &holders.tree, *node, &holders.names, None)
    };
    let lines: Vec<Line> = held.iter().take(extent.top.min(FEW)).map(line).collect();
    columns::write((&["GROWTH", "NOW", "EVER"], "FUNCTION < CALLERS"), &lines, extent.width, out)
}

/// `steady: +1.00 KiB/s (975 B/s – 1.02 KiB/s), r² 0.990, 270 B per mark, 61.2 KiB expected to stay`
fn shape_line(shape: &Shape, story: &Story, survey: &Survey) -> String {
    let at = |seconds: f64| Nanos(story.grid.time(0).0.saturating_add((seconds * 1e9) as u64));
    let new = match shape.lasting.value > 0.0 {
        true => format!("{} expected to stay", with_interval(shape.lasting, Bytes)),
        false => "nothing expected to stay".to_owned(),
    };
    match shape.kind {
        Kind::Steady => {
            let since = match shape.since > 0.0 {
                true => format!(" since {}", Seconds(survey.seconds(at(shape.since)))),
                false => String::new(),
            };
            let mark = per_mark(survey, &story.grid, shape);
            let mark =
                mark.map_or(String::new(), |bytes| format!(", {} per mark", with_interval(bytes, Bytes)));
            let slope = with_interval(shape.fit.estimated(), rate);
            format!("steady: +{slope}{since}, r² {:.3}{mark}, {new}", shape.fit.r2)
        }
        Kind::WarmUp => format!("warm-up: it has stopped growing, {new}"),
        Kind::Sawtooth { period, amplitude } => format!(
            "sawtooth: {} up and down, every {}, {new}",
            with_interval(amplitude, Bytes),
            with_interval(period, Duration)
        ),
        Kind::Step { at: seconds, height } => {
            let time = at(seconds);
            let mark = mark_near(survey, &story.grid, time);
            let mark = mark.map_or(String::new(), |mark| format!(", at the mark '{mark}'"));
            let (height, time) = (with_interval(height, Net), Seconds(survey.seconds(time)));
            format!("step: {height} at {time}{mark}, {new}")
        }
        Kind::Churn => format!("churn: blocks are replaced, {new}"),
        Kind::Unclear => "too few samples to tell a shape".to_owned(),
    }
}

fn rate(slope: f64) -> String {
    Rate(slope).to_string().trim_start_matches('+').to_owned()
}
