//! DWARF: inlined frames, files and lines. Units that no address falls into are not parsed.

use std::borrow::Cow;

use addr2line::Context;
use gimli::{DwarfSections, EndianSlice, RunTimeEndian, SectionId};

use super::elf::Elf;

/// The debug sections of a file, decompressed where they were compressed.
pub struct DebugSections<'data>(DwarfSections<Cow<'data, [u8]>>);

impl<'data> DebugSections<'data> {
    /// `None` if there is no debug information.
    pub fn load(elf: &Elf<'data>) -> Option<Self> {
        if !elf.has_debug_info() {
            return None;
        }
        let load = |section: SectionId| {
            let data = match section {
                // Never asked for a function, a file or a line.
                SectionId::DebugLoc
                | SectionId::DebugLocLists
                | SectionId::DebugMacinfo
                | SectionId::DebugMacro
                | SectionId::DebugNames
                | SectionId::DebugTypes => None,
                section => elf.debug_section(section.name()),
            };
            Ok::<_, std::convert::Infallible>(data.unwrap_or_default())
        };
        let Ok(sections) = DwarfSections::load(load);
        Some(Self(sections))
    }
}

/// One activation as DWARF tells it.
pub struct DebugFrame {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// Looks up addresses in debug sections.
pub struct DebugInfo<'sections> {
    context: Context<EndianSlice<'sections, RunTimeEndian>>,
}

impl<'sections> DebugInfo<'sections> {
    /// `None` if the sections are corrupt.
    pub fn new(
        sections: &'sections DebugSections<'_>,
        supplementary: Option<&'sections DebugSections<'_>>,
        endian: RunTimeEndian,
    ) -> Option<Self> {
        let slice = |data: &'sections Cow<'_, [u8]>| EndianSlice::new(data.as_ref(), endian);
        let mut dwarf = sections.0.borrow(slice);
        if let Some(supplementary) = supplementary {
            dwarf.set_sup(supplementary.0.borrow(slice));
        }
        let context = Context::from_dwarf(dwarf).ok()?;
        Some(Self { context })
    }

    /// Frames at an svma, innermost inlined one first; the last one is the function itself.
    pub fn frames(&self, svma: u64) -> Vec<DebugFrame> {
        let mut frames = Vec::new();
        if svma == u64::MAX {
            // addr2line computes the address after this one.
            return frames;
        }
        let Ok(mut activations) = self.context.find_frames(svma).skip_all_loads() else {
            return frames;
        };
        while let Ok(Some(frame)) = activations.next() {
            let function = frame.function.as_ref();
            let name = function.and_then(|function| function.raw_name().ok());
            let location = frame.location.as_ref();
            frames.push(DebugFrame {
                function: name.map(Cow::into_owned).filter(|name| !name.is_empty()),
                file: location.and_then(|location| location.file.map(str::to_owned)),
                line: location.and_then(|location| location.line),
            });
        }
        frames
    }
}
