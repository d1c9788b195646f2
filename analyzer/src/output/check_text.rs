//! The checks of a recording, for a terminal.

use crate::check::{Check, Checked, Quantity};
use crate::output::rows_text;
use crate::output::table::{self, Extent};
use crate::survey::Survey;
use crate::units::{Bytes, Net, Rate, interval, plain};
use std::io::{self, Write};

/// Writes a line for each check, and the stacks where one is exceeded.
///
/// # Errors
/// Those of `out`.
pub fn write(checked: &Checked, survey: &Survey, extent: Extent, out: &mut impl Write) -> io::Result<()> {
    let comparison = &checked.comparison;
    let path = comparison.after.path.display().to_string();
    let command = survey.fact("command").map_or(String::new(), |command| format!(": {command}"));
    writeln!(out, "{}", plain(&format!("{path}{command}")))?;
    let lost = table::lost(comparison.lost_events);
    let (from, to) = (comparison.before.at, comparison.after.at);
    writeln!(out, "from {from} to {to}; {}; {lost}", comparison.recording)?;
    checked.checks.iter().try_for_each(|check| writeln!(out, "{}", line(check)))?;
    rows_text::write_hidden(&checked.chosen, out)?;
    if let Some((rows, columns)) = checked.chosen.breakdown.as_ref().filter(|_| checked.is_exceeded()) {
        let tree = (&comparison.tree, &checked.names);
        rows_text::write((rows, columns), tree, extent, |_| None, out)?;
    }
    table::write_warnings(&comparison.warnings, out)
}

/// `exceeded   net growth 19.5 KiB (exact), limit 10.0 KiB`
fn line(check: &Check) -> String {
    let (low, high) = check.ci95;
    let (what, value, range, limit) = match check.quantity {
        Quantity::Growth => {
            let range = interval(check.ci95, Bytes);
            ("net growth", Net(check.value).to_string(), range, Bytes(check.limit).to_string())
        }
        Quantity::Live => {
            let range = interval(check.ci95, Bytes);
            ("live", Bytes(check.value).to_string(), range, Bytes(check.limit).to_string())
        }
        Quantity::Rate => {
            ("growth rate", Rate(check.value).to_string(), interval(check.ci95, Rate), rate(check.limit))
        }
    };
    let range = match low == high {
        true => range,
        false => format!("95 % interval {range}"),
    };
    let (outcome, why) = match check.is_exceeded() {
        true => ("exceeded", ""),
        false if check.value > check.limit => ("passed", ": more, but not for certain"),
        false => ("passed", ""),
    };
    format!("{outcome:10} {what} {value} ({range}), limit {limit}{why}")
}

fn rate(limit: f64) -> String {
    Rate(limit).to_string().trim_start_matches('+').to_owned()
}
