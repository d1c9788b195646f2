//! Weighs what DWARF, symbol tables, PLT and unwind table say of one address.

use std::collections::HashSet;
use std::sync::Arc;

use super::debug_info::{DebugFrame, DebugInfo};
use super::plt::Plt;
use super::symbols::Symbol;
use super::unwind_table::UnwindTable;
use super::{Location, SymbolFrame};

/// Everything that can say what an address is, beside the symbol tables.
pub struct Evidence<'a> {
    pub library: &'a str,
    pub debug_info: Option<DebugInfo<'a>>,
    pub unwind_table: Option<UnwindTable<'a>>,
    pub plt: Option<Plt<'a>>,
}

impl Evidence<'_> {
    pub fn location(&self, svma: u64, symbol: Option<Symbol<'_>>, names: &mut Names) -> Location {
        let mut debug_frames = match &self.debug_info {
            Some(debug_info) => debug_info.frames(svma),
            None => Vec::new(),
        };
        let outermost = debug_frames.pop();
        let debug_name = outermost.as_ref().and_then(|frame| frame.function.as_deref());
        let function = self.function_name(svma, debug_name, symbol);
        let mut frames: Vec<_> = debug_frames
            .iter()
            .filter_map(|frame| Some(names.frame(frame.function.as_deref()?, Some(frame), true)))
            .collect();
        frames.push(names.frame(&function, outermost.as_ref(), false));
        Location { frames }
    }

    /// The name of the function that contains the address. DWARF knows a function under the
    /// name that belongs to its lines, where a table may name a folded twin; a table knows the
    /// linkage name where DWARF has only `operator()`.
    fn function_name(&self, svma: u64, debug_name: Option<&str>, symbol: Option<Symbol<'_>>) -> String {
        let is_mangled = |name: &str| name.starts_with("_Z") || name.starts_with("_R");
        let start = || self.unwind_table.as_ref().and_then(|table| table.function_start(svma));
        let symbol = symbol.filter(|symbol| symbol.covers || start() <= Some(symbol.start));
        let symbol_name = symbol.map(|symbol| String::from_utf8_lossy(symbol.name));
        match (debug_name, symbol_name) {
            (Some(name), Some(symbol)) if !is_mangled(name) && is_mangled(&symbol) => symbol.into_owned(),
            (Some(name), _) => name.to_owned(),
            (None, Some(symbol)) => symbol.into_owned(),
            (None, None) => {
                let plt_target = self.plt.as_ref().and_then(|plt| plt.target(svma));
                match (plt_target, start()) {
                    (Some(target), _) => format!("{}@plt", String::from_utf8_lossy(target)),
                    (None, Some(start)) => format!("{}!fn+{start:#x}", self.library),
                    (None, None) => bare_address(self.library, svma),
                }
            }
        }
    }
}

/// Names and paths, each kept once.
#[derive(Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    fn keep(&mut self, name: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(name) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = Arc::from(name);
        self.0.insert(Arc::clone(&kept));
        kept
    }

    fn frame(&mut self, function: &str, debug: Option<&DebugFrame>, inlined: bool) -> SymbolFrame {
        let file = debug.and_then(|frame| frame.file.as_deref());
        SymbolFrame {
            function: self.keep(function),
            file: file.map(|file| self.keep(file)),
            line: debug.and_then(|frame| frame.line),
            inlined,
        }
    }

    /// An address that nothing is known of: `lib!0x1242`.
    pub fn nameless(&mut self, library: &str, svma: u64) -> Location {
        Location { frames: vec![self.frame(&bare_address(library, svma), None, false)] }
    }
}

fn bare_address(library: &str, svma: u64) -> String {
    format!("{library}!{svma:#x}")
}
