//! The growth of two instants in rows of one's choice, with everything that is known of each.

use crate::calltree::NodeHandle;
use crate::compare::Comparison;
use crate::figures::{Figures, FiguresByStack, Owner, Standing};
use crate::filter::Shown;
use crate::growth::{Grown, Meaning};
use crate::output::top;
use crate::symbols::Names;
use clap::ValueEnum;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What a row is.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// The function that asked the allocator for memory
    Function,
    /// The library of that function
    Library,
    /// Threads of one name
    Thread,
    /// A stack
    #[default]
    Stack,
}

impl By {
    /// As it is typed.
    pub fn text(self) -> &'static str {
        match self {
            By::Function => "function",
            By::Library => "library",
            By::Thread => "thread",
            By::Stack => "stack",
        }
    }
}

/// What a column shows, with its 95 % interval where it is an estimate, and what rows are sorted by; shares by the bytes that
/// they are of.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// Allocated in the span and live at its end
    Retained,
    /// The row's share of that
    Share,
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

impl Column {
    /// Whether stacks of which nothing is live at any of the instants can have it.
    fn is_flow(self) -> bool {
        matches!(self, Column::Allocated | Column::Freed | Column::Temporary | Column::Stacks)
    }
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called.
    pub name: Arc<str>,
    /// Where the row is a function: its module's file name.
    pub module: Option<Arc<str>>,
    /// Where the row is a stack.
    pub node: Option<NodeHandle>,
    /// Where all of it is of threads of one name.
    pub thread: Option<Arc<str>>,
    /// What is known.
    pub figures: Figures,
    /// How many stacks it has.
    pub stacks: usize,
}

/// All rows.
#[derive(Clone, Debug)]
pub struct Breakdown {
    /// What a row is.
    pub by: By,
    /// What rows are sorted by.
    pub sort: Column,
    /// In that order.
    pub rows: Vec<Row>,
    /// Retained growth of all rows.
    pub retained: Grown,
    /// What retained growth means.
    pub meaning: Meaning,
    /// Whether it is known what was allocated and freed in the span.
    pub has_flows: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    /// By the name that is shown, and its module.
    Function(&'a str, &'a Arc<str>),
    NoFrame,
    Module(&'a str),
    Thread(Option<&'a str>),
    Stack(NodeHandle),
}

/// Of threads without a name.
const NO_NAME: &str = "[no name]";

impl Breakdown {
    /// Puts what is shown into rows.
    pub fn new(
        comparison: &Comparison,
        names: &Names,
        all: &FiguresByStack,
        shown: Option<&Shown>,
        (by, sort): (By, Column),
    ) -> Breakdown {
        let tree = &comparison.tree;
        let owners = top::owners(tree);
        let owner = |node: NodeHandle| {
            let symbol = owners.get(node.number()).copied().flatten()?;
            Some((symbol, &tree.symbols.get(symbol)?.module))
        };
        let mut rows = FxHashMap::<Key, Group>::default();
        for (node, thread, figures) in all.iter() {
            if shown.is_some_and(|shown| !shown.has(node)) {
                continue;
            }
            let key = match by {
                By::Function => owner(node)
                    .map_or(Key::NoFrame, |(symbol, module)| Key::Function(names.get(symbol), module)),
                By::Library => owner(node).map_or(Key::NoFrame, |(_, module)| Key::Module(module)),
                By::Thread => match thread {
                    Owner::Thread(name) => Key::Thread(name.as_deref()),
                    Owner::Settled => continue,
                },
                By::Stack => Key::Stack(node),
            };
            if by == By::Stack && figures.standing == Standing::default() && !sort.is_flow() {
                // Nothing to sort it by, unless another thread has something live there.
                rows.get_mut(&key).into_iter().for_each(|group| group.add(node, thread, &figures));
                continue;
            }
            rows.entry(key).or_default().add(node, thread, &figures);
        }
        let mut rows: Vec<Row> = rows
            .into_iter()
            .map(|(key, group)| {
                let (name, module, node): (Arc<str>, _, _) = match key {
                    Key::Function(name, module) => (name.into(), Some(module.clone()), None),
                    Key::NoFrame => (top::NO_STACK.into(), None, None),
                    Key::Module(module) => (module.into(), None, None),
                    Key::Thread(name) => (name.unwrap_or(NO_NAME).into(), None, None),
                    Key::Stack(node) => {
                        let top = top::of_stack(tree, node, names);
                        (top.first().copied().unwrap_or_default().into(), None, Some(node))
                    }
                };
                let Group { figures, thread, mut nodes } = group;
                nodes.sort_unstable();
                nodes.dedup();
                Row { name, module, node, thread: thread.flatten(), figures, stacks: nodes.len() }
            })
            .collect();
        let meaning = comparison.growth.meaning;
        let grown = rows.iter().map(|row| row.figures.retained(meaning));
        let retained = grown.fold(Grown::nothing(meaning), |sum, grown| sum.plus(&grown));
        let value = |row: &Row| row.value(sort, meaning);
        rows.retain(|row| value(row) > 0.0);
        rows.sort_by(|a, b| {
            let by_value = value(b).total_cmp(&value(a)).then_with(|| a.name.cmp(&b.name));
            by_value.then_with(|| match a.node.zip(b.node) {
                Some((a, b)) => tree.compare(a, b),
                None => a.module.cmp(&b.module),
            })
        });
        let has_flows = match by {
            By::Thread => all.has_flows_of_threads,
            _ => all.has_flows,
        };
        Breakdown { by, sort, rows, retained, meaning, has_flows }
    }
}

impl Row {
    /// What rows are sorted by.
    fn value(&self, column: Column, meaning: Meaning) -> f64 {
        let figures = &self.figures;
        match column {
            Column::Retained | Column::Share => figures.retained(meaning).bytes.value,
            Column::Count => figures.retained(meaning).blocks.value,
            Column::Net => figures.standing.cells.net(meaning).value,
            Column::Live => figures.standing.cells.after.bytes.value,
            Column::Allocated => figures.flow.allocated.bytes.value,
            Column::Freed => figures.freed().bytes.value,
            Column::Peak => figures.standing.peak.value,
            Column::Temporary => figures.flow.temporary.value,
            Column::Age => figures.mean_age().map_or(0.0, |mean| mean.value),
            Column::Largest => figures.standing.ages.largest as f64,
            Column::Stacks => self.stacks as f64,
        }
    }
}

/// A row that is being put together.
#[derive(Default)]
struct Group {
    figures: Figures,
    /// Of those that are known: `None` inside where there are several.
    thread: Option<Option<Arc<str>>>,
    nodes: Vec<NodeHandle>,
}

impl Group {
    fn add(&mut self, node: NodeHandle, owner: &Owner, figures: &Figures) {
        if let Owner::Thread(name) = owner {
            match &mut self.thread {
                Some(known) if known != name => *known = None,
                Some(_) => {}
                none => *none = Some(name.clone()),
            }
        }
        self.figures += *figures;
        self.nodes.push(node);
    }
}
