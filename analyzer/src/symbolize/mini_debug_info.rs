//! `.gnu_debugdata`: an xz-compressed ELF file with the symbols that stripping removed.

use std::io::Read;

use lzma_rust2::XzReader;

use super::elf::Elf;

/// Largest decompressed file, in bytes.
const LARGEST: u64 = 1 << 30;
/// Most memory for the decoder's dictionary, in KiB.
const DICTIONARY_LIMIT_KIB: u32 = 256 << 10;

/// The decompressed ELF file, if there is one.
pub fn decompress(elf: &Elf<'_>) -> Option<Vec<u8>> {
    let compressed = elf.section_data(".gnu_debugdata")?;
    let reader = XzReader::new_mem_limit(compressed, true, DICTIONARY_LIMIT_KIB);
    let mut file = Vec::new();
    reader.take(LARGEST).read_to_end(&mut file).ok()?;
    Some(file)
}
