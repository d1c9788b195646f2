//! `analyzer timeline`.

use super::{span, write_json, write_to};
use crate::cli::Timeline;
use crate::message;
use analyzer::input::Input;
use analyzer::instant::Target;
use analyzer::output::timeline_text::Canvas;
use analyzer::output::{timeline_json, timeline_svg, timeline_text};
use analyzer::timeline::draw;
use anyhow::Result;
use std::io::{self, IsTerminal};

/// Rows of the picture where stdout is no terminal.
const HEIGHT: usize = 16;

/// Lines beside the picture's.
const OTHER_LINES: usize = 22;

pub fn run(options: &Timeline) -> Result<()> {
    let (from, to) = span(options.span.as_deref())?;
    let after = Input::open(&Target { path: options.file.clone(), at: to })?;
    let before = after.moved(&from)?;
    let timeline = draw(&before, &after)?;
    message::warn(&timeline.warnings);
    if let Some(output) = options.output.as_deref() {
        write_to(Some(output), |out| timeline_svg::write(&timeline, out))?;
    }
    write_to(None, |mut out| match options.json {
        true => write_json(&timeline_json::Document::new(&timeline)?, out),
        false => timeline_text::write(&timeline, canvas(), &mut out),
    })
}

fn canvas() -> Canvas {
    let is_terminal = io::stdout().is_terminal();
    let size = terminal_size::terminal_size_of(io::stdout());
    let (width, height) = size.map_or((100, HEIGHT), |(width, rows)| {
        (usize::from(width.0), usize::from(rows.0).saturating_sub(OTHER_LINES).clamp(10, 2 * HEIGHT))
    });
    Canvas { width, height, is_unicode: is_terminal && is_utf8() }
}

/// Whether the locale's characters are encoded in UTF-8.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os);
    let locale = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
