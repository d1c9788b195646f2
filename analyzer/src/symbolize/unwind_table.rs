//! Function starts from the unwind table, which stripping leaves in place.

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, RunTimeEndian, UnwindSection};
use object::elf;

use super::elf::Elf;

type Slice<'data> = EndianSlice<'data, RunTimeEndian>;

/// `.eh_frame_hdr` and `.eh_frame`, found through the program headers.
pub struct UnwindTable<'data> {
    header: gimli::ParsedEhFrameHdr<Slice<'data>>,
    frames: EhFrame<Slice<'data>>,
    frames_svma: u64,
    bases: BaseAddresses,
}

impl<'data> UnwindTable<'data> {
    pub fn parse(elf: &Elf<'data>, endian: RunTimeEndian) -> Option<Self> {
        let (header_svma, header) = elf.segment(elf::PT_GNU_EH_FRAME)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_svma);
        let header = EhFrameHdr::new(header, endian).parse(&bases, 8).ok()?;
        let gimli::Pointer::Direct(frames_svma) = header.eh_frame_ptr() else {
            return None;
        };
        let mut frames = EhFrame::new(elf.loaded_from(frames_svma)?, endian);
        frames.set_address_size(8);
        Some(Self { header, frames, frames_svma, bases: bases.set_eh_frame(frames_svma) })
    }

    /// svma of the first byte of the function that contains this one.
    pub fn function_start(&self, svma: u64) -> Option<u64> {
        let table = self.header.table()?;
        let gimli::Pointer::Direct(entry) = table.lookup(svma, &self.bases).ok()? else {
            return None;
        };
        let offset = usize::try_from(entry.checked_sub(self.frames_svma)?).ok()?;
        let entry = self.frames.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        entry.contains(svma).then(|| entry.initial_address())
    }
}
