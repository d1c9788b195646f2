//! The top of a stack: the leaf-most frames that say something to the person who wrote the program.

use crate::calltree::{CallTree, NodeHandle};
use crate::names::{self, Style};
use crate::symbols::{Names, SymbolHandle};
use rustc_hash::FxHashMap;
use std::borrow::Cow;

/// Entry points of allocators, Python's included.
const ALLOCATORS: [&str; 22] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "operator new",
    "operator new[]",
    "__rust_alloc",
    "__rust_alloc_zeroed",
    "__rust_realloc",
    "PyMem_Malloc",
    "PyMem_RawMalloc",
    "_PyMem_RawMalloc",
    "PyObject_Malloc",
    "_PyObject_Malloc",
    "PyObject_Realloc",
    "_PyObject_Realloc",
    "pymalloc_alloc",
];

/// Stands for a stack without frames.
pub const NO_STACK: &str = "[no stack]";

/// Namespaces of the standard libraries.
const LIBRARIES: [&str; 6] = ["std::", "__gnu_cxx::", "alloc::", "<alloc::", "core::", "<core::"];

/// Functions of theirs that stand between a container and the allocator, by the last part of their names.
const INNER: [&str; 23] = [
    "_Scoped_node",
    "_M_allocate_buckets",
    "_M_mutate",
    "allocate",
    "_M_allocate",
    "_M_allocate_map",
    "_M_allocate_node",
    "_M_allocate_node_ptr",
    "_M_build_node",
    "_M_create",
    "_M_create_node",
    "_M_create_storage",
    "_M_get_node",
    "_S_allocate",
    "_S_new_page",
    "__allocate_guarded",
    "__allocate_guarded_obj",
    "alloc",
    "alloc_impl",
    "alloc_zeroed",
    "allocate_in",
    "exchange_malloc",
    "try_allocate_in",
];

/// Whether a function, by its short name, is an entry point of an allocator.
pub(crate) fn is_allocator(name: &str) -> bool {
    ALLOCATORS.contains(&name)
}

/// Whether a function, by its short name, only passes a request on to the allocator.
fn is_passage(name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or("");
    is_allocator(name) || (is_library(name) && INNER.contains(&last))
}

/// Whether a function, by its short name, is of a standard library.
fn is_library(name: &str) -> bool {
    LIBRARIES.iter().any(|library| name.starts_with(library))
}

/// The names of a stack's frames, leaf first, never empty: first the innermost one that is not a passage to the
/// allocator, then its callers outside of the standard libraries.
pub fn of_stack<'a, V>(tree: &'a CallTree<V>, node: NodeHandle, names: &'a Names) -> Vec<&'a str> {
    let frames: Vec<(Cow<str>, &str)> = tree
        .frames(node)
        .map(|frame| {
            let linkage = tree.symbols.get(frame.symbol).map_or("", |symbol| &*symbol.function);
            (names::display(linkage, Style::Short), names.get(frame.symbol))
        })
        .collect();
    let first = frames.iter().position(|(short, _)| !is_passage(short)).unwrap_or(0);
    let mut top = Vec::new();
    for (i, (short, shown)) in frames.iter().enumerate().skip(first) {
        if i == first || !is_library(short) {
            top.push(*shown);
        }
    }
    if top.is_empty() {
        top.push(NO_STACK);
    }
    top
}

/// Of each node, by its number: the function of its innermost frame that is not a passage to the allocator.
pub fn owners<V>(tree: &CallTree<V>) -> Vec<Option<SymbolHandle>> {
    let mut passages = FxHashMap::<SymbolHandle, bool>::default();
    let owners = tree.descend(None, |caller: Option<(SymbolHandle, bool)>, frame| {
        let is_passed = *passages.entry(frame.symbol).or_insert_with(|| {
            let linkage = tree.symbols.get(frame.symbol).map_or("", |symbol| &*symbol.function);
            is_passage(&names::display(linkage, Style::Short))
        });
        match caller {
            // Below a function of the program; without one the leaf itself has it.
            Some((owner, false)) if is_passed => Some((owner, false)),
            _ => Some((frame.symbol, is_passed)),
        }
    });
    owners.into_iter().map(|owner| owner.map(|(symbol, _)| symbol)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_told_from_what_calls_them() {
        let passages = [
            "malloc",
            "_Znwm",
            "_Znam",
            "_ZNSt15__new_allocatorIcE8allocateEmPKv",
            "_ZN9__gnu_cxx13new_allocatorIcE8allocateEmPKv",
            "_ZNSt12_Vector_baseIiSaIiEE11_M_allocateEm",
        ];
        for name in passages {
            assert!(is_passage(&names::display(name, Style::Short)), "{name}");
        }
        for name in ["main", "my_malloc", "_ZN3foo8allocateEv", "_ZNSt6vectorIiSaIiEE9push_backERKi"] {
            assert!(!is_passage(&names::display(name, Style::Short)), "{name}");
        }
    }
}
