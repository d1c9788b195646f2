//! The cache of rules by return address.

use super::objects;
use crate::arch::step::{Rule, place};
use crate::errno::Errno;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Miri, which takes its time to clear the table, gets a small one.
const BITS: u32 = if cfg!(miri) { 5 } else { 15 };

/// Direct-mapped by the low bits of the return address; an entry is the rule above what tells the address from others of
/// that place, and zero where there is none. 256 KiB, resident as far as it is used.
static CACHE: [AtomicU64; 1 << BITS] = [const { AtomicU64::new(0) }; 1 << BITS];

/// How many `dlclose` calls are under way: while there is one, addresses may change their meaning.
static UNLOADING: AtomicU32 = AtomicU32::new(0);

/// The rule for the frame that `return_address` belongs to.
#[inline]
pub fn find(return_address: u64) -> Rule {
    find_or(return_address, read)
}

/// As [`find`], for a frame of the calling thread's stack, where nothing was being unloaded when that was last looked at:
/// the stack has not changed since, and code on it is not unloaded.
#[inline(always)]
pub fn find_settled(return_address: u64) -> Rule {
    let (index, tag) = place(return_address, BITS);
    match CACHE.get(index).map(|entry| entry.load(Relaxed)) {
        // An empty entry has the tag of the lowest addresses, where there is no code, and a rule that leads nowhere.
        Some(entry) if entry & u64::from(u32::MAX) == tag => Rule::from_bits((entry >> 32) as u32),
        _ => find(return_address),
    }
}

/// Asks the table.
#[inline(always)]
fn cached(return_address: u64) -> Option<Rule> {
    let (index, tag) = place(return_address, BITS);
    let entry = CACHE.get(index)?.load(Relaxed);
    (entry & u64::from(u32::MAX) == tag && entry != 0).then(|| Rule::from_bits((entry >> 32) as u32))
}

/// As [`find`]; what is not cached is asked of `read`, which says `None` outside all images.
#[inline(always)]
fn find_or(return_address: u64, read: impl FnOnce(u64) -> Option<Rule>) -> Rule {
    // In this order: whoever sees that nothing is being unloaded any more sees the table cleared.
    if !is_unloading()
        && let Some(rule) = cached(return_address)
    {
        return rule;
    }
    let (index, tag) = place(return_address, BITS);
    let Some(entry) = CACHE.get(index).filter(|_| tag <= u64::from(u32::MAX)) else { return Rule::UNKNOWN };
    let Some(rule) = read(return_address) else { return Rule::UNKNOWN };
    entry.store(u64::from(rule.bits()) << 32 | tag, Relaxed);
    rule
}

/// Where the cache is, and how many bytes it has.
pub fn cache() -> (u64, u64) {
    (&raw const CACHE as u64, size_of_val(&CACHE) as u64)
}

/// Whether addresses may be changing their meaning.
#[inline]
pub fn is_unloading() -> bool {
    UNLOADING.load(Acquire) != 0
}

/// The rule as the image says it.
#[cold]
fn read(return_address: u64) -> Option<Rule> {
    let _errno = Errno::save();
    let object = objects::find(return_address)?;
    crate::modules::sight(&object);
    Some(Rule::read(&object, return_address))
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

#[cfg(test)]
mod concurrent {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const ADDRESS: u64 = 0x40_1234;

    /// One thread unloads an image while another runs code that has taken its place.
    fn replaced(ask: impl FnOnce(&AtomicU32, &AtomicBool) + Send) {
        let first = Rule::from_bits(8);
        assert_eq!(find_or(ADDRESS, |_| Some(first)), first);
        assert_eq!(find_or(ADDRESS, |_| panic!("it is cached")), first);
        let (loaded, unloaded) = (AtomicU32::new(1), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| ask(&loaded, &unloaded));
            unloading(|| {
                // The image's destructors allocate.
                assert_eq!(find_or(ADDRESS, |_| Some(first)), first);
                loaded.store(2, Release);
                clear();
            });
            unloaded.store(true, Relaxed);
        });
        clear();
    }

    #[test]
    fn the_rule_of_an_unloaded_image_is_not_found_for_the_next() {
        let second = Rule::from_bits(16);
        let ask = |loaded: &AtomicU32| {
            while loaded.load(Acquire) == 1 {
                thread::yield_now();
            }
            for _ in 0..4 {
                assert_eq!(find_or(ADDRESS, |_| Some(second)), second);
            }
        };
        replaced(|loaded, _| ask(loaded));
        // Later, but not because of any order that the two agree on.
        replaced(|loaded, unloaded| {
            while !unloaded.load(Relaxed) {
                thread::yield_now();
            }
            ask(loaded);
        });
    }
}
