//! The tree of stacks: a stack is a node, its callers are the node's ancestors.
//!
//! A *site* is a return address within one module as loaded once (or within none). A node is a site under a parent
//! node. Thus the generations of the module map, which change with every `dlopen`, do not multiply nodes: an
//! address whose module stays keeps its site.

use crate::modules::{ModuleHandle, Modules};
use hashbrown::HashTable;
use prof::{Generation, TRUNCATED};
use rustc_hash::FxHashMap;

/// A node of the tree; as a stack, the path from it outwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stack(u32);

/// A return address in its module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SiteHandle(u32);

impl Stack {
    /// The stack without frames.
    pub const EMPTY: Stack = Stack(0);
}

/// A return address, and the module that it was in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Site {
    address: u64,
    module: Option<ModuleHandle>,
    /// In which it was first seen.
    generation: Generation,
}

/// What a site stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// Address in the ELF of a module.
    Module(ModuleHandle, u64),
    /// Lookup address in the process, in no module.
    Unknown(u64),
    /// Frames beyond the depth limit.
    Truncated,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Always smaller than the node's own number.
    parent: u32,
    site: u32,
}

/// A site as found for an address, good for a span of generations.
#[derive(Clone, Copy, Debug)]
struct Found {
    site: u32,
    from: Generation,
    to: Generation,
}

/// All stacks of a file, with the modules that give them meaning.
#[derive(Debug)]
pub struct Stacks {
    /// Every module of the file so far.
    pub modules: Modules,
    nodes: Vec<Node>,
    by_content: HashTable<u32>,
    sites: Vec<Site>,
    by_address: FxHashMap<u64, Found>,
    by_module: FxHashMap<(u64, Option<ModuleHandle>), u32>,
}

impl Default for Stacks {
    fn default() -> Self {
        Stacks {
            modules: Modules::default(),
            nodes: vec![Node { parent: 0, site: u32::MAX }],
            by_content: HashTable::new(),
            sites: Vec::new(),
            by_address: FxHashMap::default(),
            by_module: FxHashMap::default(),
        }
    }
}

/// Spreads a node's content over 64 bits; the table takes its place from the low and its tag from the high ones.
#[inline]
fn hash(node: Node) -> u64 {
    let both = u64::from(node.parent) << 32 | u64::from(node.site);
    let product = both.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

impl Stacks {
    /// The stack of `address` called from `parent`.
    #[inline]
    pub fn push(&mut self, parent: Stack, address: u64, generation: Generation) -> Stack {
        let site = match self.by_address.get(&address) {
            Some(found) if found.from <= generation && generation <= found.to => found.site,
            _ => self.site(address, generation),
        };
        let node = Node { parent: parent.0, site };
        let hash = hash(node);
        let nodes = &self.nodes;
        let same = |&at: &u32| {
            nodes.get(at as usize).is_some_and(|n| n.parent == node.parent && n.site == node.site)
        };
        if let Some(&at) = self.by_content.find(hash, same) {
            return Stack(at);
        }
        self.insert(node, hash)
    }

    #[cold]
    fn insert(&mut self, node: Node, hash_of_node: u64) -> Stack {
        let at = self.nodes.len() as u32;
        self.nodes.push(node);
        let nodes = &self.nodes;
        self.by_content.insert_unique(hash_of_node, at, |&at| nodes.get(at as usize).map_or(0, |n| hash(*n)));
        Stack(at)
    }

    /// Finds the site of an address in a generation the slow way.
    #[cold]
    fn site(&mut self, address: u64, generation: Generation) -> u32 {
        if let Some(found) = self.by_address.get_mut(&address)
            && let Some(module) = self.sites.get(found.site as usize).and_then(|site| site.module)
            && self.modules.get(module).is_some_and(|module| module.is_in(generation))
        {
            found.from = found.from.min(generation);
            found.to = found.to.max(generation);
            return found.site;
        }
        let module = match address {
            TRUNCATED => None,
            _ => self.modules.find(address.wrapping_sub(1), generation),
        };
        let next = self.sites.len() as u32;
        let site = *self.by_module.entry((address, module)).or_insert(next);
        if site == next {
            self.sites.push(Site { address, module, generation });
        }
        self.by_address.insert(address, Found { site, from: generation, to: generation });
        site
    }

    /// How many distinct stacks there are, those of callers included.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stack and its callers' stacks, each with the site of its leaf: leaf first.
    pub fn path(&self, stack: Stack) -> impl Iterator<Item = (Stack, SiteHandle)> {
        let mut at = stack.0;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize).filter(|_| at != 0)?;
            let stack = Stack(std::mem::replace(&mut at, node.parent));
            Some((stack, SiteHandle(node.site)))
        })
    }

    /// What a site stands for; the file must have been read as far as it will be.
    pub fn place(&self, site: SiteHandle) -> Place {
        let Some(site) = self.sites.get(site.0 as usize) else { return Place::Unknown(0) };
        if site.address == TRUNCATED {
            return Place::Truncated;
        }
        let lookup = site.address.wrapping_sub(1);
        let handle = site.module.or_else(|| self.modules.find(lookup, site.generation));
        let handle = handle.or_else(|| self.modules.find_later(lookup, site.generation));
        match handle.and_then(|handle| Some((handle, self.modules.get(handle)?))) {
            Some((handle, module)) => Place::Module(handle, module.svma(lookup)),
            None => Place::Unknown(lookup),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prof::ModuleId;
    use prof::record::Identity;

    fn add(stacks: &mut Stacks, id: u32, first: u32, start: u64) {
        let ranges = [(start, 0x1000)];
        stacks.modules.add(ModuleId(id), Generation(first), start, Identity::Unknown, "/lib/x.so", &ranges);
    }

    fn places(stacks: &Stacks, stack: Stack) -> Vec<Place> {
        stacks.path(stack).map(|(_, site)| stacks.place(site)).collect()
    }

    #[test]
    fn equal_stacks_are_one_node_while_their_modules_stay() {
        let mut stacks = Stacks::default();
        add(&mut stacks, 0, 0, 0x1000);
        let a = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
        let b = stacks.push(a, 0x1020, Generation(0));
        add(&mut stacks, 1, 1, 0x9000);
        assert_eq!(stacks.push(Stack::EMPTY, 0x1010, Generation(1)), a);
        assert_eq!(stacks.push(a, 0x1020, Generation(1)), b);
        assert_eq!(stacks.len(), 2);
        let module = stacks.modules.find(0x1010, Generation(0)).unwrap();
        assert_eq!(places(&stacks, b), [Place::Module(module, 0x1f), Place::Module(module, 0x0f)]);
    }

    #[test]
    fn another_module_at_the_same_address_is_another_node() {
        let mut stacks = Stacks::default();
        add(&mut stacks, 0, 0, 0x1000);
        let old = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
        stacks.modules.end(ModuleId(0), Generation(1));
        add(&mut stacks, 1, 1, 0x1000);
        let new = stacks.push(Stack::EMPTY, 0x1010, Generation(1));
        assert_ne!(old, new);
        assert_eq!(stacks.push(Stack::EMPTY, 0x1010, Generation(0)), old);
        assert_ne!(places(&stacks, old), places(&stacks, new));
    }

    #[test]
    fn a_module_that_is_found_late_still_gives_its_name() {
        let mut stacks = Stacks::default();
        let early = stacks.push(Stack::EMPTY, 0x1010, Generation(0));
        assert_eq!(places(&stacks, early), [Place::Unknown(0x100f)]);
        add(&mut stacks, 0, 1, 0x1000);
        assert!(matches!(places(&stacks, early)[..], [Place::Module(_, 0x0f)]));
    }

    #[test]
    fn truncation_is_not_an_address() {
        let mut stacks = Stacks::default();
        add(&mut stacks, 0, 0, 0);
        let stack = stacks.push(Stack::EMPTY, TRUNCATED, Generation(0));
        assert_eq!(places(&stacks, stack), [Place::Truncated]);
    }
}
