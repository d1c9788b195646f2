//! Finds the files that belong to an image: the image itself, its separate debug file, and the
//! supplementary file that several debug files share. Nothing is used that does not match.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::Elf;
use super::mapped_file::MappedFile;
use super::{Image, Options, Reason};

/// A file that was found to belong to the image.
pub struct LocatedFile {
    pub path: PathBuf,
    map: MappedFile,
}

impl LocatedFile {
    pub fn elf(&self) -> Option<Elf<'_>> {
        Elf::parse(self.map.bytes())
    }

    /// Opens a file, if it is an ELF file that passes the test.
    fn open(path: PathBuf, accept: impl FnOnce(&Elf<'_>) -> bool) -> Result<Self, Reason> {
        let map = MappedFile::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::NoFile,
            _ => Reason::Unreadable,
        })?;
        let elf = Elf::parse(map.bytes()).ok_or(Reason::NotElf)?;
        if !accept(&elf) {
            return Err(Reason::Mismatch);
        }
        Ok(Self { path, map })
    }
}

/// Is this the file that was recorded? By build-id if there was one, else by content hash. A file may have a build-id that
/// was not recorded: old versions of `patchelf`, and so many Python wheels, move the note away from where the program
/// headers, which are all that a process has, say that it is.
fn is_recorded(image: &Image<'_>, elf: &Elf<'_>) -> bool {
    match (image.build_id, image.content_hash) {
        (Some(build_id), _) => elf.build_id() == Some(build_id),
        (None, Some(hash)) => elf.content_hash() == Some(hash),
        (None, None) => false,
    }
}

/// The image where it was loaded from, or else a copy under one of the symbol directories.
pub fn image(image: &Image<'_>, options: &Options) -> Result<LocatedFile, Reason> {
    let mut reason = match LocatedFile::open(image.path.to_owned(), |elf| is_recorded(image, elf)) {
        Ok(file) => return Ok(file),
        Err(reason) => reason,
    };
    for path in copies(image, options) {
        match LocatedFile::open(path, |elf| is_recorded(image, elf)) {
            Ok(file) => return Ok(file),
            Err(Reason::Mismatch) => reason = Reason::Mismatch,
            Err(_) => {}
        }
    }
    Err(reason)
}

/// Places below the symbol directories where the image may be: by build-id, then by name.
fn copies(image: &Image<'_>, options: &Options) -> Vec<PathBuf> {
    let by_build_id = options.symbol_dirs.iter().filter_map(|dir| build_id_path(dir, image.build_id?, ""));
    let by_name = options.symbol_dirs.iter().flat_map(|dir| {
        let whole = image.path.strip_prefix("/").unwrap_or(image.path);
        let name = image.path.file_name().unwrap_or_default();
        [dir.join(whole), dir.join(name)]
    });
    by_build_id.chain(by_name).collect()
}

/// `DIR/.build-id/ab/cdef….debug`.
fn build_id_path(dir: &Path, build_id: &[u8], extension: &str) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let mut name = String::from(".build-id/");
    // Writing into a string cannot fail.
    let _ = write!(name, "{first:02x}/");
    for byte in rest {
        let _ = write!(name, "{byte:02x}");
    }
    Some(dir.join(name + extension))
}

/// The separate debug file: by build-id, by `.gnu_debuglink`, or an unstripped copy under one of
/// the symbol directories.
pub fn debug_file(
    image: &Image<'_>,
    located: Option<(&LocatedFile, &Elf<'_>)>,
    options: &Options,
) -> Option<LocatedFile> {
    let has_names = |elf: &Elf<'_>| elf.has_debug_info() || elf.has_symbol_table();
    let matching = |path| LocatedFile::open(path, |elf| is_recorded(image, elf) && has_names(elf)).ok();
    let dirs = options.symbol_dirs.iter().chain(&options.debug_dirs);
    let by_build_id = dirs.filter_map(|dir| build_id_path(dir, image.build_id?, ".debug")).find_map(matching);
    by_build_id
        .or_else(|| {
            let (file, elf) = located?;
            linked_debug_file(image, file, elf, options)
        })
        .or_else(|| {
            let copies = copies(image, options).into_iter().flat_map(|path| {
                let mut debug = path.clone().into_os_string();
                debug.push(".debug");
                [path, debug.into()]
            });
            let elsewhere = copies.filter(|path| path != image.path);
            elsewhere.into_iter().find_map(matching)
        })
}

/// The file that `.gnu_debuglink` names: equal build-ids, or else the right CRC-32.
fn linked_debug_file(
    image: &Image<'_>,
    located: &LocatedFile,
    elf: &Elf<'_>,
    options: &Options,
) -> Option<LocatedFile> {
    let (name, crc) = elf.debug_link()?;
    if name.is_empty() || name.contains(&b'/') {
        return None;
    }
    let name = OsStr::from_bytes(name);
    let dir = located.path.parent()?;
    let recorded_dir = image.path.parent().unwrap_or(dir);
    let below = recorded_dir.strip_prefix("/").unwrap_or(recorded_dir);
    let near = [dir.join(name), dir.join(".debug").join(name)];
    let in_debug_dirs = options.debug_dirs.iter().map(|root| root.join(below).join(name));
    let in_symbol_dirs =
        options.symbol_dirs.iter().flat_map(|root| [root.join(below).join(name), root.join(name)]);
    let belongs = |debug: &Elf<'_>| match (image.build_id, debug.build_id()) {
        (Some(recorded), Some(found)) => recorded == found,
        _ => crc32fast::hash(debug.data) == crc,
    };
    let places = near.into_iter().chain(in_symbol_dirs).chain(in_debug_dirs);
    places.filter(|path| *path != located.path).find_map(|path| LocatedFile::open(path, belongs).ok())
}

/// The file that `.gnu_debugaltlink` of a debug file names, with the right build-id.
pub fn supplementary_file(debug: &LocatedFile, elf: &Elf<'_>, options: &Options) -> Option<LocatedFile> {
    let (name, build_id) = elf.supplementary_link()?;
    let named = debug.path.parent()?.join(OsStr::from_bytes(name));
    let dirs = options.symbol_dirs.iter().chain(&options.debug_dirs);
    let by_build_id = dirs.filter_map(|dir| build_id_path(dir, build_id, ".debug"));
    std::iter::once(named)
        .chain(by_build_id)
        .find_map(|path| LocatedFile::open(path, |elf| elf.build_id() == Some(build_id)).ok())
}
