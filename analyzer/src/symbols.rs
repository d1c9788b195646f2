//! From sites to functions, for the sites that survived; and the symbols by which stacks are merged.

use crate::modules::{ModuleHandle, Modules};
use crate::names::{self, Style};
use crate::stacks::{Place, SiteHandle, Stack, Stacks};
use crate::symbolize::{self, Image, Progress, Reason, Status};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tracer's own library: its frames never show.
const TRACER: &str = "libtrace.so";

/// A function of a module, by linkage name: equal in every process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SymbolHandle(u32);

/// What a [`SymbolHandle`] stands for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Symbol {
    /// Linkage name, or what stands for one.
    pub function: Arc<str>,
    /// File name of the module.
    pub module: Arc<str>,
}

/// A function that was active, an inlined one included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Which function.
    pub symbol: SymbolHandle,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line in it.
    pub line: Option<u32>,
}

/// How names are found.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Where to look for symbol files; `None`: nowhere, modules and addresses are all there is.
    pub files: Option<symbolize::Options>,
    /// Whether addresses outside of modules mean anything: they do within one process.
    pub addresses: bool,
}

/// The symbols of one or more files.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    all: Vec<Symbol>,
    by_content: FxHashMap<Symbol, SymbolHandle>,
    /// Modules that were asked for names.
    pub modules: usize,
    /// Those without function names, and why.
    pub missing: BTreeMap<Arc<str>, Reason>,
}

/// The frames of each site of one file, innermost first; of the tracer's own sites none.
#[derive(Clone, Debug, Default)]
pub struct SiteFrames {
    by_site: FxHashMap<SiteHandle, Vec<Frame>>,
}

impl SiteFrames {
    /// Innermost first.
    pub fn get(&self, site: SiteHandle) -> &[Frame] {
        self.by_site.get(&site).map_or(&[], Vec::as_slice)
    }
}

impl Symbols {
    fn intern(&mut self, function: &str, module: &Arc<str>) -> SymbolHandle {
        let symbol = Symbol { function: function.into(), module: module.clone() };
        if let Some(handle) = self.by_content.get(&symbol) {
            return *handle;
        }
        let handle = SymbolHandle(self.all.len() as u32);
        self.all.push(symbol.clone());
        self.by_content.insert(symbol, handle);
        handle
    }

    /// What a handle stands for.
    pub fn get(&self, handle: SymbolHandle) -> Option<&Symbol> {
        self.all.get(handle.0 as usize)
    }

    /// Every symbol's name as it is shown, in the order of handles.
    pub fn display(&self, style: Style) -> Names {
        Names(self.all.iter().map(|symbol| names::display(&symbol.function, style).into_owned()).collect())
    }

    /// The frames of all sites on `stacks_to_show`.
    pub fn frames(
        &mut self,
        stacks: &Stacks,
        stacks_to_show: impl Iterator<Item = Stack>,
        lookup: &Lookup,
        progress: impl FnMut(Progress),
    ) -> SiteFrames {
        let mut by_module = BTreeMap::<ModuleHandle, Vec<(u64, SiteHandle)>>::new();
        let mut frames = SiteFrames::default();
        let unknown: Arc<str> = "[unknown]".into();
        for site in distinct_sites(stacks, stacks_to_show) {
            let function = match stacks.place(site) {
                Place::Module(module, svma) => {
                    by_module.entry(module).or_default().push((svma, site));
                    continue;
                }
                Place::Truncated => "[truncated]".to_owned(),
                Place::Unknown(lookup_address) if lookup.addresses => {
                    format!("{unknown} {lookup_address:#x}")
                }
                Place::Unknown(_) => unknown.to_string(),
            };
            let symbol = self.intern(&function, &unknown);
            frames.by_site.insert(site, vec![Frame { symbol, file: None, line: None }]);
        }
        self.module_frames(&stacks.modules, by_module, lookup, progress, &mut frames);
        frames
    }

    fn module_frames(
        &mut self,
        modules: &Modules,
        by_module: BTreeMap<ModuleHandle, Vec<(u64, SiteHandle)>>,
        lookup: &Lookup,
        progress: impl FnMut(Progress),
        frames: &mut SiteFrames,
    ) {
        let mut images = Vec::new();
        let mut sites_of_images = Vec::new();
        for (handle, mut sites) in by_module {
            let Some(module) = modules.get(handle).filter(|module| module.name() != TRACER) else { continue };
            sites.sort_unstable();
            let mut svmas: Vec<u64> = sites.iter().map(|(svma, _)| *svma).collect();
            svmas.dedup();
            let build_id = module.build_id.as_deref();
            images.push((Image { path: &module.path, build_id, content_hash: module.content_hash }, svmas));
            sites_of_images.push((Arc::<str>::from(module.name()), sites));
        }
        let Some(options) = &lookup.files else {
            for (name, sites) in sites_of_images {
                for (svma, site) in sites {
                    let symbol = self.intern(&format!("{name}!{svma:#x}"), &name);
                    frames.by_site.insert(site, vec![Frame { symbol, file: None, line: None }]);
                }
            }
            return;
        };
        self.modules += images.len();
        let results = symbolize::symbolize_all(&images, options, progress);
        for (((_, svmas), (name, sites)), result) in images.iter().zip(sites_of_images).zip(results) {
            if let Status::Missing(reason) = result.status {
                self.missing.insert(name.clone(), reason);
            }
            for (svma, site) in sites {
                let location = svmas.binary_search(&svma).ok().and_then(|at| result.locations.get(at));
                let Some(location) = location else { continue };
                let found = location.frames.iter().map(|frame| Frame {
                    symbol: self.intern(&frame.function, &name),
                    file: frame.file.clone(),
                    line: frame.line,
                });
                let found = found.collect();
                frames.by_site.insert(site, found);
            }
        }
    }
}

/// In ascending order.
fn distinct_sites(stacks: &Stacks, of: impl Iterator<Item = Stack>) -> Vec<SiteHandle> {
    let mut seen = FxHashSet::default();
    let mut sites = FxHashSet::default();
    for stack in of {
        // Above a node that was seen, all were.
        sites.extend(stacks.path(stack).take_while(|(node, _)| seen.insert(*node)).map(|(_, site)| site));
    }
    let mut sites: Vec<SiteHandle> = sites.into_iter().collect();
    sites.sort_unstable();
    sites
}

/// Names as they are shown, by symbol.
#[derive(Clone, Debug)]
pub struct Names(Vec<String>);

impl Names {
    /// The name of a symbol.
    pub fn get(&self, symbol: SymbolHandle) -> &str {
        self.0.get(symbol.0 as usize).map_or("", String::as_str)
    }
}
