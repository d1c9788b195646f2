//! Read-only memory mappings of files: the one module of this crate with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// The contents of a regular file, paged in as they are read.
pub struct MappedFile {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a regular file; pipes and devices are refused, so that opening never blocks.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the mapping is private and read-only, and every reader treats its bytes as
        // untrusted plain data. The remaining risk is that of every symbolizer: a file that
        // somebody cuts short while it is mapped ends the program with SIGBUS. Linkers and
        // package managers replace files rather than rewrite them, which leaves ours intact.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }

    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
