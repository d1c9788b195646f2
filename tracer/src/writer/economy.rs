//! Gives the budget's controller what it wants to know.

use crate::budget::{Budget, Observation};
use crate::{clock, record, stream};
use prof::Nanos;

/// The controller, and the readings of its last look.
pub struct Economy {
    budget: Budget,
    last: Readings,
}

#[derive(Clone, Copy)]
struct Readings {
    time: Nanos,
    process: Nanos,
    spent: Nanos,
    samples: u64,
}

impl Readings {
    fn take() -> Readings {
        let hooks: u64 = stream::all().map(|stream| stream.spent().0).sum();
        Readings {
            time: clock::now(),
            process: clock::cpu(libc::CLOCK_PROCESS_CPUTIME_ID),
            spent: Nanos(hooks + clock::cpu(libc::CLOCK_THREAD_CPUTIME_ID).0),
            samples: record::samples(),
        }
    }
}

impl Economy {
    /// A controller that knows nothing; to be called by the thread that writes.
    pub fn new() -> Economy {
        Economy { budget: Budget::new(), last: Readings::take() }
    }

    /// Begins the next stretch here; of a forked child the clocks begin anew.
    pub fn look(&mut self) {
        self.last = Readings::take();
    }

    /// Looks again. The next interval in bytes, where it is to change.
    pub fn next(&mut self) -> Option<u64> {
        let now = Readings::take();
        let last = std::mem::replace(&mut self.last, now);
        let since = |now: Nanos, then: Nanos| Nanos(now.0.saturating_sub(then.0));
        self.budget.next(Observation {
            elapsed: since(now.time, last.time),
            process: since(now.process, last.process),
            spent: since(now.spent, last.spent),
            samples: now.samples - last.samples,
            live: record::live_samples(),
        })
    }
}
