//! `analyzer report`.

use super::{lookup, span, width, write_json, write_to};
use crate::cli::Report;
use crate::message::{self, SymbolBar};
use analyzer::input::Input;
use analyzer::instant::Target;
use analyzer::output::table::Extent;
use analyzer::output::{report_json, report_text};
use analyzer::story::tell;
use anyhow::Result;

pub fn run(options: &Report) -> Result<()> {
    let choice = options.table.choice(&options.selection)?;
    let (from, to) = span(options.span.as_deref())?;
    let mut after = Input::open(&Target { path: options.file.clone(), at: to })?;
    if options.span.is_none() {
        after = after.until_exit();
    }
    let before = after.moved(&from)?;
    let mut bar = SymbolBar::new();
    let style = options.symbols.names.into();
    let lookup = lookup(&options.symbols)?;
    let mut story = tell(&before, &after, &lookup, style, |progress| bar.update(progress))?;
    let names = (&mut story.names, style);
    let update = |progress| bar.update(progress);
    let chosen = choice.apply(&mut story.comparison, names, [&before, &story.after], &lookup, update)?;
    drop(bar);
    message::warn(&story.comparison.warnings);
    let extent = Extent { width: width(), top: options.top };
    write_to(None, |mut out| match options.json {
        true => write_json(&report_json::Report::new(&story, &story.after.survey, &chosen, options.top), out),
        false => report_text::write(&story, &story.after.survey, &chosen, extent, &mut out),
    })
}
