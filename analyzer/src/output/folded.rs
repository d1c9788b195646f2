//! Folded text: `outermost;…;leaf bytes`, a line a stack.

use crate::calltree::{CallTree, NodeHandle, Pruned};
use crate::symbols::Names;
use std::collections::HashMap;
use std::io::{self, Write};

/// Stands for branches that are too thin to see.
pub const OTHER: &str = "(other)";

/// Writes the stacks, the largest first, then by name. Stacks that show the same names are one line.
///
/// # Errors
/// Those of `out`.
pub fn write<V>(tree: &CallTree<V>, pruned: &Pruned, names: &Names, mut out: impl Write) -> io::Result<()> {
    for (stack, bytes) in lines(pruned, |node| names_of(tree, names, node)) {
        if bytes >= 0.5 {
            writeln!(out, "{stack} {bytes:.0}")?;
        }
    }
    Ok(())
}

/// The lines' stacks and bytes, in their order; `frames` gives the names of a stack, outermost first.
pub fn lines(pruned: &Pruned, frames: impl Fn(NodeHandle) -> Vec<String>) -> Vec<(String, f64)> {
    let mut sums = HashMap::<String, f64>::new();
    let mut branches = pruned.branches.clone();
    branches.sort_by_key(|branch| (branch.node, branch.is_other));
    for branch in branches {
        let mut frames = frames(branch.node);
        if branch.is_other {
            frames.push(OTHER.to_owned());
        }
        if frames.is_empty() {
            frames.push("[no stack]".to_owned());
        }
        *sums.entry(frames.join(";")).or_default() += branch.value;
    }
    let mut lines: Vec<_> = sums.into_iter().collect();
    lines.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    lines
}

/// Outermost first, fit for folded text.
pub fn names_of<V>(tree: &CallTree<V>, names: &Names, node: NodeHandle) -> Vec<String> {
    let mut frames: Vec<String> = tree.frames(node).map(|frame| fold(names.get(frame.symbol))).collect();
    frames.reverse();
    frames
}

/// A name without what separates frames, lines and values. Spaces before a number would make it a value.
pub fn fold(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c {
            ';' => ':',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    match plain.rsplit_once(' ') {
        Some((head, tail)) if tail.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            format!("{head}_{tail}")
        }
        _ if plain.is_empty() => "[no name]".to_owned(),
        _ => plain,
    }
}
