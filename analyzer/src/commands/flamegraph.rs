//! `analyzer flamegraph`.

use super::{lookup, open, write_to};
use crate::cli::{Flamegraph, Width};
use crate::message::{self, SymbolBar};
use analyzer::output::{rows_text, svg, table};
use analyzer::units::{Bytes, Seconds, with_interval};
use analyzer::weigh::weigh;
use anyhow::Result;

pub fn run(options: &Flamegraph) -> Result<()> {
    let choice = options.selection.choice()?;
    let input = open(&options.file)?;
    let mut bar = SymbolBar::new();
    let mut weighed =
        weigh(&input, options.value.into(), &lookup(&options.symbols)?, |progress| bar.update(progress))?;
    drop(bar);
    message::warn(&weighed.warnings);
    let names = weighed.tree.symbols.display(options.symbols.names.into());
    let hidden = choice.filter_weighed(&mut weighed, &names);
    let (what, meaning) = match options.value {
        Width::Live => ("Live", "bytes live at the instant"),
        Width::Peak => ("Live at the peak", "bytes live when most was live"),
        Width::Allocated => ("Allocated", "bytes allocated from the start to the instant"),
    };
    let at = Seconds(input.survey.seconds(weighed.at));
    let file = input.profile.path().display();
    let recording = input.survey.recording();
    let captions = svg::Captions {
        title: format!("{what} {}: {file} ({at})", with_interval(weighed.bytes, Bytes)),
        subtitle: format!(
            "{meaning}; {recording}; {}{}",
            table::lost(weighed.lost_events),
            rows_text::hidden_text(hidden.as_ref())
        ),
    };
    let pruned = weighed.tree.prune(svg::LEAST, |bytes| bytes.value);
    write_to(options.output.as_deref(), |out| svg::write(&weighed.tree, &pruned, &names, &captions, out))
}
