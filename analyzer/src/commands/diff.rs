//! `analyzer diff`.

use super::{lookup, open, width, write_json, write_to};
use crate::cli::{Diff, Format};
use crate::message::{self, SymbolBar};
use analyzer::compare::{Comparison, compare};
use analyzer::output::table::Extent;
use analyzer::output::{folded, json, svg, table};
use analyzer::symbols::Names;
use anyhow::Result;
use std::io::{self, Write};

pub fn run(options: &Diff) -> Result<()> {
    let (before, after) = (open(&options.before)?, open(&options.after)?);
    let mut bar = SymbolBar::new();
    let comparison = compare(&before, &after, &lookup(&options.symbols)?, |progress| bar.update(progress))?;
    drop(bar);
    message::warn(&comparison.warnings);
    let names = comparison.tree.symbols.display(options.symbols.names.into());
    let output = options.output.as_deref();
    let format = if options.json { Format::Json } else { options.format.unwrap_or(Format::Table) };
    match format {
        Format::Svg => write_to(output, |out| write_svg(&comparison, &names, out))?,
        Format::Folded => write_to(output, |out| {
            let pruned = comparison.growth.prune(&comparison.tree, 0.0);
            folded::write(&comparison.tree, &pruned, &names, out)
        })?,
        Format::Table | Format::Json => {
            if output.is_some() {
                write_to(output, |out| write_svg(&comparison, &names, out))?;
            }
            let extent = Extent { width: width(), top: options.top };
            write_to(None, |out| match format {
                Format::Json => write_json(&json::Diff::new(&comparison, &names), out),
                _ => table::write(&comparison, &names, extent, out),
            })?;
        }
    }
    Ok(())
}

fn write_svg(comparison: &Comparison, names: &Names, out: &mut dyn Write) -> io::Result<()> {
    let captions = svg::Captions { title: table::title(comparison), subtitle: table::subtitle(comparison) };
    let pruned = comparison.growth.prune(&comparison.tree, svg::LEAST);
    svg::write(&comparison.tree, &pruned, names, &captions, out)
}
