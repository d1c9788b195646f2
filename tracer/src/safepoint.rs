//! Where a fork may copy the writer: between two pieces of its work, when what it keeps in memory is whole.
//!
//! ```text
//! writer   ── enter ══ work ══ leave ── sleep, or a write ── enter ══ …
//! forking  hold ─ waits while there is work ─ fork ─ release
//! ```
//! The writer is at a safepoint nearly always. A fork waits for it no longer than [`PATIENCE`], and never for a disk; it then
//! goes on all the same, and its child is not traced.

use crate::{clock, futex};
use prof::Nanos;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// 1: the writer is at work.
static WORKING: AtomicU32 = AtomicU32::new(0);

/// Threads of the process that are forking.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// In nanoseconds.
const PATIENCE: u64 = 1_000_000_000;

/// The writer begins to work, once nobody forks.
pub fn enter() {
    loop {
        WORKING.store(1, SeqCst);
        let forking = FORKING.load(SeqCst);
        if forking == 0 {
            return;
        }
        leave();
        futex::sleep(&FORKING, forking, Nanos(PATIENCE / 10));
    }
}

/// The writer's state is whole.
pub fn leave() {
    WORKING.store(0, SeqCst);
    if FORKING.load(SeqCst) > 0 {
        futex::wake(&WORKING);
    }
}

/// Runs what may take long and touches no state of the writer, on the writer's thread.
pub fn outside<T>(work: impl FnOnce() -> T) -> T {
    leave();
    let result = work();
    enter();
    result
}

/// Between two steps of the writer's work: lets those go first who wait to fork.
pub fn pass() {
    if FORKING.load(SeqCst) > 0 {
        outside(|| {});
    }
}

/// Before a fork: the writer comes to a safepoint and stays there.
pub fn hold() {
    FORKING.fetch_add(1, SeqCst);
    let deadline = clock::now().0 + PATIENCE;
    while WORKING.load(SeqCst) == 1 {
        let left = deadline.saturating_sub(clock::now().0);
        if left == 0 {
            return;
        }
        futex::sleep(&WORKING, 1, Nanos(left));
    }
}

/// In the parent, after a fork.
pub fn release() {
    if FORKING.fetch_sub(1, SeqCst) == 1 {
        futex::wake(&FORKING);
    }
}

/// In the child: nobody else forks here, and there is no writer. Whether that of the parent was at a safepoint.
pub fn reset() -> bool {
    FORKING.store(0, SeqCst);
    WORKING.swap(0, SeqCst) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// The only test of this module: its words are the process's.
    #[test]
    fn a_fork_and_the_writers_work_exclude_each_other() {
        clock::begin();
        static VALUES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    enter();
                    VALUES[0].fetch_add(1, SeqCst);
                    outside(|| std::hint::black_box(()));
                    VALUES[0].fetch_add(1, SeqCst);
                    VALUES[1].fetch_add(2, SeqCst);
                    leave();
                }
            });
            let forking = || {
                for _ in 0..2_000 {
                    hold();
                    let seen = VALUES.each_ref().map(|value| value.load(SeqCst));
                    assert_eq!(VALUES.each_ref().map(|value| value.load(SeqCst)), seen);
                    assert!(seen[0] - seen[1] <= 1, "work was seen half done: {seen:?}");
                    release();
                }
            };
            let both = [scope.spawn(forking), scope.spawn(forking)];
            let done = both.map(|thread| thread.join().is_ok());
            over.store(true, SeqCst);
            assert_eq!(done, [true; 2]);
        });
        assert!(reset());
    }
}
