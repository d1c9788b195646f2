//! What can be typed.

use crate::selection::{Selection, Table};
use analyzer::names::Style;
use analyzer::weigh::Value;
use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const TIMES: &str = "F@T names an instant of a file: 10m, 1h30m, 90s (since the start of the process), 50% (of the \
                     time traced), start, end, peak, exit (before the process freed what it had in order to end), or a \
                     mark's name. Without @T it is the end of the file.";

/// Finds what grows in the native memory of long-running processes.
#[derive(Parser, Debug)]
#[command(version, after_help = TIMES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a command under the tracer; exits with the command's code
    Run(Run),
    /// Say what grew over a whole recording
    Report(Report),
    /// Show retained growth between two instants: allocated after A and live at B
    #[command(after_help = TIMES)]
    Diff(Diff),
    /// Fail where the live heap has grown by more than it may, or is larger: for tests
    #[command(after_help = TIMES)]
    Check(Check),
    /// Draw what is live at an instant, or has been allocated until then
    #[command(after_help = TIMES)]
    Flamegraph(Flamegraph),
    /// Show live heap and RSS and their parts over time
    #[command(after_help = TIMES)]
    Timeline(Timeline),
    /// Write what is live at an instant in another tool's format
    #[command(after_help = TIMES)]
    Export(Export),
    /// Say what a file contains
    Info(Info),
    /// Tell a running traced process what to do
    Ctl(Ctl),
}

#[derive(Args, Debug)]
pub struct Run {
    /// File to write; %p is the process id
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Mean bytes between samples, such as 512K or 4M
    #[arg(long, value_name = "BYTES", conflicts_with = "every")]
    pub interval: Option<String>,
    /// Record every allocation
    #[arg(long)]
    pub every: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub struct Report {
    /// A recording
    pub file: PathBuf,
    /// The part to look at, such as 10m..70m or start..peak; start..exit without it
    #[arg(long, value_name = "A..B")]
    pub span: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Rows in the table
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    #[command(flatten)]
    pub table: Table,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub symbols: Symbols,
}

#[derive(Args, Debug)]
pub struct Diff {
    /// The first instant
    #[arg(value_name = "A[@T]")]
    pub before: String,
    /// The second instant
    #[arg(value_name = "B[@T]")]
    pub after: String,
    /// File for the flamegraph, or for --format folded
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to write [default: table on stdout, and the flamegraph with -o]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Rows in the table
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    #[command(flatten)]
    pub table: Table,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub symbols: Symbols,
}

#[derive(Args, Debug)]
#[group(id = "limits", required = true, multiple = true, args = ["max_growth", "max_live"])]
pub struct Check {
    /// A recording, and the last instant to look at
    #[arg(value_name = "F[@T]")]
    pub file: String,
    /// How much more may be live at the end than at the start: bytes such as 10M, or a rate such as 1M/h
    #[arg(long, value_name = "LIMIT")]
    pub max_growth: Option<String>,
    /// How much may be live at the end: bytes such as 100M
    #[arg(long, value_name = "BYTES")]
    pub max_live: Option<String>,
    /// Where to begin, after the warm-up: an instant as behind '@' [default: start]
    #[arg(long, value_name = "T")]
    pub after: Option<String>,
    /// Stacks that a line leak:PATTERN of the file matches do not count, as for LeakSanitizer
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Stacks in the table
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    #[command(flatten)]
    pub symbols: Symbols,
}

#[derive(Args, Debug)]
pub struct Flamegraph {
    /// A recording, and an instant of it
    #[arg(value_name = "F[@T]")]
    pub file: String,
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What a width means: bytes live at the instant, live at the peak until then, or allocated until then
    #[arg(long, value_enum, default_value = "live")]
    pub value: Width,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub symbols: Symbols,
}

#[derive(Args, Debug)]
pub struct Timeline {
    /// A recording
    pub file: PathBuf,
    /// The part to look at, such as 10m..70m or start..peak
    #[arg(long, value_name = "A..B")]
    pub span: Option<String>,
    /// File for the picture as SVG
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Export {
    /// A recording, and an instant of it
    #[arg(value_name = "F[@T]")]
    pub file: String,
    /// The format
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub symbols: Symbols,
}

#[derive(Args, Debug)]
pub struct Info {
    /// A recording
    pub file: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Ctl {
    /// A process id, a file that is being written, or its control socket
    #[arg(value_name = "PID|FILE|SOCKET")]
    pub target: String,
    /// What to do
    #[arg(value_enum, value_name = "COMMAND")]
    pub order: Order,
    /// The name of a mark, or an interval: auto, or bytes such as 64K
    #[arg(value_name = "ARG")]
    pub argument: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Name this instant: F@NAME
    Mark,
    /// Bring the file up to date
    Flush,
    /// Stop recording allocations until resume
    Pause,
    /// Record allocations again
    Resume,
    /// Change the mean bytes between samples
    Interval,
    /// Say how the tracing goes
    Status,
    /// End the file and the tracing; the process goes on
    Stop,
    /// Have the allocator give back what it holds, and say how much that was
    Trim,
}

impl Order {
    /// In words, behind "failed to".
    pub fn task(self) -> &'static str {
        match self {
            Order::Interval => "change the interval",
            Order::Status => "read the status",
            Order::Trim => "trim the allocator",
            _ => self.name(),
        }
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Order::Mark => "mark",
            Order::Flush => "flush",
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Interval => "interval",
            Order::Status => "status",
            Order::Stop => "stop",
            Order::Trim => "trim",
        }
    }
}

/// Where names come from, and how they are shown.
#[derive(Args, Debug)]
pub struct Symbols {
    /// How much of a function's name is shown
    #[arg(long, value_enum, default_value = "short", value_name = "STYLE")]
    pub names: NameStyle,
    /// Where to look for symbol files as well; may be repeated
    #[arg(long = "symbols", value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    Svg,
    Folded,
    Json,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ExportFormat {
    Folded,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Width {
    Live,
    Peak,
    Allocated,
}

impl From<Width> for Value {
    fn from(width: Width) -> Value {
        match width {
            Width::Live => Value::Live,
            Width::Peak => Value::Peak,
            Width::Allocated => Value::Allocated,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum NameStyle {
    Short,
    Templates,
    Full,
    Mangled,
}

impl From<NameStyle> for Style {
    fn from(style: NameStyle) -> Style {
        match style {
            NameStyle::Short => Style::Short,
            NameStyle::Templates => Style::Templates,
            NameStyle::Full => Style::Full,
            NameStyle::Mangled => Style::Mangled,
        }
    }
}

/// Reads the command line. Help and version are printed; what is wrong becomes one line.
pub fn parse() -> Result<Cli> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let text = error.render().to_string();
            let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            anyhow!("{} (see --help)", first.join(" ").trim_start_matches("error: "))
        }
    })
}
