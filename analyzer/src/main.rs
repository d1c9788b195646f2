//! The command line: what can be typed, and what it means.
#![forbid(unsafe_code)]

mod cli;
mod selection;
mod message;
mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse().and_then(|cli| commands::run(&cli)) {
        Ok(code) => code,
        Err(error) => message::failed(&error),
    }
}
