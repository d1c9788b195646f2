//! Libraries that call an allocator past the hooks: loaded with `RTLD_DEEPBIND`, or asking for the C library's functions by
//! their other names.
//!
//! The loader writes where a library's calls go into slots of the library. The watcher looks through the slots of what has been
//! loaded for the addresses of real functions, which nobody but this library should have. A slot that is filled in with its
//! first call only is looked at again after 1, 2, 4, 8, … further looks.

use crate::{lookup, own_thread};
use libc::{Elf64_Phdr, dl_phdr_info as Info};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Entries of a dynamic section.
const DT_NULL: u64 = 0;
const DT_PLTRELSZ: u64 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_JMPREL: u64 = 23;
const DT_RELACOUNT: u64 = 0x6fff_fff9;

/// Relocations that fill in where a call goes.
const CALLS: [u32; 2] = if cfg!(target_arch = "x86_64") { [6, 7] } else { [1025, 1026] };

/// A relocation with an addend.
#[repr(C)]
struct Rela {
    offset: u64,
    info: u64,
    addend: i64,
}

/// What is known of an image.
struct Known {
    /// Looks until its slots are read again, and from then until the next time; `None`: never again.
    again: Option<(u32, u32)>,
    /// It is there.
    seen: bool,
}

/// What the watcher remembers between its looks.
#[derive(Default)]
pub struct Coverage {
    /// The real functions' addresses, once they have been asked for; none where another malloc comes before ours, which is known.
    real: Option<Vec<u64>>,
    /// By the address of their program headers.
    images: BTreeMap<u64, Known>,
    found: Vec<String>,
}

/// Found and not in the stream yet; held for moments, and by the writer only where it is free.
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One line is enough, also for forked children.
static IS_SAID: AtomicBool = AtomicBool::new(false);

/// For the writer: the paths of libraries that call past the hooks, each once.
pub fn take() -> Vec<String> {
    FOUND.try_lock().map(|mut found| std::mem::take(&mut *found)).unwrap_or_default()
}

impl Coverage {
    /// Looks at what is loaded now, and says so where a library calls past the hooks. Takes the loader's lock.
    pub fn look(&mut self) {
        let real = self.real.get_or_insert_with(|| match lookup::preempted_by() {
            Some(_) => Vec::new(),
            None => lookup::real_addresses(),
        });
        if real.is_empty() {
            return;
        }
        self.images.values_mut().for_each(|known| known.seen = false);
        // SAFETY: the function is called with the place it expects, before this call returns.
        unsafe { libc::dl_iterate_phdr(Some(each), std::ptr::from_mut(self).cast()) };
        self.images.retain(|_, known| known.seen);
        if let Some(path) = self.found.first().filter(|_| !IS_SAID.swap(true, Relaxed)) {
            own_thread::say(&format!(
                "{path} calls malloc past libtrace.so: what it allocates is not recorded"
            ));
        }
        if let Ok(mut all) = FOUND.lock() {
            all.append(&mut self.found);
        }
    }

    /// # Safety
    /// `info` describes an image that stays loaded meanwhile.
    unsafe fn image(&mut self, info: &Info) {
        let known = self.images.entry(info.dlpi_phdr as u64);
        let known = known.or_insert(Known { again: Some((0, 1)), seen: true });
        known.seen = true;
        match &mut known.again {
            None => return,
            Some((0, _)) => {}
            Some((looks, _)) => return *looks -= 1,
        }
        let real = self.real.as_deref().unwrap_or_default();
        // SAFETY: by contract.
        let Some(slots) = (unsafe { Slots::of(info) }) else { return known.again = None };
        let (mut past, mut is_waiting) = (false, false);
        slots.each(|value| {
            past |= real.contains(&value);
            is_waiting |= slots.image.contains(&value);
        });
        known.again =
            known.again.filter(|_| is_waiting && !past).map(|(_, pause)| (pause, pause.saturating_mul(2)));
        // The allocator's own library and the loader may know the real functions by other names.
        let provides = real.iter().any(|function| slots.image.contains(function));
        // SAFETY: asks for a number.
        let loader = unsafe { libc::getauxval(libc::AT_BASE) };
        let is_loader = loader != 0 && slots.image.contains(&loader);
        if past && !provides && !is_loader && !info.dlpi_name.is_null() {
            // SAFETY: a C string of the loader's, which lives as long as the image.
            let name = unsafe { CStr::from_ptr(info.dlpi_name) };
            let name = if name.is_empty() { "the program".into() } else { name.to_string_lossy() };
            self.found.push(name.into_owned());
        }
    }
}

/// Called with each image, with the loader's lock held.
///
/// # Safety
/// `place` is a [`Coverage`]; `info` is the loader's.
unsafe extern "C" fn each(info: *mut Info, _size: usize, place: *mut c_void) -> c_int {
    // SAFETY: by contract; nobody else uses the place while the loader calls this.
    unsafe { (*place.cast::<Coverage>()).image(&*info) };
    0
}

/// Where an image's calls go.
struct Slots {
    image: Range<u64>,
    bias: u64,
    tables: [Range<u64>; 2],
}

impl Slots {
    /// # Safety
    /// `info` describes an image that stays loaded as long as the result is used.
    unsafe fn of(info: &Info) -> Option<Slots> {
        if info.dlpi_phdr.is_null() {
            return None;
        }
        // SAFETY: by contract.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let bias = info.dlpi_addr;
        let loads = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let end = |header: &Elf64_Phdr| bias.wrapping_add(header.p_vaddr).wrapping_add(header.p_memsz);
        let image = loads().map(|header| bias.wrapping_add(header.p_vaddr)).min()?..loads().map(end).max()?;
        let dynamic = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
        let begin = bias.wrapping_add(dynamic.p_vaddr) as *const [u64; 2];
        // SAFETY: the image's dynamic section, which is loaded with it.
        let section =
            unsafe { std::slice::from_raw_parts(begin, dynamic.p_memsz as usize / size_of::<[u64; 2]>()) };
        let value = |wanted| {
            let entries = section.iter().take_while(|[tag, _]| *tag != DT_NULL);
            entries.filter(|[tag, _]| *tag == wanted).map(|[_, value]| *value).next()
        };
        let table = |at, size, skipped: u64| {
            let at = value(at).unwrap_or(0);
            // glibc has added the bias where it could write.
            let at = if at < bias { at.wrapping_add(bias) } else { at };
            let end = at.wrapping_add(value(size).unwrap_or(0));
            let from = at.wrapping_add(skipped.wrapping_mul(size_of::<Rela>() as u64));
            if image.contains(&from) && from < end && end <= image.end { from..end } else { 0..0 }
        };
        let relative = value(DT_RELACOUNT).unwrap_or(0);
        let tables = [table(DT_JMPREL, DT_PLTRELSZ, 0), table(DT_RELA, DT_RELASZ, relative)];
        Some(Slots { image, bias, tables })
    }

    /// What each slot holds.
    fn each(&self, mut visit: impl FnMut(u64)) {
        for table in &self.tables {
            let count = (table.end - table.start) as usize / size_of::<Rela>();
            let relocations = match table.start {
                0 => &[],
                // SAFETY: the table lies in the loaded image, and the linker has aligned it.
                start => unsafe { std::slice::from_raw_parts(start as *const Rela, count) },
            };
            for relocation in
                relocations.iter().filter(|relocation| CALLS.contains(&(relocation.info as u32)))
            {
                let slot = self.bias.wrapping_add(relocation.offset);
                if self.image.contains(&slot) && slot.is_multiple_of(align_of::<u64>() as u64) {
                    // SAFETY: the slot lies in the loaded image; the loader may be writing it, as one word.
                    visit(unsafe { std::ptr::read_volatile(slot as *const u64) });
                }
            }
        }
    }
}
