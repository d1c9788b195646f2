//! The commands; each reads as the list of its stages.

mod run;
mod report;
mod diff;
mod check;
mod flamegraph;
mod timeline;
mod export;
mod info;
mod ctl;

use crate::cli::{Cli, Command, Symbols};
use analyzer::input::Input;
use analyzer::instant::{At, Target};
use analyzer::symbolize;
use analyzer::symbols::Lookup;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

pub fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Run(options) => return run::run(options),
        Command::Check(options) => return check::run(options),
        Command::Report(options) => report::run(options)?,
        Command::Diff(options) => diff::run(options)?,
        Command::Flamegraph(options) => flamegraph::run(options)?,
        Command::Timeline(options) => timeline::run(options)?,
        Command::Export(options) => export::run(options)?,
        Command::Info(options) => info::run(options)?,
        Command::Ctl(options) => ctl::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens what was typed as `F[@T]`.
fn open(typed: &str) -> Result<Input> {
    let target = Target::parse(typed, Path::exists).with_context(|| format!("failed to read '{typed}'"))?;
    Ok(Input::open(&target)?)
}

/// `A..B`, each as it stands after '@'; all of the file where nothing was typed.
fn span(typed: Option<&str>) -> Result<(At, At)> {
    let Some(typed) = typed else { return Ok((At::Start, At::End)) };
    let failed = || format!("failed to read the span '{typed}'");
    let (from, to) = typed.split_once("..").context("'..' is missing").with_context(failed)?;
    Ok((At::parse(from).with_context(failed)?, At::parse(to).with_context(failed)?))
}

/// Where symbols are looked for.
fn lookup(symbols: &Symbols) -> Result<Lookup> {
    for dir in &symbols.dirs {
        if !dir.is_dir() {
            bail!("failed to read {}: not a directory", dir.display());
        }
    }
    let options = symbolize::Options { symbol_dirs: symbols.dirs.clone(), ..symbolize::Options::default() };
    Ok(Lookup { files: Some(options), addresses: true })
}

/// Columns of the terminal that stdout is, or 100.
fn width() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(100, |(width, _)| usize::from(width.0).max(80))
}

/// Writes a result to a file, or to stdout where there is none.
fn write_to(path: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    match path {
        Some(path) => {
            let failed = || format!("failed to write {}", path.display());
            let mut out = BufWriter::new(File::create(path).with_context(failed)?);
            write(&mut out).and_then(|()| out.flush()).with_context(failed)
        }
        None => {
            let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
            write(&mut out).and_then(|()| out.flush()).context("failed to write to stdout")
        }
    }
}

/// As JSON, with a line end. Its many small pieces go through a buffer whose type is known here.
fn write_json(value: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = BufWriter::with_capacity(64 << 10, out);
    serde_json::to_writer_pretty(&mut buffer, value)?;
    writeln!(buffer)?;
    buffer.flush()
}
