//! What the control thread asks of the writer.

use super::is_ending;
use crate::settings::Interval;
use crate::{buffer, clock, futex};
use prof::Nanos;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use std::sync::{Arc, OnceLock};

/// What the writer can be asked to do. After each the file is complete up to then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Names the instant.
    Mark(String),
    /// Nothing more.
    Flush,
    /// Records no allocations from now on.
    Pause,
    /// Records them again.
    Resume,
    /// Samples are taken at another interval.
    Interval(Interval),
    /// Ends the stream, and tracing.
    Stop,
}

/// Keys and values of an answer.
pub type Values = Vec<(&'static str, String)>;

/// An order on its way to the writer, and the answer on its way back.
pub struct Request {
    order: Order,
    answer: OnceLock<Result<Values, String>>,
    is_answered: AtomicU32,
}

/// The order that the writer has not taken yet, from an `Arc`.
static POSTED: AtomicPtr<Request> = AtomicPtr::new(std::ptr::null_mut());

/// How long the writer may take; it may be at writing to a slow disk.
const PATIENCE: Nanos = Nanos(5_000_000_000);

impl Request {
    /// What is asked for.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// For the writer: it is done, or why it is not.
    pub fn answer(&self, answer: Result<Values, String>) {
        let _ = self.answer.set(answer);
        self.is_answered.store(1, Release);
        futex::wake(&self.is_answered);
    }
}

/// Asks the writer, and waits for its answer.
///
/// # Errors
/// What to tell the client.
pub fn ask(order: Order) -> Result<Values, String> {
    let request = Arc::new(Request { order, answer: OnceLock::new(), is_answered: AtomicU32::new(0) });
    let posted = Arc::into_raw(request.clone()).cast_mut();
    take_back(POSTED.swap(posted, AcqRel));
    buffer::exchange().into_iter().for_each(|exchange| exchange.wake_writer());
    let deadline = clock::now().0 + PATIENCE.0;
    while request.is_answered.load(Acquire) == 0 {
        let left = deadline.saturating_sub(clock::now().0);
        if left == 0 || is_ending() {
            break;
        }
        // In short steps: the writer may end without an answer.
        futex::sleep(&request.is_answered, 0, Nanos(left.min(100_000_000)));
    }
    if POSTED.compare_exchange(posted, std::ptr::null_mut(), AcqRel, Acquire).is_ok() {
        take_back(posted);
    }
    match request.answer.get() {
        Some(answer) => answer.clone(),
        None if is_ending() => Err("tracing has ended".into()),
        None => Err("the writer did not answer within 5 s: it may be waiting for the disk".into()),
    }
}

/// For the writer: what is asked for, once.
pub fn requested() -> Option<Arc<Request>> {
    if POSTED.load(Relaxed).is_null() {
        return None;
    }
    let posted = POSTED.swap(std::ptr::null_mut(), AcqRel);
    // SAFETY: null, or from an `Arc`, of which whoever swaps it out is the owner.
    (!posted.is_null()).then(|| unsafe { Arc::from_raw(posted) })
}

fn take_back(posted: *mut Request) {
    if !posted.is_null() {
        // SAFETY: from an `Arc`, and the caller has swapped it out.
        drop(unsafe { Arc::from_raw(posted) });
    }
}

/// In a forked child: what is posted is the parent's.
pub fn abandon() {
    POSTED.store(std::ptr::null_mut(), Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_once_and_answered() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..100 {
                    let request = loop {
                        match requested() {
                            Some(request) => break request,
                            None => std::thread::yield_now(),
                        }
                    };
                    assert!(requested().is_none());
                    let Order::Mark(name) = request.order() else { panic!("another order") };
                    assert_eq!(*name, turn.to_string());
                    request.answer(if turn % 2 == 0 { Ok(Vec::new()) } else { Err(name.clone()) });
                }
            });
            for turn in 0..100 {
                let answer = ask(Order::Mark(turn.to_string()));
                assert_eq!(answer, if turn % 2 == 0 { Ok(Vec::new()) } else { Err(turn.to_string()) });
            }
        });
        assert!(POSTED.load(Acquire).is_null());
    }
}
