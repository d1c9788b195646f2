//! `analyzer run`: a command under the tracer.

use crate::cli::Run;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

const LIBRARY: &str = "libtrace.so";

pub fn run(options: &Run) -> Result<ExitCode> {
    let library = library()?;
    let settings = settings(options)?;
    let (program, arguments) = options.command.split_first().context("failed to run: no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env("LD_PRELOAD", preload(&library));
    if !settings.is_empty() {
        command.env("LIBTRACE", settings);
    }
    // Signals are caught before the command starts: none can end us and leave it behind.
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
        .context("failed to catch signals")?;
    let mut child = command.spawn().with_context(|| format!("failed to run {}", program.display()))?;
    let handle = signals.handle();
    let pid = Pid::from_child(&child);
    let relay = std::thread::spawn(move || signals.forever().for_each(|origin| pass_on(&origin, pid)));
    let status = wait(&mut child).context("failed to wait for the command")?;
    handle.close();
    let _ = relay.join();
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(2);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(2)))
}

fn wait(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    loop {
        match child.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A signal that was sent to us goes to the command; one that the terminal sends, it has got already.
fn pass_on(origin: &Origin, pid: Pid) {
    let from_terminal = origin.process.is_none();
    if let (false, Some(signal)) = (from_terminal, Signal::from_named_raw(origin.signal)) {
        // Fails only where the command has just ended.
        let _ = kill_process(pid, signal);
    }
}

/// The tracer: beside this program, or in `lib` beside its directory.
fn library() -> Result<PathBuf> {
    let program = env::current_exe().context("failed to find this program's own path")?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    let places = [dir.join(LIBRARY), dir.join("../lib").join(LIBRARY)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => {
            let library =
                place.canonicalize().with_context(|| format!("failed to read {}", place.display()))?;
            // What separates the libraries in LD_PRELOAD cannot be part of a name there.
            if library.as_os_str().as_encoded_bytes().iter().any(|byte| b" :".contains(byte)) {
                bail!("failed to preload {}: its path has a space or a colon", library.display());
            }
            Ok(library)
        }
        None => {
            bail!("failed to find {LIBRARY}: neither {} nor {}", places[0].display(), places[1].display())
        }
    }
}

/// The tracer in front of what is preloaded already.
fn preload(library: &Path) -> OsString {
    let mut value = OsString::from(library);
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    value
}

/// What was typed, in front of an existing LIBTRACE's keys.
fn settings(options: &Run) -> Result<OsString> {
    let mut keys = Vec::new();
    if let Some(out) = &options.out {
        let Some(out) = out.to_str().filter(|out| !out.contains(',')) else {
            bail!("failed to set the output file: '{}' has a comma or is not UTF-8", out.display());
        };
        keys.push(format!("out={out}"));
    }
    match (&options.interval, options.every) {
        (_, true) => keys.push("interval=every".to_owned()),
        (Some(interval), _) if interval.contains(',') => bail!("failed to read the interval '{interval}'"),
        (Some(interval), _) => keys.push(format!("interval={interval}")),
        (None, false) => {}
    }
    let inherited = env::var("LIBTRACE").unwrap_or_default();
    let names: Vec<&str> = keys.iter().filter_map(|key| key.split_once('=')).map(|(name, _)| name).collect();
    let kept: Vec<&str> = inherited
        .split(',')
        .filter(|key| !key.is_empty() && !names.contains(&key.split('=').next().unwrap_or("").trim()))
        .collect();
    let all = keys.iter().map(String::as_str).chain(kept).collect::<Vec<_>>();
    Ok(all.join(",").into())
}
