//! The first question of every `free`: can this block be a recorded one? One byte counts the recorded blocks of each
//! page; addresses 4 GiB apart share a byte. A zero byte means no, and that is nearly always the answer.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Miri, which looks at each byte whenever it sees them all, gets few.
const COUNT: usize = if cfg!(miri) { 1 << 4 } else { 1 << 20 };
/// A byte that has come this far stays: the page is always looked up.
const FULL: u8 = u8::MAX;

/// Indexed by bits 12 to 31 of the address; read by the hooks in assembly.
pub static PAGES: [AtomicU8; COUNT] = [const { AtomicU8::new(0) }; COUNT];

fn page(block: u64) -> &'static AtomicU8 {
    &PAGES[(block >> 12) as usize & (COUNT - 1)]
}

/// Counts a recorded block.
pub fn add(block: u64) {
    let _ = page(block).fetch_update(Relaxed, Relaxed, |n| (n != FULL).then(|| n + 1));
}

/// Takes a recorded block out again.
pub fn remove(block: u64) {
    let _ = page(block).fetch_update(Relaxed, Relaxed, |n| (n != FULL && n != 0).then(|| n - 1));
}

/// From now on every free on this page is looked at.
pub fn mark_for_ever(block: u64) {
    page(block).store(FULL, Relaxed);
}

/// From now on every free is looked at.
pub fn mark_all() {
    PAGES.iter().for_each(|page| page.store(FULL, Relaxed));
}

/// The question, as the hooks ask it in assembly.
#[cfg(test)]
pub fn may_hold(block: u64) -> bool {
    page(block).load(Relaxed) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_page_and_sticks_when_full() {
        let block = 0x7f12_3456_7890;
        add(block);
        add(block + 64);
        remove(block);
        assert_eq!(page(block).load(Relaxed), 1);
        remove(block);
        remove(block);
        assert_eq!(page(block).load(Relaxed), 0);
        (0..300).for_each(|_| add(block));
        remove(block);
        assert_eq!(page(block).load(Relaxed), FULL);
        assert_eq!(page(block + 4096).load(Relaxed), 0);
    }
}
