//! One 64-bit ELF file. Every part that cannot be read is absent; nothing else fails for it.

use std::borrow::Cow;

use object::Endianness;
use object::elf;
use object::read::elf::{
    CompressionHeader, FileHeader, NoteIterator, ProgramHeader, SectionHeader, SectionTable, SymbolTable,
};
use object::read::{CompressedData, CompressionFormat};

pub type Header = elf::FileHeader64<Endianness>;
pub type Section = elf::SectionHeader64<Endianness>;
type Segment = elf::ProgramHeader64<Endianness>;

/// Size of an ELF file header, in bytes.
const HEADER_SIZE: usize = size_of::<Header>();
/// Code bytes that take part in the content hash.
const HASHED_CODE: usize = 4096;
/// Largest debug section after decompression, in bytes.
const LARGEST_SECTION: u64 = 16 << 30;

/// The parts of an ELF file that symbolizing needs.
pub struct Elf<'data> {
    pub data: &'data [u8],
    pub endian: Endianness,
    pub machine: elf::Machine,
    segments: &'data [Segment],
    sections: SectionTable<'data, Header>,
}

impl<'data> Elf<'data> {
    /// `None` if these bytes are not the beginning of a 64-bit ELF file.
    pub fn parse(data: &'data [u8]) -> Option<Self> {
        let header = Header::parse(data).ok()?;
        let endian = header.endian().ok()?;
        Some(Self {
            data,
            endian,
            machine: header.e_machine(endian),
            segments: header.program_headers(endian, data).unwrap_or_default(),
            sections: header.sections(endian, data).unwrap_or_default(),
        })
    }

    /// The GNU build-id note, from the program headers or else from the sections: `patchelf` may
    /// leave either of the two without it.
    pub fn build_id(&self) -> Option<&'data [u8]> {
        let in_segments = self.segments.iter().filter_map(|segment| {
            let notes = segment.notes(self.endian, self.data).ok()??;
            self.build_id_among(notes)
        });
        let in_sections = self.sections.iter().filter_map(|section| {
            let notes = section.notes(self.endian, self.data).ok()??;
            self.build_id_among(notes)
        });
        in_segments.chain(in_sections).next()
    }

    fn build_id_among(&self, mut notes: NoteIterator<'data, Header>) -> Option<&'data [u8]> {
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU
                && note.n_type(self.endian) == elf::NT_GNU_BUILD_ID
                && !note.desc().is_empty()
            {
                return Some(note.desc());
            }
        }
        None
    }

    /// Identifies a file that has no build-id: see [`super::content_hash`].
    pub fn content_hash(&self) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            segment.p_type(self.endian) == elf::PT_LOAD && segment.p_flags(self.endian).contains(elf::PF_X)
        })?;
        let code = segment.data(self.endian, self.data).ok()?;
        let hash = fnv_1a(FNV_BASIS, self.data.get(..HEADER_SIZE)?);
        let hash = fnv_1a(hash, object::pod::bytes_of_slice(self.segments));
        Some(fnv_1a(hash, &code[..code.len().min(HASHED_CODE)]))
    }

    pub fn section(&self, name: &str) -> Option<&'data Section> {
        let (_, section) = self.sections.section_by_name(self.endian, name.as_bytes())?;
        Some(section)
    }

    /// The section with this index in the section table.
    pub fn section_at(&self, index: usize) -> Option<&'data Section> {
        self.sections.section(object::SectionIndex(index)).ok()
    }

    /// A section's bytes as they are in the file.
    pub fn section_data(&self, name: &str) -> Option<&'data [u8]> {
        let section = self.section(name)?;
        let data = section.data(self.endian, self.data).ok()?;
        (!data.is_empty()).then_some(data)
    }

    /// A section's bytes, decompressed (`SHF_COMPRESSED`, or the older `.zdebug_` form).
    pub fn debug_section(&self, name: &str) -> Option<Cow<'data, [u8]>> {
        let Some(section) = self.section(name) else {
            return self.gnu_compressed_section(name);
        };
        let Some((header, offset, size)) = section.compression(self.endian, self.data).ok()? else {
            return self.section_data(name).map(Cow::Borrowed);
        };
        let format = match header.ch_type(self.endian) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        decompress(format, self.data.get(start..end)?, header.ch_size(self.endian))
    }

    /// `.zdebug_info`: the text `ZLIB`, the size as eight big-endian bytes, the compressed bytes.
    fn gnu_compressed_section(&self, name: &str) -> Option<Cow<'data, [u8]>> {
        let name = name.strip_prefix(".debug_")?;
        let data = self.section_data(&format!(".zdebug_{name}"))?;
        let (size, compressed) = data.strip_prefix(b"ZLIB")?.split_first_chunk()?;
        decompress(CompressionFormat::Zlib, compressed, u64::from_be_bytes(*size))
    }

    pub fn has_debug_info(&self) -> bool {
        self.section_data(".debug_info").is_some() || self.section_data(".zdebug_info").is_some()
    }

    /// `.symtab` or `.dynsym`, if it is there and not empty.
    pub fn symbol_table(&self, kind: elf::SectionType) -> Option<SymbolTable<'data, Header>> {
        let table = self.sections.symbols(self.endian, self.data, kind).ok()?;
        (!table.is_empty()).then_some(table)
    }

    pub fn has_symbol_table(&self) -> bool {
        self.symbol_table(elf::SHT_SYMTAB).is_some()
    }

    /// `.gnu_debuglink`: the file name and the CRC-32 of the separate debug file.
    pub fn debug_link(&self) -> Option<(&'data [u8], u32)> {
        let data = self.section_data(".gnu_debuglink")?;
        let length = data.iter().position(|&byte| byte == 0)?;
        let crc_start = (length + 1).next_multiple_of(4);
        let crc = data.get(crc_start..)?.first_chunk()?;
        let crc = match self.endian {
            Endianness::Little => u32::from_le_bytes(*crc),
            Endianness::Big => u32::from_be_bytes(*crc),
        };
        Some((&data[..length], crc))
    }

    /// `.gnu_debugaltlink`: the path and the build-id of the shared supplementary file.
    pub fn supplementary_link(&self) -> Option<(&'data [u8], &'data [u8])> {
        let data = self.section_data(".gnu_debugaltlink")?;
        let length = data.iter().position(|&byte| byte == 0)?;
        Some((&data[..length], &data[length + 1..]))
    }

    /// File bytes from the segment of the given type to its end, with the svma of the first.
    pub fn segment(&self, kind: elf::ProgramType) -> Option<(u64, &'data [u8])> {
        let segment = self.segments.iter().find(|segment| segment.p_type(self.endian) == kind)?;
        let data = segment.data(self.endian, self.data).ok()?;
        Some((segment.p_vaddr(self.endian), data))
    }

    /// File bytes from an svma to the end of its loaded segment.
    pub fn loaded_from(&self, svma: u64) -> Option<&'data [u8]> {
        self.segments.iter().find_map(|segment| {
            if segment.p_type(self.endian) != elf::PT_LOAD {
                return None;
            }
            let offset = svma.checked_sub(segment.p_vaddr(self.endian))?;
            let data = segment.data(self.endian, self.data).ok()?;
            let rest = data.get(usize::try_from(offset).ok()?..)?;
            (!rest.is_empty()).then_some(rest)
        })
    }
}

fn decompress(format: CompressionFormat, data: &[u8], size: u64) -> Option<Cow<'_, [u8]>> {
    if size > LARGEST_SECTION {
        return None;
    }
    let compressed = CompressedData { format, data, uncompressed_size: size };
    compressed.decompress().ok()
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a, continued from an earlier hash.
fn fnv_1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}
