//! From addresses in an ELF image to functions, files and lines.
//!
//! ```text
//! locate (image, debug file, supplementary file; identity checked)
//!   → debug_info (DWARF) ┐
//!   → symbols (tables)   ├→ Location for each address
//!   → plt, unwind_table  ┘
//! ```
//!
//! "Could not" is data: a missing, foreign or corrupt file gives a [`Status`] and fallback names
//! (`lib!fn+0x1240` from the unwind table, else `lib!0x1242`), never an error and never a name
//! from a file other than the recorded one. Only what the addresses need is read.

mod mapped_file;
mod elf;
mod locate;
mod debug_info;
mod mini_debug_info;
mod symbols;
mod plt;
mod unwind_table;
mod evidence;
mod parallel;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::RunTimeEndian;
use object::Endianness;
use object::elf::{SHT_DYNSYM, SHT_SYMTAB};

use self::debug_info::{DebugInfo, DebugSections};
use self::elf::Elf;
use self::evidence::{Evidence, Names};
use self::locate::LocatedFile;
use self::mapped_file::MappedFile;
use self::plt::Plt;
use self::symbols::{Symbol, SymbolSearch};
use self::unwind_table::UnwindTable;

pub use self::parallel::{Progress, symbolize_all};

/// One ELF image as the profile recorded it. Without a build-id and without a content hash, no
/// file can be known to be the recorded one, and none is used.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// As the loader knew it.
    pub path: &'a Path,
    /// The GNU build-id note, if there was one.
    pub build_id: Option<&'a [u8]>,
    /// [`content_hash`] of an image without build-id.
    pub content_hash: Option<u64>,
}

/// Where to look for files beside the recorded paths.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--symbols DIR`: build-id directories, or directories with unstripped copies.
    pub symbol_dirs: Vec<PathBuf>,
    /// The system's separate debug files.
    pub debug_dirs: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { symbol_dirs: Vec::new(), debug_dirs: vec![PathBuf::from("/usr/lib/debug")] }
    }
}

/// The outcome for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSymbols {
    /// One for each address that was asked for, in the same order.
    pub locations: Vec<Location>,
    /// What the names rest on.
    pub status: Status,
}

/// What the names of an image rest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The best of what was found, and the file that has it.
    Found {
        /// Where in it.
        source: Source,
        /// The file.
        file: PathBuf,
    },
    /// No function names.
    Missing(Reason),
}

/// Where names come from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// DWARF: inlined frames, and files and lines.
    DebugInfo,
    /// `.symtab`, also that of `.gnu_debugdata`.
    SymbolTable,
    /// `.dynsym`: exported functions only.
    DynamicSymbols,
}

/// Why an image has no function names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There is none at the recorded path, nor anywhere else that was looked.
    NoFile,
    /// The system refuses it.
    Unreadable,
    /// It is of another format.
    NotElf,
    /// The file at this path is not the one that was recorded.
    Mismatch,
    /// The profile has neither a build-id nor a content hash.
    NoIdentity,
    /// The file is the recorded one, and stripped.
    NoSymbols,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoFile => "file not found",
            Self::Unreadable => "file not readable",
            Self::NotElf => "not a 64-bit ELF file",
            Self::Mismatch => "file has changed since the recording",
            Self::NoIdentity => "no build-id recorded",
            Self::NoSymbols => "stripped",
        })
    }
}

/// What runs at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Innermost inlined frame first, the function that contains the address last; never empty.
    pub frames: Vec<SymbolFrame>,
}

/// One function activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolFrame {
    /// The linkage name; `lib!fn+0x1240` (the svma of its first byte) or `lib!0x1242` (the
    /// address itself) where there is none.
    pub function: Arc<str>,
    /// Source file, where debug information has it.
    pub file: Option<Arc<str>>,
    /// Line in it.
    pub line: Option<u32>,
    /// Inlined into the next frame.
    pub inlined: bool,
}

/// Identifies an image without build-id, from its file or from its mapped bytes alike.
///
/// FNV-1a 64 (basis 0xcbf29ce484222325, prime 0x100000001b3) over, in this order: the 64 bytes
/// of the ELF header; the program headers, `e_phnum` × 56 bytes at `e_phoff`; the first
/// min(4096, `p_filesz`) bytes of the first `PT_LOAD` segment that is executable. All of them
/// lie in read-only segments that are not relocated (text relocations excepted), so a process
/// can compute the same from memory. `None` if the file cannot be read or is not such an image.
pub fn content_hash(path: &Path) -> Option<u64> {
    let file = MappedFile::open(path).ok()?;
    Elf::parse(file.bytes())?.content_hash()
}

/// Symbolizes addresses of one image.
///
/// `svmas` are sorted and unique look-up addresses (return address − 1, minus the load bias).
pub fn symbolize(image: &Image<'_>, svmas: &[u64], options: &Options) -> ImageSymbols {
    let library = image.path.file_name().unwrap_or(image.path.as_os_str()).to_string_lossy();
    let mut names = Names::default();
    let nameless = |names: &mut Names, reason| ImageSymbols {
        locations: svmas.iter().map(|&svma| names.nameless(&library, svma)).collect(),
        status: Status::Missing(reason),
    };
    if image.build_id.is_none() && image.content_hash.is_none() {
        return nameless(&mut names, Reason::NoIdentity);
    }
    let located = locate::image(image, options);
    let elf = located.as_ref().ok().and_then(LocatedFile::elf);
    let with_elf = located.as_ref().ok().zip(elf.as_ref());
    let debug_file = match &elf {
        Some(elf) if elf.has_debug_info() => None,
        _ => locate::debug_file(image, with_elf, options),
    };
    let debug_elf = debug_file.as_ref().and_then(LocatedFile::elf);
    if let (Err(reason), None) = (&located, &debug_elf) {
        return nameless(&mut names, *reason);
    }

    let with_debug = debug_file.as_ref().zip(debug_elf.as_ref());
    let files: Vec<_> = with_elf.into_iter().chain(with_debug).collect();
    let endian = match files.first().map(|(_, elf)| elf.endian) {
        Some(Endianness::Big) => RunTimeEndian::Big,
        _ => RunTimeEndian::Little,
    };
    let dwarf_file = files.iter().find(|(_, elf)| elf.has_debug_info());
    let sections = dwarf_file.and_then(|(_, elf)| DebugSections::load(elf));
    let supplementary = dwarf_file.and_then(|(file, elf)| locate::supplementary_file(file, elf, options));
    let supplementary_elf = supplementary.as_ref().and_then(LocatedFile::elf);
    let supplementary_sections = supplementary_elf.as_ref().and_then(DebugSections::load);
    let debug_info = sections
        .as_ref()
        .and_then(|sections| DebugInfo::new(sections, supplementary_sections.as_ref(), endian));

    let mini = elf.as_ref().and_then(mini_debug_info::decompress);
    let mini_elf = mini.as_deref().and_then(Elf::parse);
    let symbols = find_symbols(&files, mini_elf.as_ref(), svmas);
    let status = match (&debug_info, dwarf_file, symbols.source) {
        (Some(_), Some((file, _)), _) => Status::Found { source: Source::DebugInfo, file: file.path.clone() },
        (_, _, Some((source, file))) => Status::Found { source, file: file.to_owned() },
        _ => Status::Missing(Reason::NoSymbols),
    };

    let evidence = Evidence {
        library: &library,
        debug_info,
        unwind_table: elf.as_ref().and_then(|elf| UnwindTable::parse(elf, endian)),
        plt: elf.as_ref().and_then(Plt::parse),
    };
    let locations = svmas
        .iter()
        .zip(symbols.owners)
        .map(|(&svma, symbol)| evidence.location(svma, symbol, &mut names))
        .collect();
    ImageSymbols { locations, status }
}

/// The owner of every address, and the best table that was looked through.
struct FoundSymbols<'data> {
    owners: Vec<Option<Symbol<'data>>>,
    source: Option<(Source, &'data Path)>,
}

fn find_symbols<'data>(
    files: &[(&'data LocatedFile, &Elf<'data>)],
    mini: Option<&Elf<'data>>,
    svmas: &[u64],
) -> FoundSymbols<'data> {
    let mut search = SymbolSearch::new(svmas);
    let mut source = None;
    let image_path = files.first().map(|(file, _)| file.path.as_path());
    let full = files
        .iter()
        .map(|(file, elf)| (Some(file.path.as_path()), *elf))
        .chain(mini.map(|elf| (image_path, elf)));
    for (path, elf) in full {
        if let Some(table) = elf.symbol_table(SHT_SYMTAB) {
            search.scan(elf, &table);
            source = source.or(path.map(|path| (Source::SymbolTable, path)));
        }
    }
    for (file, elf) in files {
        if let Some(table) = elf.symbol_table(SHT_DYNSYM) {
            search.scan(elf, &table);
            source = source.or(Some((Source::DynamicSymbols, file.path.as_path())));
        }
    }
    FoundSymbols { owners: search.finish(), source }
}

#[cfg(test)]
mod tests;
