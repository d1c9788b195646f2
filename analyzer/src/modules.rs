//! Which image an address belongs to, at every time: modules come and go, and one address has had several.

use prof::record::Identity;
use prof::{Generation, ModuleId};
use std::path::{Path, PathBuf};

/// Place of a module among the [`Modules`] of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModuleHandle(u32);

/// An image as it was loaded once.
#[derive(Clone, PartialEq, Debug)]
pub struct Module {
    id: ModuleId,
    first: Generation,
    gone: Option<Generation>,
    /// Address in the process minus address in the ELF.
    bias: u64,
    /// Start and end of each executable segment, in the process.
    ranges: Vec<(u64, u64)>,
    /// As the loader knew it.
    pub path: PathBuf,
    /// The GNU build-id.
    pub build_id: Option<Vec<u8>>,
    /// For images without build-id.
    pub content_hash: Option<u64>,
}

impl Module {
    /// The last part of the path; what tells modules of different processes apart.
    pub fn name(&self) -> &str {
        file_name(&self.path)
    }

    /// The address as written in the ELF.
    pub fn svma(&self, avma: u64) -> u64 {
        avma.wrapping_sub(self.bias)
    }

    fn covers(&self, avma: u64) -> bool {
        self.ranges.iter().any(|&(start, end)| (start..end).contains(&avma))
    }

    /// Whether it was there in `generation`.
    pub fn is_in(&self, generation: Generation) -> bool {
        self.first <= generation && self.gone.is_none_or(|gone| generation < gone)
    }
}

/// Every module of a file.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    all: Vec<Module>,
}

impl Modules {
    /// Adds a module.
    pub fn add(
        &mut self,
        id: ModuleId,
        first: Generation,
        bias: u64,
        identity: Identity,
        path: &str,
        ranges: &[(u64, u64)],
    ) {
        let ranges = ranges.iter().map(|&(start, len)| (start, start.saturating_add(len))).collect();
        let (build_id, content_hash) = match identity {
            Identity::BuildId(bytes) => (Some(bytes.to_vec()), None),
            Identity::Content(hash) => (None, Some(hash)),
            Identity::Unknown => (None, None),
        };
        let path = PathBuf::from(path);
        self.all.push(Module { id, first, gone: None, bias, ranges, path, build_id, content_hash });
    }

    /// Notes that a module was unloaded.
    pub fn end(&mut self, id: ModuleId, gone: Generation) {
        if let Some(module) = self.all.iter_mut().rev().find(|module| module.id == id) {
            module.gone = Some(gone);
        }
    }

    /// The module that has the address in a generation.
    pub fn find(&self, avma: u64, generation: Generation) -> Option<ModuleHandle> {
        // The latest wins: where two overlap, the older one's unloading was not seen.
        let at = self.all.iter().rposition(|module| module.is_in(generation) && module.covers(avma))?;
        Some(ModuleHandle(at as u32))
    }

    /// The first module to have the address after a generation that had none there: code of a new module may run
    /// before the tracer has found the module.
    pub fn find_later(&self, avma: u64, generation: Generation) -> Option<ModuleHandle> {
        let later = |module: &&Module| module.first > generation && module.covers(avma);
        let first = self.all.iter().filter(later).map(|module| module.first).min()?;
        self.find(avma, first)
    }

    /// The module behind a handle of this file.
    pub fn get(&self, handle: ModuleHandle) -> Option<&Module> {
        self.all.get(handle.0 as usize)
    }
}

/// The last part of a path, or all of it where there is none.
pub fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).or(path.to_str()).unwrap_or("")
}

/// An identity in hex.
pub fn identity_text(identity: Identity) -> String {
    match identity {
        Identity::BuildId(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Identity::Content(hash) => format!("content {hash:016x}"),
        Identity::Unknown => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(modules: &mut Modules, id: u32, first: u32, path: &str, start: u64) {
        let ranges = [(start, 0x1000)];
        modules.add(ModuleId(id), Generation(first), start, Identity::Unknown, path, &ranges);
    }

    #[test]
    fn an_address_changes_its_module_between_generations() {
        let mut modules = Modules::default();
        add(&mut modules, 0, 0, "/lib/old.so", 0x7000);
        modules.end(ModuleId(0), Generation(2));
        add(&mut modules, 1, 3, "/lib/new.so", 0x7800);
        let name = |handle: Option<ModuleHandle>| handle.and_then(|h| modules.get(h)).map(Module::name);
        assert_eq!(name(modules.find(0x7900, Generation(0))), Some("old.so"));
        assert_eq!(name(modules.find(0x7900, Generation(1))), Some("old.so"));
        assert_eq!(name(modules.find(0x7900, Generation(2))), None);
        assert_eq!(name(modules.find_later(0x7900, Generation(2))), Some("new.so"));
        assert_eq!(name(modules.find(0x7900, Generation(3))), Some("new.so"));
        assert_eq!(name(modules.find(0x7100, Generation(3))), None);
        assert_eq!(name(modules.find_later(0x7100, Generation(3))), None);
    }

    #[test]
    fn svma_is_the_address_in_the_elf() {
        let mut modules = Modules::default();
        add(&mut modules, 0, 0, "/bin/server", 0x5555_0000);
        let handle = modules.find(0x5555_0123, Generation(0)).unwrap();
        assert_eq!(modules.get(handle).unwrap().svma(0x5555_0123), 0x123);
    }
}
