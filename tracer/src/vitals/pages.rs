//! Which pages are in RAM, by `/proc/self/pagemap`. The system call for that, `mincore`, is one that sandboxes end processes
//! for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of an entry, which each page has.
const ENTRY: u64 = 8;

/// An entry says that its page is in RAM.
const PRESENT: u64 = 1 << 63;

/// Pages asked for at once.
const PAGES: u64 = 256;

/// The map of this process's pages.
pub struct Pages {
    file: File,
    page: u64,
}

impl Pages {
    /// Opens it.
    pub fn open(proc: &Path) -> Option<Pages> {
        // SAFETY: asks for a number.
        let page =
            u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok().filter(|&page| page > 0)?;
        Some(Pages { file: File::open(proc.join("pagemap")).ok()?, page })
    }

    /// Bytes in RAM of the pages from `low` to `high`.
    pub fn resident(&self, low: u64, high: u64) -> u64 {
        self.chunks(low, high).sum()
    }

    /// As [`resident`](Self::resident), of a stack: it is in use from its high end down to where no page has been touched.
    pub fn resident_from_above(&self, low: u64, high: u64) -> u64 {
        self.chunks(low, high).take_while(|&bytes| bytes > 0).sum()
    }

    /// Bytes in RAM chunk by chunk, from above.
    fn chunks(&self, low: u64, high: u64) -> impl Iterator<Item = u64> {
        let (first, end) = (low / self.page, high.div_ceil(self.page));
        let starts = (first..end)
            .rev()
            .step_by(PAGES as usize)
            .map(move |last| (last + 1).saturating_sub(PAGES).max(first));
        let mut above = end;
        starts.map(move |start| {
            let count = std::mem::replace(&mut above, start) - start;
            let mut entries = [0; (PAGES * ENTRY) as usize];
            let wanted = entries.get_mut(..(count * ENTRY) as usize).unwrap_or_default();
            let known = self.file.read_exact_at(wanted, start * ENTRY).is_ok();
            let is_present = |entry: &[u8; ENTRY as usize]| u64::from_ne_bytes(*entry) & PRESENT != 0;
            let present = wanted.as_chunks().0.iter().filter(|entry| known && is_present(entry)).count();
            present as u64 * self.page
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap;

    #[test]
    fn pages_count_once_they_are_touched() {
        const LEN: u64 = 9 << 20;
        let at = heap::map(LEN as usize);
        assert!(!at.is_null());
        let (low, high) = (at as u64, at as u64 + LEN);
        assert!(heap::mapped().any(|range| range == (low, LEN)));
        let pages = Pages::open(Path::new("/proc/self")).unwrap();
        assert_eq!(pages.resident(low, high), 0);
        // SAFETY: inside the mapping.
        unsafe {
            at.add(5 << 20).write(1);
            at.add(LEN as usize - 1).write(1);
        }
        let touched = pages.resident(low, high);
        assert!((2 * pages.page..=4 << 20).contains(&touched), "{touched}");
        assert_eq!(pages.resident((low + (5 << 20)) & !(pages.page - 1), low + (5 << 20) + 1), pages.page);
        let stack = pages.resident_from_above(low, high);
        assert!(stack > 0 && stack <= touched);
        assert_eq!(pages.resident_from_above(low, low), 0);
    }
}
