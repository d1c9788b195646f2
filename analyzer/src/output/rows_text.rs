//! A table of rows of one's choice for a terminal, and what is not in it.

use crate::breakdown::{Breakdown, By, Column, Row};
use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::filter::{Amount, Filter, Hidden};
use crate::output::table::{Extent, INDENT, callers_line, cut, interval};
use crate::output::top;
use crate::symbols::Names;
use crate::units::{Bytes, Count, Duration, Net, plain};
use std::fmt::Write as _;
use std::io::{self, Write};

/// What is not shown, in a line for each reason.
pub fn hidden_lines(hidden: Option<&(Filter, Hidden)>) -> Vec<String> {
    let Some((filter, hidden)) = hidden else { return Vec::new() };
    let mut lines = Vec::new();
    let expressions = [("--focus", &filter.focus), ("--ignore", &filter.ignore)];
    let given = expressions.into_iter().filter_map(|(name, e)| Some(format!("{name} {}", e.as_ref()?)));
    let given: Vec<String> = given.collect();
    if !given.is_empty() {
        lines.push(format!("not shown  {}: {}", amount(&hidden.passed_over), given.join(", ")));
    }
    if let Some(suppressions) = &filter.suppressions {
        let mut line = format!("suppressed {}: {}", amount(&hidden.suppressed), suppressions.path.display());
        let mut used: Vec<(&String, &Amount)> =
            suppressions.patterns.iter().zip(&hidden.by_pattern).collect();
        used.retain(|(_, amount)| amount.stacks > 0);
        used.sort_by(|a, b| b.1.bytes.total_cmp(&a.1.bytes));
        const MOST: usize = 5;
        let named =
            used.iter().take(MOST).map(|(pattern, amount)| format!("{pattern} {}", Bytes(amount.bytes)));
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            let more = if used.len() > MOST { ", …" } else { "" };
            let _ = write!(line, " ({}{more})", named.join(", "));
        }
        lines.push(line);
    }
    lines.iter().map(|line| plain(line)).collect()
}

/// The same behind other things that are said of a picture.
pub fn hidden_text(hidden: Option<&(Filter, Hidden)>) -> String {
    hidden_lines(hidden).iter().fold(String::new(), |text, line| text + "; " + line)
}

fn amount(amount: &Amount) -> String {
    let stacks = if amount.stacks == 1 { "stack" } else { "stacks" };
    format!("{} in {} {stacks}", Bytes(amount.bytes), Count(amount.stacks as f64))
}

/// Writes what is not shown.
///
/// # Errors
/// Those of `out`.
pub fn write_hidden(chosen: &Chosen, out: &mut impl Write) -> io::Result<()> {
    hidden_lines(chosen.hidden.as_ref()).iter().try_for_each(|line| writeln!(out, "{line}"))
}

impl Column {
    const fn head(self) -> (&'static str, usize) {
        match self {
            Column::Retained => ("RETAINED", 10),
            Column::Share => ("SHARE", 8),
            Column::Interval => ("95 % INTERVAL", 20),
            Column::Count => ("COUNT", 12),
            Column::Net => ("NET", 11),
            Column::Live => ("LIVE", 10),
            Column::Allocated => ("ALLOCATED", 11),
            Column::Freed => ("FREED", 10),
            Column::Peak => ("AT PEAK", 10),
            Column::Temporary => ("TEMPORARY", 11),
            Column::Age => ("AGE", 9),
            Column::Largest => ("LARGEST", 10),
            Column::Stacks => ("STACKS", 8),
        }
    }
}

/// All columns, in their order.
pub const ALL: [Column; 13] = [
    Column::Retained,
    Column::Share,
    Column::Interval,
    Column::Count,
    Column::Net,
    Column::Live,
    Column::Allocated,
    Column::Freed,
    Column::Peak,
    Column::Temporary,
    Column::Age,
    Column::Largest,
    Column::Stacks,
];

/// The columns that fit beside a name, the one among them that rows are sorted by.
fn fitting(width: usize, sort: Column) -> Vec<Column> {
    use Column::{Age, Allocated, Interval, Net, Peak, Retained, Share, Temporary};
    let mut columns = match width {
        ..100 => vec![Retained, Interval, Net, Temporary],
        100..140 => vec![Retained, Share, Interval, Net, Allocated, Temporary],
        _ => vec![Retained, Share, Interval, Net, Allocated, Peak, Temporary, Age],
    };
    if !columns.contains(&sort) {
        columns.pop();
        columns.push(sort);
    }
    columns
}

/// The least room for a name beside the figures; with less it goes to a line of its own.
const LEAST_NAME: usize = 20;

/// Writes the table; `note` says something more of a stack, on a line of its own.
///
/// # Errors
/// Those of `out`.
pub fn write<V>(
    (breakdown, columns): (&Breakdown, &[Column]),
    (tree, names): (&CallTree<V>, &Names),
    extent: Extent,
    note: impl Fn(NodeHandle) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    if breakdown.rows.is_empty() {
        return writeln!(out, "\nNothing to show.\n");
    }
    let columns = if columns.is_empty() { fitting(extent.width, breakdown.sort) } else { columns.to_vec() };
    let used: usize = columns.iter().map(|column| column.head().1).sum::<usize>() + 2;
    let is_beside = used + LEAST_NAME <= extent.width;
    let heads: String =
        columns.iter().map(|column| format!("{:>1$}", column.head().0, column.head().1)).collect();
    let head = match breakdown.by {
        By::Function => "FUNCTION",
        By::Library => "LIBRARY",
        By::Thread => "THREAD",
        By::Stack => "FUNCTION < CALLERS",
    };
    let room = extent.width.saturating_sub(if is_beside { used } else { INDENT });
    let write_row = |figures: &str, name: &str, out: &mut dyn Write| match is_beside {
        true => writeln!(out, "{figures}  {}", cut(name, room)),
        false => writeln!(out, "{figures}\n{:INDENT$}{}", "", cut(name, room)),
    };
    writeln!(out)?;
    write_row(&heads, head, out)?;
    for row in breakdown.rows.iter().take(extent.top) {
        let cells = columns.iter().map(|column| {
            let text = cell(breakdown, row, *column);
            format!("{text:>0$}", column.head().1)
        });
        write_row(&cells.collect::<String>(), &name(row, room), out)?;
        let Some(node) = row.node else { continue };
        let top = top::of_stack(tree, node, names);
        let callers = callers_line(top.get(1..).unwrap_or(&[]), extent.width);
        if !callers.is_empty() {
            writeln!(out, "{callers}")?;
        }
        if let Some(note) = note(node) {
            writeln!(out, "{:INDENT$}{}", "", plain(&note))?;
        }
    }
    if let Some(more) = breakdown.rows.len().checked_sub(extent.top).filter(|more| *more > 0) {
        let rest = breakdown.rows.iter().skip(extent.top);
        let rest = rest.fold(0.0, |sum, row| sum + row.figures.retained(breakdown.meaning).bytes);
        let rows = if more == 1 { "row" } else { "rows" };
        writeln!(out, "{:>10}  in {} more {rows}", Bytes(rest).to_string(), Count(more as f64))?;
    }
    writeln!(out)
}

/// With the module where the name does not say it, and there is room.
fn name(row: &Row, room: usize) -> String {
    let with_module = row.module.as_ref().filter(|module| !row.name.starts_with(&***module));
    let with_module = with_module.map(|module| format!("{} ({module})", row.name));
    with_module.filter(|text| text.chars().count() <= room).unwrap_or_else(|| row.name.to_string())
}

/// Stands for what is not known.
const UNKNOWN: &str = "–";

fn cell(breakdown: &Breakdown, row: &Row, column: Column) -> String {
    let figures = &row.figures;
    let retained = figures.retained(breakdown.meaning);
    let flow = |text: String| if breakdown.has_flows { text } else { UNKNOWN.to_owned() };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    match column {
        Column::Retained => Bytes(retained.bytes).to_string(),
        Column::Share => percent(retained.bytes / breakdown.retained.max(f64::MIN_POSITIVE)),
        Column::Interval => interval(retained.ci95),
        Column::Count => Count(retained.count).to_string(),
        Column::Net => Net(figures.net()).to_string(),
        Column::Live => Bytes(figures.standing.cells.after.bytes.value).to_string(),
        Column::Allocated => flow(Bytes(figures.flow.allocated.bytes.value).to_string()),
        Column::Freed => flow(Bytes(figures.freed().bytes.value).to_string()),
        Column::Peak => Bytes(figures.standing.peak.value).to_string(),
        Column::Temporary => {
            let share = figures.temporary_share().map(|(share, _)| percent(share));
            flow(share.unwrap_or_else(|| UNKNOWN.to_owned()))
        }
        Column::Age => figures.mean_age().map_or(UNKNOWN.to_owned(), |(seconds, _)| age(seconds)),
        Column::Largest => Bytes(figures.standing.ages.largest as f64).to_string(),
        Column::Stacks => Count(row.stacks as f64).to_string(),
    }
}

/// Short ones to a tenth of a second.
fn age(seconds: f64) -> String {
    if seconds < 9.95 { format!("{seconds:.1} s") } else { Duration(seconds).to_string() }
}
