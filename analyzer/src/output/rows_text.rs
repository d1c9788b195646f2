//! A table of rows of one's choice for a terminal, and what is not in it.

use crate::breakdown::{Breakdown, By, Column, Row};
use crate::calltree::{CallTree, NodeHandle};
use crate::choice::Chosen;
use crate::estimate::Sum;
use crate::filter::{Amount, Filter, Hidden};
use crate::output::columns::{self, Cell, Line};
use crate::output::table::Extent;
use crate::symbols::Names;
use crate::units::{Bytes, Count, Duration, Net, Share, plain};
use clap::ValueEnum;
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

/// The columns that are shown unless others are asked for, the first ones where not all fit.
const USUAL: [Column; 7] = [
    Column::Retained,
    Column::Share,
    Column::Net,
    Column::Allocated,
    Column::Temporary,
    Column::Peak,
    Column::Age,
];

/// Writes the table; `note` says something more of a stack, on a line of its own.
///
/// # Errors
/// Those of `out`.
pub fn write<V>(
    (breakdown, asked): (&Breakdown, &[Column]),
    (tree, names): (&CallTree<V>, &Names),
    extent: Extent,
    note: impl Fn(NodeHandle) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    if breakdown.rows.is_empty() {
        return writeln!(out, "\nNothing to show.\n");
    }
    let line = |row: &Row, columns: &[Column]| {
        let cells = columns.iter().map(|column| cell(breakdown, row, *column)).collect();
        match row.node {
            Some(node) => Line::of_stack(cells, tree, node, names, note(node)),
            None => Line { cells, name: name(row, extent.width), callers: Vec::new(), note: None },
        }
    };
    let rows = breakdown.rows.iter().take(extent.top);
    let lines = |columns: &[Column]| rows.clone().map(|row| line(row, columns)).collect::<Vec<Line>>();
    let columns = match asked {
        [] => {
            // Names stand below intervals, and need room beside exact figures.
            let is_sampled = rows.clone().any(|row| !cell(breakdown, row, Column::Retained).is_exact());
            let room = if is_sampled { 0 } else { ROOM };
            let widths = |columns: &[Column]| columns::widths(&heads(columns), &lines(columns));
            fitting(breakdown.sort, widths, extent.width.saturating_sub(room))
        }
        asked => asked.to_vec(),
    };
    let name_head = match breakdown.by {
        By::Function => "FUNCTION",
        By::Library => "LIBRARY",
        By::Thread => "THREAD",
        By::Stack => "FUNCTION < CALLERS",
    };
    writeln!(out)?;
    columns::write((&heads(&columns), name_head), &lines(&columns), extent.width, out)?;
    if let Some((first, others)) = breakdown.rows.get(extent.top..).and_then(<[_]>::split_first) {
        let grown = |row: &Row| row.figures.retained(breakdown.meaning);
        let rest = others.iter().fold(grown(first), |sum, row| sum.plus(&grown(row)));
        columns::write_rest(&rest, (1 + others.len(), "row"), out)?;
    }
    writeln!(out)
}

/// The room for names that columns leave.
const ROOM: usize = 32;

/// As many of the usual columns as fit, with the one that rows are sorted by.
fn fitting(sort: Column, widths: impl Fn(&[Column]) -> Vec<usize>, width: usize) -> Vec<Column> {
    let fits = |columns: &[Column]| widths(columns).iter().sum::<usize>() <= width;
    let mut columns = if USUAL.contains(&sort) { vec![] } else { vec![sort] };
    for column in USUAL {
        columns.push(column);
        if columns.len() > 2 && column != sort && !fits(&columns) {
            columns.pop();
        }
    }
    columns.sort_by_key(|column| Column::value_variants().iter().position(|other| other == column));
    columns
}

fn heads(columns: &[Column]) -> Vec<&'static str> {
    let head = |column: &Column| match column {
        Column::Retained => "RETAINED",
        Column::Share => "SHARE",
        Column::Count => "COUNT",
        Column::Net => "NET",
        Column::Live => "LIVE",
        Column::Allocated => "ALLOCATED",
        Column::Freed => "FREED",
        Column::Peak => "AT PEAK",
        Column::Temporary => "TEMPORARY",
        Column::Age => "AGE",
        Column::Largest => "LARGEST",
        Column::Stacks => "STACKS",
    };
    columns.iter().map(head).collect()
}

/// With the module where the name does not say it, and there is room.
fn name(row: &Row, room: usize) -> String {
    let with_module = row.module.as_ref().filter(|module| !row.name.starts_with(&***module));
    let with_module = with_module.map(|module| format!("{} ({module})", row.name));
    with_module.filter(|text| text.chars().count() <= room).unwrap_or_else(|| row.name.to_string())
}

/// Stands for what is not known.
const UNKNOWN: &str = "–";

fn cell(breakdown: &Breakdown, row: &Row, column: Column) -> Cell {
    let figures = &row.figures;
    let cells = &figures.standing.cells;
    let (retained, all) = (figures.retained(breakdown.meaning), &breakdown.retained.bytes);
    let bytes = |sum: Sum| Cell::estimate(sum, Bytes);
    let unknown = || Cell::plain(UNKNOWN);
    match column {
        Column::Retained => Cell::estimate(retained.estimated_bytes(), Bytes),
        Column::Share => Cell::estimate(retained.bytes.share_of(all), Share),
        Column::Count => Cell::estimate(retained.estimated_blocks(), Count),
        Column::Net => Cell::estimate(cells.net(breakdown.meaning), Net),
        Column::Live => bytes(cells.after.bytes),
        Column::Allocated | Column::Freed | Column::Temporary if !breakdown.has_flows => unknown(),
        Column::Allocated => bytes(figures.flow.allocated.bytes),
        Column::Freed => bytes(figures.freed().bytes),
        Column::Peak => bytes(figures.standing.peak),
        Column::Temporary => {
            figures.temporary_share().map_or_else(unknown, |share| Cell::estimate(share, Share))
        }
        Column::Age => figures.mean_age().map_or_else(unknown, |mean| Cell::estimate(mean, age)),
        Column::Largest => Cell::plain(Bytes(figures.standing.ages.largest as f64)),
        Column::Stacks => Cell::plain(Count(row.stacks as f64)),
    }
}

/// Short ones to a tenth of a second.
fn age(seconds: f64) -> String {
    if seconds < 9.95 { format!("{seconds:.1} s") } else { Duration(seconds).to_string() }
}
