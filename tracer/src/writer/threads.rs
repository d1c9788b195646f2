//! Which threads there are, and what they are called.
//!
//! Where every allocation is recorded the streams introduce their threads themselves. In sampled mode a server may have
//! started thousands of threads a minute that left nothing behind: written are those that own a surviving sample, and
//! those that are there when the stream is flushed.

use crate::stream::{self, Occupant};
use prof::event::{ThreadName, name_text};
use prof::{Nanos, Record, RecordWriter, ThreadIndex};
use rustc_hash::{FxHashMap, FxHashSet};

/// What is known of a thread.
struct Known {
    tid: u32,
    start: Nanos,
    name: String,
    end: Option<Nanos>,
    /// The file has it, by this name.
    written: bool,
    /// How often the stream has been flushed while it was there.
    flushes: u64,
}

/// The threads of the process.
#[derive(Default)]
pub struct Threads {
    /// Those that have not ended, and those that have since the last flush.
    known: FxHashMap<ThreadIndex, Known>,
    /// Those that have ended before, as far as another file may have to speak of them.
    ended: FxHashMap<ThreadIndex, Known>,
    /// How many of these were left when last those without a live sample were forgotten.
    used: usize,
}

impl Threads {
    /// A stream says that it has a thread.
    pub fn introduced(&mut self, thread: ThreadIndex, tid: u32, start: Nanos, name: &ThreadName) {
        self.meet(thread, tid, start, || name_text(name).into_owned()).end = None;
    }

    /// A stream says that its thread has ended.
    pub fn ended(&mut self, thread: ThreadIndex, time: Nanos) {
        if let Some(known) = self.known.get_mut(&thread) {
            known.end = Some(time);
        }
    }

    fn meet(
        &mut self,
        thread: ThreadIndex,
        tid: u32,
        start: Nanos,
        name: impl FnOnce() -> String,
    ) -> &mut Known {
        self.known.entry(thread).or_insert_with(|| Known {
            tid,
            start,
            name: name(),
            end: None,
            written: false,
            flushes: 0,
        })
    }

    /// Asks for the names of the threads that are there; again after 1, 2, 4, 8, … flushes, since threads are named
    /// soon after they start, if at all.
    pub fn look(&mut self, records: &mut RecordWriter) {
        for Occupant { thread, tid, start } in stream::all().filter_map(|stream| stream.occupant()) {
            let known = self.meet(thread, tid, start, String::new);
            known.flushes += 1;
            if known.flushes.is_power_of_two()
                && let Some(name) = name_of(tid)
                && (name != known.name || !known.written)
            {
                known.name = name;
                known.written = true;
                write(records, thread, known);
            }
        }
    }

    /// Appends a thread that is about to be mentioned.
    pub fn mention(&mut self, records: &mut RecordWriter, thread: ThreadIndex) {
        if let Some(known) = self.known.get_mut(&thread)
            && !std::mem::replace(&mut known.written, true)
        {
            write(records, thread, known);
        }
    }

    /// In a forked child: no thread of the parent lives on.
    pub fn end_all(&mut self, time: Nanos) {
        self.known.values_mut().for_each(|known| known.end = Some(known.end.unwrap_or(time)));
    }

    /// Where a file begins: nothing is written yet.
    pub fn rewrite(&mut self) {
        self.known.extend(self.ended.drain());
        self.known.values_mut().for_each(|known| (known.written, known.flushes) = (false, 0));
    }

    /// Appends the ends of threads that the file has.
    pub fn end(&mut self, records: &mut RecordWriter) {
        let mut ended: Vec<_> = self.known.extract_if(|_, known| known.end.is_some()).collect();
        ended.sort_unstable_by_key(|(thread, _)| *thread);
        for (thread, known) in ended {
            if let (Some(time), true) = (known.end, known.written) {
                records.push(&Record::ThreadEnd { thread, time });
                self.ended.insert(thread, known);
            }
        }
    }

    /// Forgets those of the ended that own no live sample, once there are many.
    pub fn forget_unused<I: Iterator<Item = ThreadIndex>>(&mut self, live: impl FnOnce() -> I) {
        const FEW: usize = 256;
        if self.ended.len() > FEW + 2 * self.used {
            let live: FxHashSet<ThreadIndex> = live().collect();
            self.ended.retain(|thread, _| live.contains(thread));
            self.ended.shrink_to_fit();
            self.used = self.ended.len();
        }
    }
}

/// Whether only this library's threads are left, `own` in number: the main thread has ended before the process, and so have
/// all others.
pub fn are_gone(own: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return false };
    // The command's name, in parentheses, may contain anything; behind it stand the main thread's state and, 17 fields
    // later, the number of threads. A main thread that has ended is still counted.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.next() == Some("Z") && fields.nth(16) == Some((own + 1).to_string().as_str())
}

fn write(records: &mut RecordWriter, thread: ThreadIndex, known: &Known) {
    records.push(&Record::Thread { thread, tid: known.tid, start: known.start, name: &known.name });
}

fn name_of(tid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}
