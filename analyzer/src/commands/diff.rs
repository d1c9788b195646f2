//! `analyzer diff`.

use super::{lookup, open, width, write_json, write_to};
use crate::cli::{Diff, Format};
use crate::message::{self, SymbolBar};
use analyzer::choice::Chosen;
use analyzer::compare::{Comparison, compare};
use analyzer::output::table::Extent;
use analyzer::output::{folded, json, rows_text, svg, table};
use analyzer::symbols::Names;
use anyhow::Result;
use std::io::{self, Write};

pub fn run(options: &Diff) -> Result<()> {
    let choice = options.table.choice(&options.selection)?;
    let (before, after) = (open(&options.before)?, open(&options.after)?);
    let mut bar = SymbolBar::new();
    let lookup = lookup(&options.symbols)?;
    let mut comparison = compare(&before, &after, &lookup, |progress| bar.update(progress))?;
    let style = options.symbols.names.into();
    let mut names = comparison.tree.symbols.display(style);
    let update = |progress| bar.update(progress);
    let chosen = choice.apply(&mut comparison, (&mut names, style), [&before, &after], &lookup, update)?;
    drop(bar);
    message::warn(&comparison.warnings);
    let output = options.output.as_deref();
    let format = if options.json { Format::Json } else { options.format.unwrap_or(Format::Table) };
    match format {
        Format::Svg => write_to(output, |out| write_svg(&comparison, &names, &chosen, out))?,
        Format::Folded => write_to(output, |out| {
            message::note(&rows_text::hidden_lines(chosen.hidden.as_ref()));
            let pruned = comparison.growth.prune(&comparison.tree, 0.0);
            folded::write(&comparison.tree, &pruned, &names, out)
        })?,
        Format::Table | Format::Json => {
            if output.is_some() {
                write_to(output, |out| write_svg(&comparison, &names, &chosen, out))?;
            }
            let extent = Extent { width: width(), top: options.top };
            write_to(None, |out| match format {
                Format::Json => write_json(&json::Diff::new(&comparison, &names, &chosen), out),
                _ => table::write(&comparison, &names, &chosen, extent, out),
            })?;
        }
    }
    Ok(())
}

fn write_svg(comparison: &Comparison, names: &Names, chosen: &Chosen, out: &mut dyn Write) -> io::Result<()> {
    let hidden = rows_text::hidden_text(chosen.hidden.as_ref());
    let subtitle = format!("{}{hidden}", table::subtitle(comparison));
    let captions = svg::Captions { title: table::title(comparison), subtitle };
    let pruned = comparison.growth.prune(&comparison.tree, svg::LEAST);
    svg::write(&comparison.tree, &pruned, names, &captions, out)
}
