//! Which stacks are shown: those that no suppression matches, with a frame that `focus` matches and none that `ignore` does.
//!
//! A frame is matched by its function (as it is shown, in full, and by linkage name), its module and its source file. Of the
//! allocator's entry points only the names are matched: `operator new` is of the C++ library, and what it is asked for is not.
//! Each function and each node of the tree is looked at once.

use crate::calltree::{CallTree, NodeHandle};
use crate::names::{self, Style};
use crate::output::top;
use crate::suppress::Suppressions;
use crate::symbols::{Frame, Names, Symbol, SymbolHandle};
use regex::Regex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only stacks with a frame that matches.
    pub focus: Option<Regex>,
    /// No stacks with a frame that matches.
    pub ignore: Option<Regex>,
    /// No stacks with a frame that one of them matches.
    pub suppressions: Option<Suppressions>,
}

/// Bytes of some stacks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Amount {
    /// Their bytes.
    pub bytes: f64,
    /// How many there are.
    pub stacks: usize,
}

/// What a filter has taken away.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    /// By suppressions.
    pub suppressed: Amount,
    /// The same by pattern, in the order of the file.
    pub by_pattern: Vec<Amount>,
    /// Of the others, by focus and ignore.
    pub passed_over: Amount,
}

/// What matches a frame, or the frames of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Marks {
    focus: bool,
    ignore: bool,
    suppressed: Option<usize>,
}

impl Marks {
    fn with(self, other: Marks) -> Marks {
        Marks {
            focus: self.focus || other.focus,
            ignore: self.ignore || other.ignore,
            suppressed: self.suppressed.into_iter().chain(other.suppressed).min(),
        }
    }
}

impl Amount {
    fn add(&mut self, bytes: f64) {
        self.bytes += bytes;
        self.stacks += 1;
    }
}

/// Of each node of a tree, whether its stack is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    marks: Vec<Marks>,
    needs_focus: bool,
}

impl Shown {
    /// Whether this stack is.
    pub fn has(&self, node: NodeHandle) -> bool {
        let marks = self.marks(node);
        marks.suppressed.is_none() && self.passes(marks)
    }

    fn marks(&self, node: NodeHandle) -> Marks {
        self.marks.get(node.number()).copied().unwrap_or_default()
    }

    fn passes(&self, marks: Marks) -> bool {
        !marks.ignore && (marks.focus || !self.needs_focus)
    }
}

impl Filter {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.focus.is_none() && self.ignore.is_none() && self.suppressions.is_none()
    }

    /// Looks at every stack of a tree.
    pub fn look_at<V>(&self, tree: &CallTree<V>, names: &Names) -> Shown {
        let mut by_symbol = FxHashMap::<SymbolHandle, (Marks, bool)>::default();
        let mut by_file = FxHashMap::<Arc<str>, Marks>::default();
        let marks = tree.descend(Marks::default(), |parent, frame: &Frame| {
            let (of_symbol, is_allocator) = *by_symbol.entry(frame.symbol).or_insert_with(|| {
                let symbol = tree.symbols.get(frame.symbol);
                symbol.map_or_else(Default::default, |symbol| self.of_symbol(symbol, names.get(frame.symbol)))
            });
            let file = frame.file.as_ref().filter(|_| !is_allocator);
            let of_file = file.map_or(Marks::default(), |file| match by_file.get(file) {
                Some(known) => *known,
                None => *by_file.entry(file.clone()).or_insert(self.marks(file)),
            });
            parent.with(of_symbol).with(of_file)
        });
        Shown { marks, needs_focus: self.focus.is_some() }
    }

    /// What matches a symbol, and whether it is of an allocator.
    fn of_symbol(&self, symbol: &Symbol, shown: &str) -> (Marks, bool) {
        let Symbol { function, module } = symbol;
        let is_allocator = top::is_allocator(&names::display(function, Style::Short));
        let full = names::display(function, Style::Full);
        let module = Some(&**module).filter(|_| !is_allocator);
        let texts = [shown, &full, function].into_iter().chain(module);
        (texts.fold(Marks::default(), |marks, text| marks.with(self.marks(text))), is_allocator)
    }

    fn marks(&self, text: &str) -> Marks {
        let is_match = |expression: &Option<Regex>| expression.as_ref().is_some_and(|e| e.is_match(text));
        Marks {
            focus: is_match(&self.focus),
            ignore: is_match(&self.ignore),
            suppressed: self.suppressions.as_ref().and_then(|suppressions| suppressions.matching(text)),
        }
    }

    /// Takes the stacks that are not shown from a tree, and says what they amount to.
    pub fn apply<V>(&self, shown: &Shown, tree: &mut CallTree<V>, bytes: impl Fn(&V) -> f64) -> Hidden {
        let patterns = self.suppressions.as_ref().map_or(0, |all| all.patterns.len());
        let mut hidden = Hidden { by_pattern: vec![Amount::default(); patterns], ..Hidden::default() };
        for (node, entry) in tree.entries() {
            let (marks, bytes) = (shown.marks(node), bytes(&entry.value));
            if bytes <= 0.0 {
                continue;
            }
            if let Some(pattern) = marks.suppressed {
                hidden.suppressed.add(bytes);
                hidden.by_pattern.get_mut(pattern).into_iter().for_each(|amount| amount.add(bytes));
            } else if !shown.passes(marks) {
                hidden.passed_over.add(bytes);
            }
        }
        tree.retain(|node| shown.has(node));
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn of_an_allocator_the_name_counts_and_not_the_library() {
        let suppressed = |pattern: &str, function: &str| {
            let suppressions = Suppressions::parse(Path::new("s"), &format!("leak:{pattern}")).unwrap();
            let filter = Filter { suppressions: Some(suppressions), ..Filter::default() };
            let symbol = Symbol { function: function.into(), module: "libstdc++.so.6".into() };
            filter.of_symbol(&symbol, "").0.suppressed.is_some()
        };
        assert!(!suppressed("libstdc++", "_Znwm"));
        assert!(suppressed("operator new", "_Znwm"));
        assert!(suppressed("libstdc++", "_ZSt9terminatev"));
        assert!(suppressed("^std::terminate()$", "_ZSt9terminatev"));
        assert!(suppressed("_ZSt9term", "_ZSt9terminatev"));
    }
}
