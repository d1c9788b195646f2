//! A table of growth for a terminal: of each stack its figures with their intervals, its function, and its callers.

use crate::calltree::NodeHandle;
use crate::choice::Chosen;
use crate::compare::{Comparison, Side};
use crate::growth::{GrownStack, Growth, Meaning};
use crate::modules::file_name;
use crate::output::columns::{self, Cell, Line};
use crate::output::rows_text;
use crate::symbols::Names;
use crate::units::{Bytes, Count, Net, Share, plain, with_interval};
use std::io::{self, Write};

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Columns.
    pub width: usize,
    /// Stacks.
    pub top: usize,
}

/// `Retained growth 61.2 MiB (52.0 – 71.6 MiB): a.prof (12.0 s) to b.prof (27.0 s)`, files by name only.
pub fn title(comparison: &Comparison) -> String {
    let Comparison { before, after, growth, .. } = comparison;
    let side = |side: &Side| format!("{} ({})", file_name(&side.path), side.at);
    let retained = with_interval(growth.retained.estimated_bytes(), Bytes);
    format!("Retained growth {retained}: {} to {}", side(before), side(after))
}

/// What the figures mean, and what they rest on.
pub fn subtitle(comparison: &Comparison) -> String {
    let meaning = match comparison.growth.meaning {
        Meaning::Matched => "matched: bytes allocated after the first instant and live at the second",
        Meaning::Aggregated => {
            "aggregated, of two processes: live bytes at the second instant minus those at the first, by symbol"
        }
    };
    format!("{meaning}; {}; {}", comparison.recording, lost(comparison.lost_events))
}

/// How many events are missing.
pub fn lost(events: u64) -> String {
    match events {
        0 => "no events lost".to_owned(),
        1 => "1 event lost".to_owned(),
        n => format!("{} events lost", Count(n as f64)),
    }
}

/// Writes title, table and warnings.
///
/// # Errors
/// Those of `out`.
pub fn write(
    comparison: &Comparison,
    names: &Names,
    chosen: &Chosen,
    extent: Extent,
    mut out: impl Write,
) -> io::Result<()> {
    let [before, after] = [&comparison.before, &comparison.after].map(|side| with_interval(side.live, Bytes));
    let live = format!("live       {before} at the first instant, {after} at the second");
    for text in [title(comparison), subtitle(comparison), live] {
        columns::wrapped(&text, extent.width).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    rows_text::write_hidden(chosen, &mut out)?;
    write_chosen(comparison, names, chosen, extent, |_| None, &mut out)?;
    write_warnings(&comparison.warnings, &mut out)
}

/// Writes one line for each.
///
/// # Errors
/// Those of `out`.
pub fn write_warnings(warnings: &[String], out: &mut impl Write) -> io::Result<()> {
    warnings.iter().try_for_each(|warning| writeln!(out, "warning: {}", plain(warning)))
}

/// Writes the rows that were asked for, or else the table of growth.
///
/// # Errors
/// Those of `out`.
pub fn write_chosen(
    comparison: &Comparison,
    names: &Names,
    chosen: &Chosen,
    extent: Extent,
    note: impl Fn(NodeHandle) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    match &chosen.breakdown {
        Some((rows, columns)) => {
            rows_text::write((rows, columns), (&comparison.tree, names), extent, note, out)
        }
        None => write_growth(comparison, names, extent, note, out),
    }
}

/// Writes the table itself; `note` says something more of a stack, on a line of its own.
///
/// # Errors
/// Those of `out`.
fn write_growth(
    comparison: &Comparison,
    names: &Names,
    extent: Extent,
    note: impl Fn(NodeHandle) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let Growth { retained: whole, stacks, .. } = &comparison.growth;
    if stacks.is_empty() {
        return writeln!(out, "\nNothing grew.\n");
    }
    writeln!(out)?;
    let line = |stack: &GrownStack| {
        let grown = &stack.retained;
        let cells = vec![
            Cell::estimate(grown.estimated_bytes(), Bytes),
            Cell::estimate(grown.bytes.share_of(&whole.bytes), Share),
            Cell::estimate(grown.estimated_blocks(), Count),
            Cell::estimate(stack.net, Net),
        ];
        Line::of_stack(cells, &comparison.tree, stack.node, names, note(stack.node))
    };
    let lines: Vec<Line> = stacks.iter().take(extent.top).map(line).collect();
    let heads = (&["RETAINED", "SHARE", "COUNT", "NET"][..], "FUNCTION < CALLERS");
    columns::write(heads, &lines, extent.width, out)?;
    if let Some((first, others)) = stacks.get(extent.top..).and_then(<[_]>::split_first) {
        let rest = others.iter().fold(first.retained, |sum, stack| sum.plus(&stack.retained));
        columns::write_rest(&rest, (1 + others.len(), "stack"), out)?;
    }
    writeln!(out)
}
