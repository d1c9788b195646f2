//! Where the stacks of the program's threads are, so that the thread of vitals can look how much of them is in RAM. A stack
//! is known by its high end, which no two threads share. The table has a fixed size; what finds no place is not looked at.

use std::sync::atomic::{AtomicU64, Ordering::*};

/// Places of the table, a power of two. Miri gets few.
const PLACES: usize = if cfg!(miri) { 1 << 4 } else { 1 << 12 };

/// Places looked at for one stack.
const PROBES: usize = 16;

/// High and low end; 0: free, or not filled in yet.
static STACKS: [(AtomicU64, AtomicU64); PLACES] = [const { (AtomicU64::new(0), AtomicU64::new(0)) }; PLACES];

fn places(high: u64) -> impl Iterator<Item = &'static (AtomicU64, AtomicU64)> {
    let first = ((high >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
    (0..PROBES).filter_map(move |probe| STACKS.get((first + probe) & (PLACES - 1)))
}

/// In a new thread.
pub fn enter(low: u64, high: u64) {
    if let Some(place) = places(high).find(|place| place.0.compare_exchange(0, high, AcqRel, Relaxed).is_ok())
    {
        place.1.store(low, Release);
    }
}

/// In a thread that ends.
pub fn leave(high: u64) {
    if let Some(place) = places(high).find(|place| place.0.load(Relaxed) == high) {
        place.1.store(0, Relaxed);
        place.0.store(0, Release);
    }
}

/// In a forked child: they are the parent's.
pub fn forked() {
    for (high, low) in &STACKS {
        low.store(0, Relaxed);
        high.store(0, Relaxed);
    }
}

/// Low and high end of each. Meanwhile threads come and go: the memory may be gone.
pub fn all() -> impl Iterator<Item = (u64, u64)> {
    STACKS.iter().filter_map(|(high, low)| {
        let (end, start) = (high.load(Acquire), low.load(Acquire));
        (start != 0 && start < end && high.load(Relaxed) == end).then_some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_that_are_entered_are_there_until_they_leave() {
        let stack = |n: u64| (n << 20 | 4096, (n + 1) << 20);
        let is_there = |stack| all().filter(|&other| other == stack).count() == 1;
        (1..=8).for_each(|n| enter(stack(n).0, stack(n).1));
        assert!((1..=8).all(|n| is_there(stack(n))));
        leave(stack(3).1);
        leave(stack(99).1);
        assert!((1..=8).all(|n| is_there(stack(n)) == (n != 3)));
        for n in 100..100 + 2 * PLACES as u64 {
            enter(stack(n).0, stack(n).1);
        }
        assert!(all().count() <= PLACES && is_there(stack(4)));
    }
}
