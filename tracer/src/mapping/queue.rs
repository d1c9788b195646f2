//! A queue of fixed size and without locks, that many threads write to and one reads.

use std::sync::atomic::{AtomicU64, Ordering::*};

/// What an entry is.
pub type Words = [u64; 4];

/// Entries that may be on their way. Miri gets few.
const PLACES: u64 = if cfg!(miri) { 1 << 3 } else { 1 << 12 };

/// A place of the queue, which goes round.
struct Place {
    /// Twice the round in which it is to be filled, or, filled, one more.
    turn: AtomicU64,
    words: [AtomicU64; 4],
}

/// See above.
pub struct Queue {
    places: [Place; PLACES as usize],
    head: AtomicU64,
    tail: AtomicU64,
    /// In a forked child: what stands before is of the time before its first event.
    inherited: AtomicU64,
}

impl Queue {
    /// An empty one.
    pub const fn new() -> Queue {
        Queue {
            places: [const { Place { turn: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 4] } };
                PLACES as usize],
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            inherited: AtomicU64::new(0),
        }
    }

    /// The place at a position, and the value of its turn while it is empty.
    fn place(&self, position: u64) -> (&Place, u64) {
        (&self.places[(position % PLACES) as usize], position / PLACES * 2)
    }

    /// False where it is full.
    pub fn push(&self, words: Words) -> bool {
        loop {
            let position = self.tail.load(Relaxed);
            let (place, empty) = self.place(position);
            let turn = place.turn.load(Acquire);
            if turn < empty {
                return false;
            }
            let claimed = turn == empty
                && self.tail.compare_exchange_weak(position, position + 1, AcqRel, Relaxed).is_ok();
            if claimed {
                place.words.iter().zip(words).for_each(|(place, word)| place.store(word, Relaxed));
                place.turn.store(empty + 1, Release);
                return true;
            }
        }
    }

    /// For the one reader: the next entry that has been filled.
    pub fn pop(&self) -> Option<Words> {
        let position = self.head.load(Relaxed);
        let (place, empty) = self.place(position);
        if place.turn.load(Acquire) != empty + 1 {
            return None;
        }
        let words = place.words.each_ref().map(|word| word.load(Relaxed));
        place.turn.store(empty + 2, Release);
        self.head.store(position + 1, Relaxed);
        Some(words)
    }

    /// Whether it is time to read.
    pub fn is_half_full(&self) -> bool {
        self.tail.load(Relaxed).wrapping_sub(self.head.load(Relaxed)) > PLACES / 2
    }

    /// In a forked child: fills the places that threads of the parent had claimed, with zeros.
    pub fn forked(&self) {
        let end = self.tail.load(Relaxed);
        self.inherited.store(end, Relaxed);
        for position in self.head.load(Relaxed)..end {
            let (place, empty) = self.place(position);
            if place.turn.load(Relaxed) == empty {
                place.words.iter().for_each(|word| word.store(0, Relaxed));
                place.turn.store(empty + 1, Release);
            }
        }
    }

    /// In a forked child: as [`pop`](Self::pop), of what was entered before [`forked`](Self::forked).
    pub fn pop_inherited(&self) -> Option<Words> {
        if self.head.load(Relaxed) < self.inherited.load(Relaxed) { self.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn the_queue_keeps_each_threads_order_and_says_when_it_is_full() {
        const EACH: u64 = 4 * PLACES;
        let queue = Queue::new();
        let mut last = [0; 2];
        thread::scope(|scope| {
            for thread in 0..2 {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 1..=EACH {
                        while !queue.push([thread, n, n, n]) {
                            thread::yield_now();
                        }
                    }
                });
            }
            while last != [EACH; 2] {
                match queue.pop() {
                    Some([thread, n, same, too]) => {
                        let last = &mut last[thread as usize];
                        *last += 1;
                        assert_eq!([n, same, too], [*last; 3]);
                    }
                    None => thread::yield_now(),
                }
            }
        });
        assert_eq!(queue.pop(), None);
        assert_eq!((0..=PLACES).take_while(|&n| queue.push([n; 4])).count() as u64, PLACES);
        assert!(queue.is_half_full());
    }

    #[test]
    fn a_place_that_a_gone_thread_had_claimed_is_passed_over() {
        let queue = Queue::new();
        assert!(queue.push([1; 4]));
        queue.tail.fetch_add(1, Relaxed);
        assert!(queue.push([2; 4]));
        assert_eq!((queue.pop(), queue.pop()), (Some([1; 4]), None));
        queue.forked();
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some([0; 4]), Some([2; 4]), None]);
    }
}
