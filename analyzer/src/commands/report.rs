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
    let (from, to) = span(options.span.as_deref())?;
    let after = Input::open(&Target { path: options.file.clone(), at: to })?;
    let before = after.moved(&from)?;
    let mut bar = SymbolBar::new();
    let style = options.symbols.names.into();
    let story = tell(&before, &after, &lookup(&options.symbols)?, style, |progress| bar.update(progress))?;
    drop(bar);
    message::warn(&story.comparison.warnings);
    let extent = Extent { width: width(), top: options.top };
    write_to(None, |mut out| match options.json {
        true => write_json(&report_json::Report::new(&story, &after.survey, options.top), out),
        false => report_text::write(&story, &after.survey, extent, &mut out),
    })
}
