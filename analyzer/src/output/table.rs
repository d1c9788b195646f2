//! A table of growth for a terminal: two lines a stack, its figures and function, and its callers.

use crate::calltree::NodeHandle;
use crate::choice::Chosen;
use crate::compare::{Comparison, Side};
use crate::growth::{Growth, Meaning};
use crate::modules::file_name;
use crate::output::{rows_text, top};
use crate::symbols::Names;
use crate::units::{Bytes, Count, Net, plain};
use std::io::{self, Write};

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Columns.
    pub width: usize,
    /// Stacks.
    pub top: usize,
}

/// `Retained growth 61.2 MiB: a.prof (12.0 s, 180 MiB live) to b.prof (27.0 s, 243 MiB live)`, files by name only.
pub fn title(comparison: &Comparison) -> String {
    let Comparison { before, after, growth, .. } = comparison;
    let side =
        |side: &Side| format!("{} ({}, {} live)", file_name(&side.path), side.at, Bytes(side.live_bytes));
    format!("Retained growth {}: {} to {}", Bytes(growth.retained.bytes), side(before), side(after))
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
    writeln!(out, "{}", title(comparison))?;
    writeln!(out, "{}", subtitle(comparison))?;
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
    write_row(
        out,
        extent.width,
        ["RETAINED", "SHARE", "COUNT", "95 % INTERVAL", "NET"],
        "FUNCTION < CALLERS",
    )?;
    for stack in stacks.iter().take(extent.top) {
        let grown = stack.retained;
        let share = 100.0 * grown.bytes / whole.bytes.max(f64::MIN_POSITIVE);
        let figures = [
            &*Bytes(grown.bytes).to_string(),
            &format!("{share:.1} %"),
            &Count(grown.count).to_string(),
            &interval(grown.ci95),
            &Net(stack.net_bytes).to_string(),
        ];
        let top = top::of_stack(&comparison.tree, stack.node, names);
        let (function, callers) = top.split_first().unwrap_or((&"", &[]));
        write_row(out, extent.width, figures, function)?;
        let callers = callers_line(callers, extent.width);
        if !callers.is_empty() {
            writeln!(out, "{callers}")?;
        }
        if let Some(note) = note(stack.node) {
            writeln!(out, "{:INDENT$}{}", "", plain(&note))?;
        }
    }
    if stacks.len() > extent.top {
        let rest = stacks.iter().skip(extent.top).fold(0.0, |sum, stack| sum + stack.retained.bytes);
        let more = Count((stacks.len() - extent.top) as f64);
        writeln!(out, "{:>10}  in {more} more stacks", Bytes(rest).to_string())?;
    }
    writeln!(out)
}

pub(crate) fn interval((low, high): (f64, f64)) -> String {
    if low == high {
        return "exact".to_owned();
    }
    let (low, high) = (Bytes(low).to_string(), Bytes(high).to_string());
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} – {high}"),
        _ => format!("{low} – {high}"),
    }
}

const FIGURES_WIDTH: usize = 10 + 8 + 12 + 20 + 11 + 2;
pub(crate) const INDENT: usize = 14;

fn write_row(out: &mut impl Write, width: usize, figures: [&str; 5], function: &str) -> io::Result<()> {
    let [retained, share, count, interval, net] = figures;
    let function = cut(function, width.saturating_sub(FIGURES_WIDTH).max(20));
    writeln!(out, "{retained:>10}{share:>8}{count:>12}{interval:>20}{net:>11}  {function}")
}

/// As many callers as fit into one line, at least one.
pub(crate) fn callers_line(callers: &[&str], width: usize) -> String {
    let mut line = String::new();
    let mut used = INDENT;
    for (i, caller) in callers.iter().enumerate() {
        let is_last = i + 1 == callers.len();
        let needed = 3 + caller.chars().count() + if is_last { 0 } else { 4 };
        if i > 0 && used + needed > width {
            line.push_str(" < …");
            break;
        }
        line.push_str(" < ");
        line.push_str(&cut(caller, width.saturating_sub(INDENT + 3).max(20)));
        used += 3 + caller.chars().count();
    }
    if line.is_empty() { line } else { format!("{:INDENT$}{}", "", line.trim_start()) }
}

/// The last characters of a name, which say more than the first; `…` for the rest.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let text = plain(text);
    let len = text.chars().count();
    if len <= width {
        return text;
    }
    ['…'].into_iter().chain(text.chars().skip(len + 1 - width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_fill_the_line_and_no_more() {
        let callers = ["alpha", "beta", "gamma", "delta"];
        assert_eq!(callers_line(&callers, 100).trim(), "< alpha < beta < gamma < delta");
        let narrow = callers_line(&callers, 36);
        assert_eq!(narrow.trim(), "< alpha < beta < …");
        assert!(narrow.chars().count() <= 36);
        assert_eq!(callers_line(&[], 80), "");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer!", 6), "…ößer!");
    }
}
