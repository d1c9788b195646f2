//! The command line: exit codes, what goes to stdout, and what is said on stderr.

mod synthetic;
mod dsl;
mod fork;
mod check;
mod diff;
mod options;
mod golden;
mod run;
mod segments;
mod ctl;
mod usage;
mod verdict;
mod timeline;
