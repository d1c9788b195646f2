//! Everything that is said on stderr.

use analyzer::symbolize::Progress;
use analyzer::units::plain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Says why there is no result, in one line. A reader that has gone away is not worth one.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(pipe) {
        return ExitCode::SUCCESS;
    }
    say(&format!("{error:#}"));
    ExitCode::from(2)
}

/// Says in one line what makes the evidence incomplete.
pub fn warn(warnings: &[String]) {
    if !warnings.is_empty() {
        say(&format!("warning: {}", warnings.join("; ")));
    }
}

/// Says what is not in a result that has no place for it.
pub fn note(lines: &[String]) {
    lines.iter().for_each(|line| say(line));
}

fn say(text: &str) {
    // Nobody is left to be told where stderr is closed.
    let _ = writeln!(io::stderr(), "analyzer: {}", plain(text));
}

/// Work takes this long before a bar shows.
const LONG: Duration = Duration::from_secs(1);

/// A bar for the symbolizing of modules, where a person is looking and it takes long.
pub struct SymbolBar {
    start: Instant,
    bar: Option<ProgressBar>,
}

impl SymbolBar {
    /// Nothing shows yet.
    pub fn new() -> SymbolBar {
        SymbolBar { start: Instant::now(), bar: None }
    }

    /// A module is done.
    pub fn update(&mut self, progress: Progress) {
        if self.start.elapsed() < LONG {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("symbols {bar:30} {pos}/{len} modules");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        bar.set_length(progress.images as u64);
        bar.set_position(progress.images_done as u64);
    }
}

impl Drop for SymbolBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
