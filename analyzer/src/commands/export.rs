//! `analyzer export`.

use super::{lookup, open, write_to};
use crate::cli::{Export, ExportFormat};
use crate::message::{self, SymbolBar};
use analyzer::output::{folded, rows_text};
use analyzer::weigh::{Value, weigh};
use anyhow::Result;

pub fn run(options: &Export) -> Result<()> {
    let choice = options.selection.choice()?;
    let input = open(&options.file)?;
    let mut bar = SymbolBar::new();
    let mut weighed =
        weigh(&input, Value::Live, &lookup(&options.symbols)?, |progress| bar.update(progress))?;
    drop(bar);
    message::warn(&weighed.warnings);
    let names = weighed.tree.symbols.display(options.symbols.names.into());
    let hidden = choice.filter_weighed(&mut weighed, &names);
    message::note(&rows_text::hidden_lines(hidden.as_ref()));
    let pruned = weighed.tree.prune(0.0, |bytes| bytes.value);
    write_to(options.output.as_deref(), |out| match options.format {
        ExportFormat::Folded => folded::write(&weighed.tree, &pruned, &names, out),
    })
}
