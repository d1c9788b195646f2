//! Rows of one's choice and what is not shown, as parts of `report --json` and `diff --json`.
//!
//! What is not known is null. An interval stands beside each figure that is an estimate; the largest block is the largest of
//! those that were recorded.

use crate::breakdown::{Breakdown, Row};
use crate::calltree::CallTree;
use crate::choice::Chosen;
use crate::filter::{Amount, Filter, Hidden};
use crate::growth::Meaning;
use crate::output::json::{StackFrame, frames, integer};
use crate::rows::Cells;
use crate::symbols::Names;
use serde::{Serialize, Serializer};

/// `by`, `rows` and `filter`; nothing where none of them was asked for.
#[derive(Serialize, Debug)]
pub struct ChosenJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filtered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Rows<'a>>,
}

impl<'a> ChosenJson<'a> {
    /// The names are those of the tree.
    pub fn new(chosen: &'a Chosen, tree: &'a CallTree<Cells>, names: &'a Names) -> ChosenJson<'a> {
        let breakdown = chosen.breakdown.as_ref().map(|(breakdown, _)| breakdown);
        ChosenJson {
            filter: chosen.hidden.as_ref().map(|(filter, hidden)| Filtered::new(filter, hidden)),
            by: breakdown.map(|breakdown| breakdown.by.text()),
            rows: breakdown.map(|breakdown| Rows { breakdown, tree, names }),
        }
    }
}

/// What was asked for, and what it took away.
#[derive(Serialize, Debug)]
pub(super) struct Filtered<'a> {
    focus: Option<&'a str>,
    ignore: Option<&'a str>,
    not_shown: Quantity,
    suppressions: Option<String>,
    suppressed: Quantity,
    suppressed_by: Vec<Suppressed<'a>>,
}

#[derive(Serialize, Debug)]
struct Quantity {
    bytes: i64,
    stacks: usize,
}

#[derive(Serialize, Debug)]
struct Suppressed<'a> {
    pattern: &'a str,
    bytes: i64,
    stacks: usize,
}

impl<'a> Filtered<'a> {
    pub(super) fn new(filter: &'a Filter, hidden: &Hidden) -> Filtered<'a> {
        let quantity = |amount: &Amount| Quantity { bytes: integer(amount.bytes), stacks: amount.stacks };
        let patterns = filter.suppressions.iter().flat_map(|all| &all.patterns);
        let used = patterns.zip(&hidden.by_pattern).filter(|(_, amount)| amount.stacks > 0);
        let suppressed_by = used.map(|(pattern, amount)| Suppressed {
            pattern,
            bytes: integer(amount.bytes),
            stacks: amount.stacks,
        });
        Filtered {
            focus: filter.focus.as_ref().map(|expression| expression.as_str()),
            ignore: filter.ignore.as_ref().map(|expression| expression.as_str()),
            not_shown: quantity(&hidden.passed_over),
            suppressions: filter.suppressions.as_ref().map(|all| all.path.display().to_string()),
            suppressed: quantity(&hidden.suppressed),
            suppressed_by: suppressed_by.collect(),
        }
    }
}

/// Written one by one, as stacks are.
#[derive(Debug)]
struct Rows<'a> {
    breakdown: &'a Breakdown,
    tree: &'a CallTree<Cells>,
    names: &'a Names,
}

#[derive(Serialize)]
struct RowJson<'a> {
    name: &'a str,
    module: Option<&'a str>,
    thread: Option<&'a str>,
    stacks: usize,
    retained_bytes: i64,
    retained_count: i64,
    retained_ci95: [i64; 2],
    net_bytes: i64,
    net_ci95: [i64; 2],
    live_bytes: i64,
    live_ci95: [i64; 2],
    allocated_bytes: Option<i64>,
    allocated_count: Option<i64>,
    allocated_ci95: Option<[i64; 2]>,
    freed_bytes: Option<i64>,
    freed_count: Option<i64>,
    freed_ci95: Option<[i64; 2]>,
    peak_bytes: i64,
    peak_ci95: [i64; 2],
    temporary_bytes: Option<i64>,
    temporary_share: Option<f64>,
    temporary_share_ci95: Option<[f64; 2]>,
    mean_age_s: Option<f64>,
    mean_age_ci95: Option<[f64; 2]>,
    largest_block_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<StackFrame<'a>>>,
}

fn ends((low, high): (f64, f64)) -> [i64; 2] {
    [integer(low), integer(high)]
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Rows { breakdown, tree, names } = *self;
        serializer.collect_seq(breakdown.rows.iter().map(|row| RowJson {
            frames: row.node.map(|node| frames(tree, node, names)),
            ..RowJson::of(row, breakdown.meaning, breakdown.has_flows)
        }))
    }
}

impl<'a> RowJson<'a> {
    fn of(row: &'a Row, meaning: Meaning, has_flows: bool) -> RowJson<'a> {
        let figures = &row.figures;
        let retained = figures.retained(meaning);
        let freed = has_flows.then(|| figures.freed());
        let allocated = has_flows.then_some(figures.flow.allocated);
        let share = figures.temporary_share().filter(|_| has_flows);
        let age = figures.mean_age();
        RowJson {
            name: &row.name,
            module: row.module.as_deref(),
            thread: row.thread.as_deref(),
            stacks: row.stacks,
            retained_bytes: integer(retained.bytes),
            retained_count: integer(retained.count),
            retained_ci95: ends(retained.ci95),
            net_bytes: integer(figures.net()),
            net_ci95: ends(figures.net_ci95(meaning)),
            live_bytes: integer(figures.standing.cells.after.bytes.value),
            live_ci95: ends(figures.standing.cells.after.bytes.ci95()),
            allocated_bytes: allocated.map(|sum| integer(sum.bytes.value)),
            allocated_count: allocated.map(|sum| integer(sum.blocks)),
            allocated_ci95: allocated.map(|sum| ends(sum.bytes.ci95())),
            freed_bytes: freed.map(|sum| integer(sum.bytes.value)),
            freed_count: freed.map(|sum| integer(sum.blocks)),
            freed_ci95: freed.map(|sum| ends(sum.bytes.ci95())),
            peak_bytes: integer(figures.standing.peak.value),
            peak_ci95: ends(figures.standing.peak.ci95()),
            temporary_bytes: has_flows.then(|| integer(figures.flow.temporary.bytes.value)),
            temporary_share: share.map(|(share, _)| share),
            temporary_share_ci95: share.map(|(_, (low, high))| [low, high]),
            mean_age_s: age.map(|(mean, _)| mean),
            mean_age_ci95: age.map(|(_, (low, high))| [low, high]),
            largest_block_bytes: figures.standing.ages.largest,
            frames: None,
        }
    }
}
