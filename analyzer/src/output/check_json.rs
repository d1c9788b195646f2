//! `check --json`, version 1: fields may be added, never changed.

use crate::check::{Check, Checked, Quantity};
use crate::output::json::VERSION;
use crate::output::rows_json::ChosenJson;
use serde::Serialize;

/// `check --json`. Growth and live are in bytes, a growth rate in bytes per second.
#[derive(Serialize, Debug)]
pub struct CheckJson<'a> {
    version: u32,
    file: String,
    span: Span,
    passed: bool,
    checks: Vec<One>,
    lost_events: u64,
    warnings: &'a [String],
    #[serde(flatten)]
    chosen: ChosenJson<'a>,
}

#[derive(Serialize, Debug)]
struct Span {
    from_s: f64,
    to_s: f64,
}

#[derive(Serialize, Debug)]
struct One {
    what: &'static str,
    value: f64,
    ci95: [f64; 2],
    limit: f64,
    exceeded: bool,
}

impl<'a> CheckJson<'a> {
    /// What stands in it.
    pub fn new(checked: &'a Checked) -> CheckJson<'a> {
        let comparison = &checked.comparison;
        CheckJson {
            version: VERSION,
            file: comparison.after.path.display().to_string(),
            span: Span { from_s: comparison.before.at.0, to_s: comparison.after.at.0 },
            passed: !checked.is_exceeded(),
            checks: checked.checks.iter().map(One::new).collect(),
            lost_events: comparison.lost_events,
            warnings: &comparison.warnings,
            chosen: ChosenJson::new(&checked.chosen, &comparison.tree, &checked.names),
        }
    }
}

impl One {
    fn new(check: &Check) -> One {
        let what = match check.quantity {
            Quantity::Growth => "growth",
            Quantity::Rate => "growth_rate",
            Quantity::Live => "live",
        };
        let (low, high) = check.ci95;
        One { what, value: check.value, ci95: [low, high], limit: check.limit, exceeded: check.is_exceeded() }
    }
}
