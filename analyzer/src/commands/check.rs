//! `analyzer check`.

use super::{lookup, open, width, write_json, write_to};
use crate::cli::Check;
use crate::message::{self, SymbolBar};
use analyzer::check::{self, GrowthLimit, Limits, check};
use analyzer::filter::Filter;
use analyzer::instant::At;
use analyzer::output::table::Extent;
use analyzer::output::{check_json, check_text};
use analyzer::suppress::Suppressions;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;

pub fn run(options: &Check) -> Result<ExitCode> {
    let limits = limits(options)?;
    let suppressions = options.suppressions.as_deref().map(Suppressions::read).transpose()?;
    let since = match options.after.as_deref() {
        Some(typed) => At::parse(typed).with_context(|| format!("failed to read --after '{typed}'"))?,
        None => At::Start,
    };
    let after = open(&options.file)?;
    if !after.survey.is_complete() {
        bail!("failed to check {}: the file ends before its first complete round", options.file);
    }
    let before = after.moved(&since)?;
    let mut bar = SymbolBar::new();
    let filter = Filter { suppressions, ..Filter::default() };
    let lookup = lookup(&options.symbols)?;
    let style = options.symbols.names.into();
    let update = |progress| bar.update(progress);
    let checked = check([&before, &after], limits, filter, (&lookup, style), update)?;
    drop(bar);
    message::warn(&checked.comparison.warnings);
    let extent = Extent { width: width(), top: options.top };
    write_to(None, |mut out| match options.json {
        true => write_json(&check_json::CheckJson::new(&checked), out),
        false => check_text::write(&checked, &after.survey, extent, &mut out),
    })?;
    Ok(if checked.is_exceeded() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn limits(options: &Check) -> Result<Limits> {
    let growth = options.max_growth.as_deref().map(|typed| {
        let why = "not bytes such as 10M, or a rate such as 1M/h";
        GrowthLimit::parse(typed).with_context(|| format!("failed to read --max-growth '{typed}': {why}"))
    });
    let live = options.max_live.as_deref().map(|typed| {
        check::bytes(typed)
            .with_context(|| format!("failed to read --max-live '{typed}': not bytes such as 10M"))
    });
    Ok(Limits { growth: growth.transpose()?, live: live.transpose()? })
}
