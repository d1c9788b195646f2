//! The cache of rules by return address.

use super::{cfi, objects};
use crate::arch::step::{Rule, place};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

const BITS: u32 = 15;

/// Direct-mapped by the low bits of the return address; an entry is the rule above what tells the address from others of
/// that place, and zero where there is none. 256 KiB, resident as far as it is used.
static CACHE: [AtomicU64; 1 << BITS] = [const { AtomicU64::new(0) }; 1 << BITS];

/// How many `dlclose` calls are under way: while there is one, addresses may change their meaning.
static UNLOADING: AtomicU32 = AtomicU32::new(0);

/// The rule for the frame that `return_address` belongs to.
#[inline]
pub fn find(return_address: u64) -> Rule {
    let (index, tag) = place(return_address, BITS);
    if tag > u64::from(u32::MAX) {
        return Rule::UNKNOWN;
    }
    let Some(entry) = CACHE.get(index) else { return Rule::UNKNOWN };
    let cached = entry.load(Relaxed);
    if cached as u32 == tag as u32 && cached != 0 && !is_unloading() {
        return Rule::from_bits((cached >> 32) as u32);
    }
    miss(return_address, entry, tag)
}

#[cold]
fn miss(return_address: u64, entry: &AtomicU64, tag: u64) -> Rule {
    let Some(object) = objects::find(return_address) else { return Rule::UNKNOWN };
    crate::modules::sight(&object);
    let row = cfi::row(&object, return_address.wrapping_sub(1));
    let rule = row.map_or(Rule::UNKNOWN, |row| Rule::of(&row));
    entry.store(u64::from(rule.bits()) << 32 | tag, Relaxed);
    rule
}

/// Whether addresses may be changing their meaning.
#[inline]
pub fn is_unloading() -> bool {
    UNLOADING.load(Acquire) != 0
}

/// Forgets every rule: an object was unloaded.
pub fn clear() {
    CACHE.iter().for_each(|entry| entry.store(0, Relaxed));
}

/// Runs `unload` with the cache out of use; where it has unloaded something it is to clear it.
pub fn unloading<T>(unload: impl FnOnce() -> T) -> T {
    UNLOADING.fetch_add(1, SeqCst);
    let result = unload();
    // The call may have forked in between.
    let _ = UNLOADING.fetch_update(SeqCst, SeqCst, |calls| calls.checked_sub(1));
    result
}

/// In a forked child: calls of threads that are gone are not under way.
pub fn forked() {
    if UNLOADING.swap(0, SeqCst) > 0 {
        clear();
    }
}
