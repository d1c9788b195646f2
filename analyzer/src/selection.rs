//! Options that say which stacks are shown, and in which rows.

use analyzer::breakdown::{By, Column};
use analyzer::choice::{Choice, Rows};
use analyzer::filter::Filter;
use analyzer::suppress::Suppressions;
use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use regex::Regex;
use std::path::PathBuf;

/// Which stacks.
#[derive(Args, Debug)]
pub struct Selection {
    /// Only stacks with a frame whose function, library or source file matches
    #[arg(long, value_name = "REGEX")]
    pub focus: Option<String>,
    /// No stacks with a frame whose function, library or source file matches
    #[arg(long, value_name = "REGEX")]
    pub ignore: Option<String>,
    /// No stacks that a line leak:PATTERN of the file matches, as for LeakSanitizer
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,
}

/// Which rows.
#[derive(Args, Debug)]
pub struct Table {
    /// What a row is: with all that is known of it, not of growth alone
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Option<By>,
    /// What to show of a row, names with commas between them [default: what fits]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMNS")]
    pub columns: Vec<Column>,
    /// Show all columns
    #[arg(long, conflicts_with = "columns")]
    pub wide: bool,
    /// What rows are sorted by, the most first [default: retained]
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub sort: Option<Column>,
}

impl Selection {
    /// What the options mean.
    pub fn filter(&self) -> Result<Filter> {
        Ok(Filter {
            focus: expression("--focus", self.focus.as_deref())?,
            ignore: expression("--ignore", self.ignore.as_deref())?,
            suppressions: self.suppressions.as_deref().map(Suppressions::read).transpose()?,
        })
    }

    /// With all rows as they are.
    pub fn choice(&self) -> Result<Choice> {
        Ok(Choice { filter: self.filter()?, rows: None })
    }
}

impl Table {
    /// What the options mean, with those that select stacks.
    pub fn choice(&self, selection: &Selection) -> Result<Choice> {
        let columns = match self.wide {
            true => Column::value_variants().to_vec(),
            false => self.columns.clone(),
        };
        let is_asked = self.by.is_some() || self.sort.is_some() || !columns.is_empty();
        let rows = is_asked.then(|| Rows {
            by: self.by.unwrap_or_default(),
            sort: self.sort.unwrap_or(Column::Retained),
            columns,
        });
        Ok(Choice { rows, ..selection.choice()? })
    }
}

/// An expression, or why it is none, in one line.
fn expression(option: &str, text: Option<&str>) -> Result<Option<Regex>> {
    let Some(text) = text else { return Ok(None) };
    let why = |error: regex::Error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned();
        anyhow!("failed to read {option} '{text}': {last}")
    };
    Regex::new(text).map(Some).map_err(why)
}
