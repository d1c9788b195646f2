//! Whether a recording keeps within limits.
//!
//! Growth is net growth: live at the end less live at the start. A pool whose blocks are replaced does not grow, although
//! none of its blocks was there before. A limit is exceeded where the lower end of the 95 % interval is above it, so that what
//! was not sampled fails no test.

use crate::breakdown::{Breakdown, By, Column};
use crate::calltree::NodeHandle;
use crate::choice::Chosen;
use crate::compare::{Comparison, Detail, Error, compare_in_detail};
use crate::estimate::Estimated;
use crate::figures::{Figures, FiguresByStack};
use crate::filter::{Filter, Shown};
use crate::input::Input;
use crate::names::Style;
use crate::shape::series::Groups;
use crate::story::{MOST_STACKS, develop};
use crate::symbolize::Progress;
use crate::symbols::{Lookup, Names};

/// A limit of growth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum GrowthLimit {
    /// Bytes from the start to the end.
    Bytes(f64),
    /// Bytes per second: the slope of the live heap.
    Rate(f64),
}

impl GrowthLimit {
    /// Reads bytes such as `10M`, or a rate such as `1M/h`.
    pub fn parse(text: &str) -> Option<GrowthLimit> {
        let Some((size, unit)) = text.split_once('/') else { return bytes(text).map(GrowthLimit::Bytes) };
        let seconds = match unit {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        Some(GrowthLimit::Rate(bytes(size)? / seconds))
    }
}

/// Reads bytes such as `4096`, `512K` or `10MiB`; a thousand of them are 1024.
pub fn bytes(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    number.is_finite().then(|| number * 1024f64.powi(power))
}

/// What may not be exceeded.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Limits {
    /// From the start to the end.
    pub growth: Option<GrowthLimit>,
    /// Bytes at the end.
    pub live: Option<f64>,
}

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// Live at the end less live at the start.
    Growth,
    /// Bytes per second of the live heap.
    Rate,
    /// Bytes that are live at the end.
    Live,
}

/// A quantity beside its limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Check {
    /// Which.
    pub quantity: Quantity,
    /// The estimate.
    pub value: f64,
    /// Its 95 % interval.
    pub ci95: (f64, f64),
    /// What it may be.
    pub limit: f64,
}

impl Check {
    /// Whether it is more than that for certain.
    pub fn is_exceeded(&self) -> bool {
        self.ci95.0 > self.limit
    }
}

/// The checks of a recording.
#[derive(Debug)]
pub struct Checked {
    /// One for each limit.
    pub checks: Vec<Check>,
    /// Of the span's ends.
    pub comparison: Comparison,
    /// Names of the comparison's tree.
    pub names: Names,
    /// What is suppressed, and the stacks by growth, or where that keeps within its limit, by what is live.
    pub chosen: Chosen,
}

impl Checked {
    /// Whether any limit is exceeded.
    pub fn is_exceeded(&self) -> bool {
        self.checks.iter().any(Check::is_exceeded)
    }
}

/// Checks a span of a file; stacks that the filter does not let pass do not count.
///
/// # Errors
/// Where the file cannot be read any more, or the instants are in the wrong order.
pub fn check(
    [before, after]: [&Input; 2],
    limits: Limits,
    filter: Filter,
    (lookup, style): (&Lookup, Style),
    mut progress: impl FnMut(Progress),
) -> Result<Checked, Error> {
    let (mut comparison, detail) = compare_in_detail(before, after, lookup, &mut progress)?;
    let figures = FiguresByStack::of(&mut comparison, before, after, lookup, progress)?;
    let names = comparison.tree.symbols.display(style);
    let shown = (!filter.is_empty()).then(|| filter.look_at(&comparison.tree, &names));
    let counts = |node: NodeHandle| shown.as_ref().is_none_or(|shown| shown.has(node));
    let mut sum = Figures::default();
    figures.iter().filter(|(node, ..)| counts(*node)).for_each(|(_, _, figures)| sum += figures);
    let meaning = comparison.growth.meaning;
    let growth = limits.growth.map(|limit| match limit {
        GrowthLimit::Bytes(limit) => {
            let Estimated { value, ci95 } = sum.standing.cells.net(meaning);
            Check { quantity: Quantity::Growth, value, ci95, limit }
        }
        GrowthLimit::Rate(limit) => rate(&detail, shown.as_ref(), limit),
    });
    let live = limits.live.map(|limit| {
        let bytes = sum.standing.cells.after.bytes;
        Check { quantity: Quantity::Live, value: bytes.value, ci95: bytes.ci95(), limit }
    });
    let (sort, columns) = match growth.filter(Check::is_exceeded).or(live).map(|check| check.quantity) {
        Some(Quantity::Live) => (Column::Live, vec![Column::Live, Column::Age, Column::Largest]),
        _ => (Column::Net, vec![Column::Net, Column::Retained, Column::Count]),
    };
    let mut breakdown = Breakdown::new(&comparison, &names, &figures, shown.as_ref(), (By::Stack, sort));
    if growth.is_some_and(|check| check.quantity == Quantity::Rate && check.is_exceeded()) {
        keep_steady(&mut breakdown, &detail);
    }
    let bytes = |cells: &crate::rows::Cells| meaning.grown(cells).bytes.value;
    let hidden = shown.map(|shown| {
        let hidden = filter.apply(&shown, &mut comparison.tree, bytes);
        (filter, hidden)
    });
    let chosen = Chosen { hidden, breakdown: Some((breakdown, columns)) };
    Ok(Checked { checks: growth.into_iter().chain(live).collect(), comparison, names, chosen })
}

/// Leaves the rows that grow steadily, where any do: the others grew, and are no part of the slope.
fn keep_steady(breakdown: &mut Breakdown, detail: &Detail) {
    let nodes: Vec<NodeHandle> = breakdown.rows.iter().filter_map(|row| row.node).take(MOST_STACKS).collect();
    let developments = develop(&detail.history, &detail.nodes, &nodes);
    let is_steady = |node: NodeHandle| developments.get(&node).is_some_and(|found| found.shape.grows());
    if nodes.into_iter().any(is_steady) {
        breakdown.rows.retain(|row| row.node.is_some_and(is_steady));
    }
}

/// The slope of the live heap, as in a report.
fn rate(detail: &Detail, shown: Option<&Shown>, limit: f64) -> Check {
    let groups = match shown {
        Some(shown) => {
            let mut groups = Groups::new(1);
            let nodes = detail.nodes.iter().filter(|(_, node)| shown.has(**node));
            nodes.for_each(|(stack, _)| groups.put(*stack, 0));
            groups
        }
        None => Groups::all(),
    };
    let fit = detail.history.develop(&groups).pop().map(|development| development.shape.fit);
    let fit = fit.unwrap_or_default();
    Check { quantity: Quantity::Rate, value: fit.slope, ci95: fit.ci95(), limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_bytes_or_rates() {
        let cases = [
            ("0", Some(GrowthLimit::Bytes(0.0))),
            ("4096", Some(GrowthLimit::Bytes(4096.0))),
            ("10M", Some(GrowthLimit::Bytes(10.0 * 1048576.0))),
            ("1.5k", Some(GrowthLimit::Bytes(1536.0))),
            ("2GiB", Some(GrowthLimit::Bytes(2147483648.0))),
            ("7KB", Some(GrowthLimit::Bytes(7168.0))),
            ("3600K/h", Some(GrowthLimit::Rate(1024.0))),
            ("60/min", Some(GrowthLimit::Rate(1.0))),
            ("1K/s", Some(GrowthLimit::Rate(1024.0))),
            ("", None),
            ("M", None),
            ("-1", None),
            ("10X", None),
            ("1.2.3", None),
            ("1M/", None),
            ("1M/week", None),
            ("1M/h/h", None),
        ];
        for (text, limit) in cases {
            assert_eq!(GrowthLimit::parse(text), limit, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_limits_is_total(text: String) {
            let _ = GrowthLimit::parse(&text);
        }
    }
}
