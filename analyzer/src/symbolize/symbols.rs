//! Symbol tables: one pass over each, keeping only the symbols that own a wanted address.

use object::elf;
use object::read::elf::SectionHeader;
use object::read::elf::{Sym, SymbolTable};

use super::elf::{Elf, Header};

/// A function symbol as it stands in the symbol table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'data> {
    pub name: &'data [u8],
    /// svma of its first byte.
    pub start: u64,
    /// Its size covers the address; otherwise it is only the nearest one before.
    pub covers: bool,
    binding: elf::SymbolBind,
    is_function: bool,
}

impl Symbol<'_> {
    /// Is this the better name for an address that both own? Innermost first; among aliases a
    /// function, a visible one, the one with fewer leading underscores, a global one, the
    /// shortest, the first in byte order.
    fn is_better_than(&self, other: &Self) -> bool {
        let rank = |symbol: &Self| {
            (
                std::cmp::Reverse(symbol.start),
                !symbol.is_function,
                symbol.binding == elf::STB_LOCAL,
                symbol.name.iter().take_while(|&&byte| byte == b'_').count(),
                symbol.binding != elf::STB_GLOBAL,
                symbol.name.len(),
            )
        };
        rank(self).cmp(&rank(other)).then_with(|| self.name.cmp(other.name)).is_lt()
    }
}

/// What is known so far about one wanted address.
#[derive(Clone, Copy, Default)]
struct Found<'data> {
    covering: Option<Symbol<'data>>,
    /// Nearest symbol without a size at or before this address and after the previous wanted
    /// one, with the end of its section.
    sizeless: Option<(Symbol<'data>, u64)>,
    /// Start of the nearest sized symbol in the same span.
    sized_start: Option<u64>,
}

/// Collects symbols for sorted addresses, from several tables.
pub struct SymbolSearch<'data, 'svmas> {
    svmas: &'svmas [u64],
    found: Vec<Found<'data>>,
}

impl<'data, 'svmas> SymbolSearch<'data, 'svmas> {
    /// `svmas` are sorted.
    pub fn new(svmas: &'svmas [u64]) -> Self {
        Self { svmas, found: vec![Found::default(); svmas.len()] }
    }

    /// Looks through one table: O(symbols × log addresses), names are read only for hits.
    pub fn scan(&mut self, elf: &Elf<'data>, table: &SymbolTable<'data, Header>) {
        let endian = elf.endian;
        for entry in table.iter() {
            let kind = entry.st_type();
            let is_function = matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC);
            if !is_function && kind != elf::STT_NOTYPE {
                continue;
            }
            let start = entry.st_value(endian);
            let first = self.svmas.partition_point(|&svma| svma < start);
            let Some(&nearest) = self.svmas.get(first) else {
                continue;
            };
            let size = entry.st_size(endian);
            let end = start.saturating_add(size);
            let improves = |found: &Found| {
                found.sized_start < Some(start)
                    || found.sizeless.is_none_or(|(symbol, _)| symbol.start <= start)
            };
            let wanted = if size == 0 {
                improves(&self.found[first])
            } else {
                nearest < end || self.found[first].sized_start < Some(start)
            };
            if !wanted || entry.is_undefined(endian) {
                continue;
            }
            let Some(section_end) = code_section_end(elf, entry, is_function) else {
                continue;
            };
            let Ok(name) = table.symbol_name(endian, entry) else {
                continue;
            };
            // `$x` and `$d` mark code and data on ARM.
            if name.is_empty() || name.starts_with(b"$") {
                continue;
            }
            let symbol = Symbol { name, start, covers: size > 0, binding: entry.st_bind(), is_function };
            self.add(first, symbol, end, section_end);
        }
    }

    fn add(&mut self, first: usize, symbol: Symbol<'data>, end: u64, section_end: u64) {
        let nearest = &mut self.found[first];
        if !symbol.covers {
            if nearest.sizeless.is_none_or(|(other, _)| symbol.is_better_than(&other)) {
                nearest.sizeless = Some((symbol, section_end));
            }
            return;
        }
        nearest.sized_start = nearest.sized_start.max(Some(symbol.start));
        for (found, &svma) in self.found[first..].iter_mut().zip(&self.svmas[first..]) {
            if svma >= end {
                break;
            }
            if found.covering.is_none_or(|other| symbol.is_better_than(&other)) {
                found.covering = Some(symbol);
            }
        }
    }

    /// The owner of each address. A symbol without a size owns what follows it up to the next
    /// symbol or the end of its section.
    pub fn finish(self) -> Vec<Option<Symbol<'data>>> {
        let mut sizeless: Option<(Symbol<'data>, u64)> = None;
        let mut sized_start = None;
        let owners = self.found.into_iter().zip(self.svmas);
        owners
            .map(|(found, &svma)| {
                sizeless = found.sizeless.or(sizeless);
                sized_start = found.sized_start.max(sized_start);
                found.covering.or_else(|| {
                    let (symbol, section_end) = sizeless?;
                    let owns = svma < section_end && sized_start <= Some(symbol.start);
                    owns.then_some(symbol)
                })
            })
            .collect()
    }
}

/// End of the symbol's section. `None` if a symbol without type is not in code, or if the
/// section is unknown.
fn code_section_end(elf: &Elf<'_>, entry: &elf::Sym64<object::Endianness>, is_function: bool) -> Option<u64> {
    let section = elf.section_at(usize::from(entry.st_shndx(elf.endian).0))?;
    let is_code = section.sh_flags(elf.endian).contains(elf::SHF_EXECINSTR);
    (is_function || is_code).then(|| section.sh_addr(elf.endian).saturating_add(section.sh_size(elf.endian)))
}
