//! Small C++ libraries, built here with g++ and taken apart with binutils.

mod damage;
mod programs;

use std::fs;
use std::path::{Path, PathBuf};

use object::elf::SHT_SYMTAB;
use object::read::elf::Sym;

use self::programs::{Workshop, missing_tool};
use super::elf::Elf;
use super::mapped_file::MappedFile;
use super::{Image, ImageSymbols, Options, Reason, Source, Status, content_hash, symbolize, symbolize_all};

/// What is known of a library before it is taken apart.
struct Library {
    path: PathBuf,
    build_id: Option<Vec<u8>>,
    content_hash: Option<u64>,
    /// svma and size of the functions of `programs::SOURCE`.
    visible: (u64, u64),
    hidden: (u64, u64),
    outer: (u64, u64),
}

impl Library {
    fn read(path: &Path) -> Self {
        let file = MappedFile::open(path).unwrap();
        let elf = Elf::parse(file.bytes()).unwrap();
        let function = |name| extent(&elf, name);
        let build_id = elf.build_id().map(<[u8]>::to_vec);
        Self {
            path: path.to_owned(),
            content_hash: build_id.is_none().then(|| elf.content_hash().unwrap()),
            build_id,
            visible: function("visible_entry"),
            hidden: function("_ZN4shopL6hiddenEi"),
            outer: function("_ZN4shop5outerEi"),
        }
    }

    fn image(&self) -> Image<'_> {
        Image { path: &self.path, build_id: self.build_id.as_deref(), content_hash: self.content_hash }
    }

    /// One address within each of the three functions, sorted.
    fn svmas(&self) -> Vec<u64> {
        let mut svmas = vec![self.visible.0 + 1, self.hidden.0 + 1, self.outer.0 + 1];
        svmas.sort_unstable();
        svmas
    }

    /// The function names at `svmas`: visible, hidden, outer.
    fn names(&self, symbols: &ImageSymbols) -> [String; 3] {
        let svmas = self.svmas();
        [self.visible, self.hidden, self.outer].map(|(start, _)| {
            let index = svmas.binary_search(&(start + 1)).unwrap();
            let frames = &symbols.locations[index].frames;
            frames.last().unwrap().function.to_string()
        })
    }
}

/// svma and size of a symbol in `.symtab`.
fn extent(elf: &Elf<'_>, wanted: &str) -> (u64, u64) {
    let table = elf.symbol_table(SHT_SYMTAB).unwrap();
    let mut symbols = table.iter();
    let is_wanted = |symbol: &&_| table.symbol_name(elf.endian, symbol).unwrap() == wanted.as_bytes();
    let symbol = symbols.find(is_wanted).unwrap();
    (symbol.st_value(elf.endian), symbol.st_size(elf.endian))
}

const NAMES: [&str; 3] = ["visible_entry", "_ZN4shopL6hiddenEi", "_ZN4shop5outerEi"];

/// Options that see nothing of the machine.
fn only_beside() -> Options {
    Options { symbol_dirs: Vec::new(), debug_dirs: Vec::new() }
}

fn source(symbols: &ImageSymbols) -> Option<Source> {
    match symbols.status {
        Status::Found { source, .. } => Some(source),
        Status::Missing(_) => None,
    }
}

#[test]
fn debug_info_gives_inlined_frames_and_lines() {
    for dwarf in ["-gdwarf-4", "-gdwarf-5"] {
        let workshop = Workshop::new();
        let library = Library::read(&workshop.build("libshop.so", &["-O2", dwarf]));
        let (start, size) = library.outer;
        let svmas: Vec<u64> = (start..start + size).collect();
        let symbols = symbolize(&library.image(), &svmas, &only_beside());
        assert_eq!(source(&symbols), Some(Source::DebugInfo));
        let inlined = symbols
            .locations
            .iter()
            .find(|location| location.frames.len() == 2)
            .expect("an address of the inlined loop");
        let [inner, outer] = &inlined.frames[..] else { unreachable!() };
        // GCC gives internal functions that are only inlined no linkage name.
        assert_eq!(&*inner.function, "innermost");
        assert!(inner.inlined && !outer.inlined);
        assert_eq!(&*outer.function, "_ZN4shop5outerEi");
        assert_eq!(outer.line, Some(programs::line_of("innermost(x)")));
        assert!(inner.file.as_ref().unwrap().ends_with("libshop.so.cpp"));
    }
}

#[test]
fn compressed_debug_sections_are_read() {
    for kind in ["zlib", "zlib-gnu", "zstd"] {
        let workshop = Workshop::new();
        let library = Library::read(&workshop.build("libshop.so", &["-O2", "-g"]));
        let argument = format!("--compress-debug-sections={kind}");
        if !workshop.try_run("objcopy", &[&argument, "libshop.so"]) {
            eprintln!("skipped: this objcopy cannot compress with {kind}");
            continue;
        }
        let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
        assert_eq!(source(&symbols), Some(Source::DebugInfo), "{kind}");
        let lines = symbols.locations.iter().all(|it| it.frames[0].line.is_some());
        assert!(lines, "{kind}");
    }
}

#[test]
fn symbol_table_without_debug_info() {
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2"]));
    let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
    assert_eq!(source(&symbols), Some(Source::SymbolTable));
    assert_eq!(library.names(&symbols), NAMES);
}

#[test]
fn labels_without_size_own_what_follows_them_and_nothing_more() {
    let workshop = Workshop::new();
    let path = workshop.build_source("libodd.so", programs::ODD_SYMBOLS, &["-O2"]);
    let file = MappedFile::open(&path).unwrap();
    let elf = Elf::parse(file.bytes()).unwrap();
    let image = Image { path: &path, build_id: elf.build_id(), content_hash: None };
    let name = |svma| {
        let symbols = symbolize(&image, &[svma], &only_beside());
        symbols.locations[0].frames[0].function.to_string()
    };
    let [sizeless, sized, label, twin] =
        ["sizeless", "sized", "local_label", "__twin"].map(|name| extent(&elf, name).0);
    assert_eq!(name(sizeless + 3), "sizeless");
    assert_eq!(name(sized + 1), "sized");
    assert_eq!(name(sized + 3), format!("libodd.so!{:#x}", sized + 3));
    assert_eq!(name(label + 2), "local_label");
    // Of three aliases: without leading underscores, and not weak.
    assert_eq!(name(twin), "twin_too");
}

#[test]
fn stripped_library_has_exported_names_and_function_starts() {
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2"]));
    workshop.run("strip", &["libshop.so"]);
    let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
    assert_eq!(source(&symbols), Some(Source::DynamicSymbols));
    let hidden = format!("libshop.so!fn+{:#x}", library.hidden.0);
    assert_eq!(library.names(&symbols), ["visible_entry", &hidden, "_ZN4shop5outerEi"]);
}

#[test]
fn addresses_outside_of_functions_stay_addresses() {
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2"]));
    let svmas = [0x10, 0x7fff_0000, u64::MAX];
    let symbols = symbolize(&library.image(), &svmas, &only_beside());
    let names: Vec<_> =
        symbols.locations.iter().map(|location| location.frames[0].function.to_string()).collect();
    assert_eq!(names, ["libshop.so!0x10", "libshop.so!0x7fff0000", "libshop.so!0xffffffffffffffff"]);
}

/// Splits `libshop.so` into a stripped library and `libshop.so.debug`.
fn split(workshop: &Workshop) {
    workshop.run("objcopy", &["--only-keep-debug", "libshop.so", "libshop.so.debug"]);
    workshop.run("strip", &["libshop.so"]);
}

#[test]
fn debug_link_is_followed_and_its_checksum_checked() {
    for build_id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        for place in ["", ".debug", "root/usr/lib/debug"] {
            let workshop = Workshop::new();
            let path = workshop.build("libshop.so", &["-O2", "-g", build_id]);
            split(&workshop);
            workshop.run("objcopy", &["--add-gnu-debuglink=libshop.so.debug", "libshop.so"]);
            let mut library = Library::read(&workshop.path("libshop.so.debug"));
            library.path = path;
            // The section headers, and with them the hash, changed when the file was split.
            library.content_hash = content_hash(&library.path);
            let mut options = only_beside();
            let mut home = workshop.path(place);
            if place.starts_with("root") {
                options.debug_dirs.push(home.clone());
                home = home.join(workshop.path("").strip_prefix("/").unwrap());
            }
            fs::create_dir_all(&home).unwrap();
            let debug = home.join("libshop.so.debug");
            fs::rename(workshop.path("libshop.so.debug"), &debug).unwrap();
            let symbols = symbolize(&library.image(), &library.svmas(), &options);
            assert_eq!(source(&symbols), Some(Source::DebugInfo), "{place}");
            assert_eq!(library.names(&symbols), NAMES);

            let other = workshop.build("libother.so", &["-O1", "-g", build_id]);
            fs::rename(other, debug).unwrap();
            let symbols = symbolize(&library.image(), &library.svmas(), &options);
            assert_eq!(source(&symbols), Some(Source::DynamicSymbols), "{place}");
        }
    }
}

#[test]
fn build_id_directories_are_searched() {
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2", "-g"]));
    split(&workshop);
    let build_id = library.build_id.as_deref().unwrap();
    let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let home = workshop.path(&format!("symbols/.build-id/{}", &hex[..2]));
    fs::create_dir_all(&home).unwrap();
    fs::rename(workshop.path("libshop.so.debug"), home.join(format!("{}.debug", &hex[2..]))).unwrap();
    let root = vec![workshop.path("symbols")];
    let as_symbols = Options { symbol_dirs: root.clone(), debug_dirs: Vec::new() };
    let as_debug = Options { symbol_dirs: Vec::new(), debug_dirs: root };
    for options in [&as_symbols, &as_debug] {
        let symbols = symbolize(&library.image(), &library.svmas(), options);
        assert_eq!(source(&symbols), Some(Source::DebugInfo));
        assert_eq!(library.names(&symbols), NAMES);
    }
    // The debug file alone is enough: the library may be on another machine.
    fs::remove_file(&library.path).unwrap();
    let symbols = symbolize(&library.image(), &library.svmas(), &as_symbols);
    assert_eq!(source(&symbols), Some(Source::DebugInfo));
    assert_eq!(library.names(&symbols), NAMES);
}

#[test]
fn unstripped_copies_in_symbol_directories_must_match() {
    for build_id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let workshop = Workshop::new();
        let library = Library::read(&workshop.build("libshop.so", &["-O2", build_id]));
        let options = Options { symbol_dirs: vec![workshop.path("symbols")], debug_dirs: Vec::new() };
        fs::create_dir(workshop.path("symbols")).unwrap();
        fs::rename(&library.path, workshop.path("symbols/libshop.so")).unwrap();
        let symbols = symbolize(&library.image(), &library.svmas(), &options);
        assert_eq!(library.names(&symbols), NAMES);

        let other = workshop.build("libother.so", &["-O1", build_id]);
        fs::rename(other, workshop.path("symbols/libshop.so")).unwrap();
        let symbols = symbolize(&library.image(), &library.svmas(), &options);
        assert_eq!(symbols.status, Status::Missing(Reason::Mismatch));
    }
}

#[test]
fn mini_debug_info_names_what_stripping_removed() {
    if missing_tool("xz") {
        eprintln!("skipped: xz is not installed");
        return;
    }
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2", "-g"]));
    workshop.run("objcopy", &["--strip-debug", "libshop.so", "mini"]);
    workshop.run("xz", &["--check=crc32", "mini"]);
    workshop.run("strip", &["libshop.so"]);
    workshop.run("objcopy", &["--add-section", ".gnu_debugdata=mini.xz", "libshop.so"]);
    let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
    assert_eq!(source(&symbols), Some(Source::SymbolTable));
    assert_eq!(library.names(&symbols), NAMES);
}

#[test]
fn a_changed_file_gives_addresses_instead_of_wrong_names() {
    for build_id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let workshop = Workshop::new();
        let library = Library::read(&workshop.build("libshop.so", &["-O2", build_id]));
        let other = workshop.build("libother.so", &["-O1", build_id]);
        fs::rename(other, &library.path).unwrap();
        let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
        assert_eq!(symbols.status, Status::Missing(Reason::Mismatch));
        let hidden = format!("libshop.so!{:#x}", library.hidden.0 + 1);
        assert_eq!(library.names(&symbols)[1], hidden);
    }
}

#[test]
fn build_id_is_found_without_section_headers() {
    let workshop = Workshop::new();
    let library = Library::read(&workshop.build("libshop.so", &["-O2"]));
    let mut bytes = fs::read(&library.path).unwrap();
    // e_shoff, e_shnum and e_shstrndx.
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    fs::write(&library.path, bytes).unwrap();
    let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
    assert_eq!(symbols.status, Status::Missing(Reason::NoSymbols));
    let hidden = format!("libshop.so!fn+{:#x}", library.hidden.0);
    assert_eq!(library.names(&symbols)[1], hidden);
}

#[test]
fn a_build_id_that_the_program_headers_do_not_reach_was_not_recorded() {
    const PT_NOTE: [u8; 4] = [4, 0, 0, 0];
    let workshop = Workshop::new();
    let mut library = Library::read(&workshop.build("libshop.so", &["-O2", "-g"]));
    let mut bytes = fs::read(&library.path).unwrap();
    let headers = u64::from_le_bytes(*bytes[0x20..].first_chunk().unwrap()) as usize;
    let count = usize::from(bytes[0x38]);
    for header in bytes[headers..].chunks_exact_mut(56).take(count) {
        if header[..4] == PT_NOTE {
            // p_offset, p_vaddr and p_paddr.
            header[8..0x20].fill(0);
        }
    }
    fs::write(&library.path, bytes).unwrap();
    library.build_id = None;
    library.content_hash = content_hash(&library.path);
    let symbols = symbolize(&library.image(), &library.svmas(), &only_beside());
    assert_eq!(library.names(&symbols), NAMES);
    let file = MappedFile::open(&library.path).unwrap();
    assert!(Elf::parse(file.bytes()).unwrap().build_id().is_some(), "in the sections");
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let workshop = Workshop::new();
    fs::write(workshop.path("empty"), "").unwrap();
    fs::write(workshop.path("text"), "#!/bin/sh\n").unwrap();
    let cases = [
        ("missing", Reason::NoFile),
        ("text/below", Reason::NoFile),
        ("", Reason::Unreadable),
        ("empty", Reason::NotElf),
        ("text", Reason::NotElf),
    ];
    for (name, reason) in cases {
        let path = workshop.path(name);
        let image = Image { path: &path, build_id: Some(&[1, 2, 3]), content_hash: None };
        let symbols = symbolize(&image, &[0x10], &only_beside());
        assert_eq!(symbols.status, Status::Missing(reason), "{name}");
        assert_eq!(symbols.locations.len(), 1);
    }
    let path = workshop.path("missing");
    let unknown = Image { path: &path, build_id: None, content_hash: None };
    let symbols = symbolize(&unknown, &[0x10], &only_beside());
    assert_eq!(symbols.status, Status::Missing(Reason::NoIdentity));
    assert_eq!(&*symbols.locations[0].frames[0].function, "missing!0x10");
}

#[test]
fn content_hash_is_the_documented_one() {
    let workshop = Workshop::new();
    let path = workshop.build("libshop.so", &["-O2", "-Wl,--build-id=none"]);
    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let short = |at: usize| usize::from(u16::from_le_bytes(*bytes[at..].first_chunk().unwrap()));
    let headers = &bytes[word(0x20)..][..56 * short(0x38)];
    let is_code = |header: &&[u8]| header[0] == 1 && header[4] & 1 == 1;
    let code = headers.chunks(56).find(is_code).unwrap();
    let field = |at: usize| u64::from_le_bytes(*code[at..].first_chunk().unwrap()) as usize;
    let code = &bytes[field(0x08)..][..field(0x20).min(4096)];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes[..64].iter().chain(headers).chain(code) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(content_hash(&path), Some(hash));
}

#[test]
fn plt_entries_are_named_after_their_target() {
    let workshop = Workshop::new();
    let path = workshop.build("libshop.so", &["-O2", "-fno-plt", "-fplt"]);
    let library = Library::read(&path);
    let file = MappedFile::open(&path).unwrap();
    let elf = Elf::parse(file.bytes()).unwrap();
    let section = elf.section(".plt.sec").or_else(|| elf.section(".plt")).unwrap();
    let start = object::read::elf::SectionHeader::sh_addr(section, elf.endian);
    let svmas: Vec<u64> = (0..8).map(|entry| start + 16 * entry + 2).collect();
    let symbols = symbolize(&library.image(), &svmas, &only_beside());
    let named = |location: &super::Location| &*location.frames[0].function == "malloc@plt";
    if cfg!(target_arch = "x86_64") {
        assert!(symbols.locations.iter().any(named), "{symbols:?}");
    }
}

#[test]
fn many_images_at_once_keep_their_order() {
    let workshop = Workshop::new();
    let libraries: Vec<Library> = (0..5)
        .map(|number| workshop.build(&format!("lib{number}.so"), &["-O2"]))
        .map(|path| Library::read(&path))
        .collect();
    let images: Vec<_> = libraries.iter().map(|library| (library.image(), library.svmas())).collect();
    let mut seen = Vec::new();
    let results = symbolize_all(&images, &only_beside(), |progress| {
        seen.push((progress.images_done, progress.addresses_done));
    });
    assert_eq!(seen, [(1, 3), (2, 6), (3, 9), (4, 12), (5, 15)]);
    for ((image, svmas), result) in images.iter().zip(&results) {
        assert_eq!(*result, symbolize(image, svmas, &only_beside()));
    }
    assert!(symbolize_all(&[], &only_beside(), |_| ()).is_empty());
}
