//! The threads of a process: their names, and when they lived.

use prof::{Nanos, ThreadIndex};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A thread of the process.
#[derive(Clone, PartialEq, Debug)]
pub struct Thread {
    /// Its number in the file.
    pub thread: ThreadIndex,
    /// The kernel's number.
    pub tid: u32,
    /// When it was first seen.
    pub start: Nanos,
    /// When it ended.
    pub end: Option<Nanos>,
    /// Its last name.
    pub name: Arc<str>,
}

/// Every thread that a file has told of.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Threads {
    /// In order of first appearance.
    all: Vec<Thread>,
    /// Place in `all` by number.
    by_number: FxHashMap<ThreadIndex, usize>,
}

impl Threads {
    /// A thread was seen for the first time, or has another name now.
    pub fn note(&mut self, thread: ThreadIndex, tid: u32, start: Nanos, name: &str) {
        let next = self.all.len();
        let at = *self.by_number.entry(thread).or_insert(next);
        match self.all.get_mut(at) {
            Some(known) if *known.name == *name => {}
            Some(known) => known.name = name.into(),
            None => self.all.push(Thread { thread, tid, start, end: None, name: name.into() }),
        }
    }

    /// A stream says whose it is, by the name that the thread had then: what a record says was asked for later.
    pub fn introduce(&mut self, thread: ThreadIndex, tid: u32, start: Nanos, name: &str) {
        if !self.by_number.contains_key(&thread) {
            self.note(thread, tid, start, name);
        }
    }

    /// A thread has ended.
    pub fn end(&mut self, thread: ThreadIndex, time: Nanos) {
        let known = self.by_number.get(&thread).and_then(|&at| self.all.get_mut(at));
        known.into_iter().for_each(|known| known.end = Some(time));
    }

    /// The name of a thread, where it is known.
    pub fn name(&self, thread: ThreadIndex) -> Option<&Arc<str>> {
        let known = self.by_number.get(&thread).and_then(|&at| self.all.get(at));
        known.map(|known| &known.name)
    }

    /// All, in order of first appearance.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Thread> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_last_name_and_its_first_start() {
        let mut threads = Threads::default();
        let thread = ThreadIndex(3);
        threads.note(thread, 70, Nanos(5), "server");
        threads.note(thread, 70, Nanos(5), "grpc-poller");
        threads.end(thread, Nanos(9));
        threads.end(ThreadIndex(4), Nanos(9));
        let all: Vec<&Thread> = threads.iter().collect();
        assert_eq!((all.len(), all[0].start, all[0].end), (1, Nanos(5), Some(Nanos(9))));
        assert_eq!(threads.name(thread).map(|name| &**name), Some("grpc-poller"));
        assert_eq!(threads.name(ThreadIndex(4)), None);
    }
}
