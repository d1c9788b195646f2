//! Options that say which stacks are shown, and in which rows.

use analyzer::breakdown::{By, Column};
use analyzer::choice::{Choice, Rows};
use analyzer::filter::Filter;
use analyzer::output::rows_text::ALL;
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
    pub by: Option<ByName>,
    /// What to show of a row, names with commas between them [default: what fits]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMNS")]
    pub columns: Vec<ColumnName>,
    /// Show all columns
    #[arg(long, conflicts_with = "columns")]
    pub wide: bool,
    /// What rows are sorted by, the most first [default: retained]
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub sort: Option<ColumnName>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ByName {
    /// The function that asked the allocator for memory
    Function,
    /// The library of that function
    Library,
    /// Threads of one name
    Thread,
    /// A stack
    Stack,
}

/// Columns; what has a share or an interval is sorted by the bytes that those are of.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ColumnName {
    /// Allocated in the span and live at its end
    Retained,
    /// The row's share of that
    Share,
    /// Its 95 % interval
    Interval,
    /// Blocks that are retained
    Count,
    /// Live at the end less live at the start
    Net,
    /// Live at the end
    Live,
    /// Allocated in the span
    Allocated,
    /// Freed in the span
    Freed,
    /// Live when, up to the end, most was
    Peak,
    /// The share of what is allocated that is freed within a second
    Temporary,
    /// Mean age of what is live at the end
    Age,
    /// The largest recorded block that is live at the end
    Largest,
    /// How many stacks the row has
    Stacks,
}

impl From<ByName> for By {
    fn from(name: ByName) -> By {
        match name {
            ByName::Function => By::Function,
            ByName::Library => By::Library,
            ByName::Thread => By::Thread,
            ByName::Stack => By::Stack,
        }
    }
}

impl From<ColumnName> for Column {
    fn from(name: ColumnName) -> Column {
        match name {
            ColumnName::Retained => Column::Retained,
            ColumnName::Share => Column::Share,
            ColumnName::Interval => Column::Interval,
            ColumnName::Count => Column::Count,
            ColumnName::Net => Column::Net,
            ColumnName::Live => Column::Live,
            ColumnName::Allocated => Column::Allocated,
            ColumnName::Freed => Column::Freed,
            ColumnName::Peak => Column::Peak,
            ColumnName::Temporary => Column::Temporary,
            ColumnName::Age => Column::Age,
            ColumnName::Largest => Column::Largest,
            ColumnName::Stacks => Column::Stacks,
        }
    }
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
            true => ALL.to_vec(),
            false => self.columns.iter().map(|name| Column::from(*name)).collect(),
        };
        let is_asked = self.by.is_some() || self.sort.is_some() || !columns.is_empty();
        let rows = is_asked.then(|| Rows {
            by: self.by.map_or(By::Stack, By::from),
            sort: self.sort.map_or(Column::Retained, Column::from),
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
