//! What a person wants to see of a comparison: which stacks, and in which rows.

use crate::breakdown::{Breakdown, By, Column};
use crate::calltree::CallTree;
use crate::compare::{Comparison, Error};
use crate::estimate::Sum;
use crate::figures::FiguresByStack;
use crate::filter::{Filter, Hidden, Shown};
use crate::growth::Growth;
use crate::input::Input;
use crate::names::Style;
use crate::symbolize::Progress;
use crate::symbols::{Lookup, Names};
use crate::weigh::Weighed;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Which stacks.
    pub filter: Filter,
    /// Rows of what, in which order and with which columns; `None`: retained growth by stack.
    pub rows: Option<Rows>,
}

/// Rows in detail.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What a row is.
    pub by: By,
    /// What it is sorted by.
    pub sort: Column,
    /// What is shown of it; nothing: what fits.
    pub columns: Vec<Column>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Chosen {
    /// What is not shown, where something was asked for.
    pub hidden: Option<(Filter, Hidden)>,
    /// The rows, where they were asked for, and their columns.
    pub breakdown: Option<(Breakdown, Vec<Column>)>,
}

impl Choice {
    /// Takes from a comparison what is not to be shown, and puts the rest into rows. Names are those of the comparison's
    /// tree.
    ///
    /// # Errors
    /// Where rows are asked for, and a file cannot be read any more.
    pub fn apply(
        &self,
        comparison: &mut Comparison,
        (names, style): (&mut Names, Style),
        [before, after]: [&Input; 2],
        lookup: &Lookup,
        progress: impl FnMut(Progress),
    ) -> Result<Chosen, Error> {
        let figures = match &self.rows {
            Some(rows) => {
                let figures = FiguresByStack::of(comparison, before, after, lookup, progress)?;
                *names = comparison.tree.symbols.display(style);
                Some((rows, figures))
            }
            None => None,
        };
        let meaning = comparison.growth.meaning;
        let filtered = self.filter(&mut comparison.tree, names, |cells| meaning.grown(cells).bytes.value);
        if filtered.is_some() {
            comparison.growth = Growth::of(&comparison.tree, meaning);
        }
        let (shown, hidden) = filtered.unzip();
        let breakdown = figures.map(|(rows, figures)| {
            let breakdown = Breakdown::new(comparison, names, &figures, shown.as_ref(), (rows.by, rows.sort));
            (breakdown, rows.columns.clone())
        });
        Ok(Chosen { hidden: hidden.map(|hidden| (self.filter.clone(), hidden)), breakdown })
    }

    /// Takes from what is live or allocated at one instant what is not to be shown, and says what that is.
    pub fn filter_weighed(&self, weighed: &mut Weighed, names: &Names) -> Option<(Filter, Hidden)> {
        let (_, hidden) = self.filter(&mut weighed.tree, names, |bytes| bytes.value)?;
        weighed.bytes = weighed.tree.entries().fold(Sum::default(), |sum, (_, entry)| sum.plus(entry.value));
        Some((self.filter.clone(), hidden))
    }

    /// Takes from a tree what is not to be shown, where something is asked for.
    fn filter<V>(
        &self,
        tree: &mut CallTree<V>,
        names: &Names,
        bytes: impl Fn(&V) -> f64,
    ) -> Option<(Shown, Hidden)> {
        if self.filter.is_empty() {
            return None;
        }
        let shown = self.filter.look_at(tree, names);
        let hidden = self.filter.apply(&shown, tree, bytes);
        Some((shown, hidden))
    }
}
