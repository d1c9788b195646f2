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

    /// Its place among all stacks.
    pub fn number(self) -> usize {
        self.0 as usize
    }
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
    /// The child that was defined first; 0 where there is none. Often the next node, and so in the same cache line.
    first: u32,
    /// The child that was asked for last.
    recent: u32,
}

/// An address whose site is known in one generation.
#[derive(Clone, Copy, Debug)]
struct Recent {
    address: u64,
    generation: Generation,
    site: u32,
}

/// Places for [`Recent`] addresses, a power of two.
const RECENT: usize = 1 << 13;

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
    /// The children that are not their parents' first.
    others: HashTable<u32>,
    sites: Vec<Site>,
    /// In front of `by_address`, each address at its own place only.
    recent: Box<[Recent]>,
    by_address: FxHashMap<u64, Found>,
    by_module: FxHashMap<(u64, Option<ModuleHandle>), u32>,
}

impl Default for Stacks {
    fn default() -> Self {
        Stacks {
            modules: Modules::default(),
            nodes: vec![Node::new(0, NO_SITE)],
            others: HashTable::new(),
            sites: Vec::new(),
            recent: no_recent(),
            by_address: FxHashMap::default(),
            by_module: FxHashMap::default(),
        }
    }
}

/// More nodes than any program was seen to need, ten times over; they take some 400 MB. A few bytes of a file can ask for
/// very many.
const MOST_NODES: usize = 1 << 24;

/// The root's; no address has it.
const NO_SITE: u32 = u32::MAX;

impl Node {
    fn new(parent: u32, site: u32) -> Node {
        Node { parent, site, first: 0, recent: 0 }
    }
}

/// Where an address stands among the recent ones.
#[inline]
fn place(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % RECENT
}

/// At every place an address of another place, which is never found there.
fn no_recent() -> Box<[Recent]> {
    let address = |at| if at == place(0) { 1 } else { 0 };
    (0..RECENT).map(|at| Recent { address: address(at), generation: Generation(0), site: NO_SITE }).collect()
}

/// Spreads a node's content over 64 bits; the table takes its place from the low and its tag from the high ones.
#[inline]
fn hash(parent: u32, site: u32) -> u64 {
    let both = u64::from(parent) << 32 | u64::from(site);
    let product = both.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

impl Stacks {
    /// The stack of `address` called from `parent`.
    #[inline]
    pub fn push(&mut self, parent: Stack, address: u64, generation: Generation) -> Stack {
        let site = self.site(address, generation);
        let Some(node) = self.nodes.get(parent.0 as usize) else { return parent };
        for child in [node.recent, node.first] {
            // The root is nobody's child, and has no address's site.
            if self.nodes.get(child as usize).is_some_and(|node| node.site == site) {
                return Stack(child);
            }
        }
        self.other(parent.0, site)
    }

    /// Whether there are as many stacks as there may be.
    pub fn is_full(&self) -> bool {
        self.nodes.len() >= MOST_NODES
    }

    /// The child that is neither its parent's first nor its recent one.
    fn other(&mut self, parent: u32, site: u32) -> Stack {
        let nodes = &self.nodes;
        let same =
            |&at: &u32| nodes.get(at as usize).is_some_and(|node| node.parent == parent && node.site == site);
        let next = nodes.len() as u32;
        let is_first = nodes.get(parent as usize).is_some_and(|node| node.first == 0);
        let known = if is_first { None } else { self.others.find(hash(parent, site), same).copied() };
        let child = known.unwrap_or(next);
        if known.is_none() {
            self.nodes.push(Node::new(parent, site));
            if !is_first {
                let nodes = &self.nodes;
                let hash_of =
                    |&at: &u32| nodes.get(at as usize).map_or(0, |node| hash(node.parent, node.site));
                self.others.insert_unique(hash(parent, site), child, hash_of);
            }
        }
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            node.recent = child;
            if is_first {
                node.first = child;
            }
        }
        Stack(child)
    }

    /// The site of an address in a generation.
    #[inline]
    fn site(&mut self, address: u64, generation: Generation) -> u32 {
        let place = place(address);
        match self.recent.get(place) {
            Some(recent) if recent.address == address && recent.generation == generation => recent.site,
            _ => self.site_of_span(address, generation, place),
        }
    }

    #[cold]
    fn site_of_span(&mut self, address: u64, generation: Generation, place: usize) -> u32 {
        let site = match self.by_address.get(&address) {
            Some(found) if found.from <= generation && generation <= found.to => found.site,
            _ => self.site_of_module(address, generation),
        };
        let recent = Recent { address, generation, site };
        self.recent.get_mut(place).into_iter().for_each(|place| *place = recent);
        site
    }

    /// Finds the site of an address in a generation the slow way.
    #[cold]
    fn site_of_module(&mut self, address: u64, generation: Generation) -> u32 {
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
#[path = "stacks_tests.rs"]
mod tests;
