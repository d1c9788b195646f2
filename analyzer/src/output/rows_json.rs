//! Rows of one's choice and what is not shown, as parts of `report --json` and `diff --json`.
//!
//! What is not known is null. An interval stands beside each figure that is an estimate; the largest block is the largest of
//! those that were recorded.

use crate::breakdown::{Breakdown, Row};
use crate::calltree::CallTree;
use crate::choice::Chosen;
use crate::filter::{Amount, Filter, Hidden};
use crate::growth::Meaning;
use crate::output::json::{Ends, StackFrame, ends, frames, integer};
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
    retained_ci95: Ends,
    retained_count_ci95: Ends,
    net_bytes: i64,
    net_ci95: Ends,
    live_bytes: i64,
    live_ci95: Ends,
    allocated_bytes: Option<i64>,
    allocated_count: Option<i64>,
    allocated_ci95: Option<Ends>,
    allocated_count_ci95: Option<Ends>,
    freed_bytes: Option<i64>,
    freed_count: Option<i64>,
    freed_ci95: Option<Ends>,
    freed_count_ci95: Option<Ends>,
    peak_bytes: i64,
    peak_ci95: Ends,
    temporary_bytes: Option<i64>,
    temporary_ci95: Option<Ends>,
    temporary_share: Option<f64>,
    temporary_share_ci95: Option<[f64; 2]>,
    mean_age_s: Option<f64>,
    mean_age_ci95: Option<[f64; 2]>,
    largest_block_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<StackFrame<'a>>>,
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
        let temporary = has_flows.then_some(figures.flow.temporary);
        let (age, net) = (figures.mean_age(), figures.standing.cells.net(meaning));
        RowJson {
            name: &row.name,
            module: row.module.as_deref(),
            thread: row.thread.as_deref(),
            stacks: row.stacks,
            retained_bytes: integer(retained.bytes.value),
            retained_count: integer(retained.blocks.value),
            retained_ci95: ends(retained.estimated_bytes()),
            retained_count_ci95: ends(retained.estimated_blocks()),
            net_bytes: integer(net.value),
            net_ci95: ends(net),
            live_bytes: integer(figures.standing.cells.after.bytes.value),
            live_ci95: ends(figures.standing.cells.after.bytes),
            allocated_bytes: allocated.map(|sum| integer(sum.bytes.value)),
            allocated_count: allocated.map(|sum| integer(sum.blocks.value)),
            allocated_ci95: allocated.map(|sum| ends(sum.bytes)),
            allocated_count_ci95: allocated.map(|sum| ends(sum.blocks)),
            freed_bytes: freed.map(|sum| integer(sum.bytes.value)),
            freed_count: freed.map(|sum| integer(sum.blocks.value)),
            freed_ci95: freed.map(|sum| ends(sum.bytes)),
            freed_count_ci95: freed.map(|sum| ends(sum.blocks)),
            peak_bytes: integer(figures.standing.peak.value),
            peak_ci95: ends(figures.standing.peak),
            temporary_bytes: temporary.map(|sum| integer(sum.value)),
            temporary_ci95: temporary.map(ends),
            temporary_share: share.map(|share| share.value),
            temporary_share_ci95: share.map(|share| share.ci95.into()),
            mean_age_s: age.map(|mean| mean.value),
            mean_age_ci95: age.map(|mean| mean.ci95.into()),
            largest_block_bytes: figures.standing.ages.largest,
            frames: None,
        }
    }
}
