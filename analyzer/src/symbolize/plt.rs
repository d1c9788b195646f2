//! Names of x86-64 PLT entries: the jump's GOT slot, and the symbol that its relocation names.

use std::collections::HashMap;

use object::elf;
use object::read::elf::{Rela, SectionHeader};

use super::elf::Elf;

/// Bytes of one PLT entry.
const ENTRY_SIZE: u64 = 16;
/// `jmp *disp32(%rip)`.
const JUMP: [u8; 2] = [0xff, 0x25];

/// The PLT sections and what each GOT slot is bound to.
pub struct Plt<'data> {
    /// svma of the first byte, contents.
    sections: Vec<(u64, &'data [u8])>,
    slots: HashMap<u64, &'data [u8]>,
}

impl<'data> Plt<'data> {
    /// `None` on other machines and where there is no PLT.
    pub fn parse(elf: &Elf<'data>) -> Option<Self> {
        if elf.machine != elf::EM_X86_64 {
            return None;
        }
        let endian = elf.endian;
        let sections: Vec<_> = [".plt", ".plt.sec", ".plt.got"]
            .into_iter()
            .filter_map(|name| Some((elf.section(name)?.sh_addr(endian), elf.section_data(name)?)))
            .collect();
        if sections.is_empty() {
            return None;
        }
        let symbols = elf.symbol_table(elf::SHT_DYNSYM)?;
        let mut slots = HashMap::new();
        for section in [".rela.plt", ".rela.dyn"] {
            let section = elf.section(section);
            let relocations = section.and_then(|section| section.rela(endian, elf.data).ok()?);
            for relocation in relocations.map(|(entries, _)| entries).unwrap_or_default() {
                let Some(index) = relocation.symbol(endian, false) else {
                    continue;
                };
                let symbol = symbols.symbol(index);
                let name = symbol.and_then(|symbol| symbols.symbol_name(endian, symbol));
                if let Some(name) = name.ok().filter(|name| !name.is_empty()) {
                    slots.insert(relocation.r_offset(endian), name);
                }
            }
        }
        Some(Self { sections, slots })
    }

    /// The function that the PLT entry around this address jumps to.
    pub fn target(&self, svma: u64) -> Option<&'data [u8]> {
        self.sections.iter().find_map(|&(start, data)| {
            let entry = svma.checked_sub(start)? / ENTRY_SIZE * ENTRY_SIZE;
            let from = usize::try_from(entry).ok()?;
            let code = data.get(from..)?;
            let code = &code[..code.len().min(usize::try_from(ENTRY_SIZE).ok()?)];
            let jump = code.windows(2).position(|bytes| bytes == JUMP)? + JUMP.len();
            let displacement = i32::from_le_bytes(*code.get(jump..)?.first_chunk()?);
            let next = start.checked_add(entry)?.checked_add(jump as u64 + 4)?;
            let slot = next.checked_add_signed(displacement.into())?;
            self.slots.get(&slot).copied()
        })
    }
}
