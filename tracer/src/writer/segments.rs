//! Files that stay small: one that is as large as `max_file` allows is ended, and the stream goes on in another.
//!
//! ```text
//! run.prof       ━━━━━━━━━━━━━━━━━━━┓ End
//!                                   ┗ what is live ━ Segment ━ Complete ━━━━━━━━━━━━━━┓ End
//!                                                                                     ┗ what is live ━ …
//! afterwards     removed              run.1.prof                                        run.prof
//! ```
//! `run.prof` is always the present file and whole: the next one is written under another name and takes this name in one
//! step. The one before keeps the first free number, as the file of a process's earlier program does, and older ones are
//! removed. Samples keep the time of their birth, so growth since an instant in an earlier file can be told from the last.

use super::{Held, Images, Output, Vitals, Writer};
use crate::clock;
use crate::phase;
use crate::settings::Settings;
use prof::{BlockKind, Nanos, Record, RecordWriter, RunId};
use std::io;

/// Why a file ends.
pub const FULL: &str = "the file was as large as it may be";

/// How far the process has come in its files.
pub struct Segments {
    limit: Option<u64>,
    number: u64,
    /// Bytes that the present file began with.
    opening: u64,
}

/// What a forked child was forked from.
pub struct Origin {
    /// When.
    pub time: Nanos,
    /// The parent's run.
    pub run: RunId,
    /// The parent's file.
    pub path: String,
}

impl Segments {
    /// At the first file of a process.
    pub fn new(settings: &Settings) -> Segments {
        Segments { limit: settings.max_file, number: 1, opening: 0 }
    }

    /// Whether a file is as large as it may be. At least half of it are news: where more is live than the limit has room
    /// for, files are larger.
    pub fn is_full(&self, output: &Output) -> bool {
        self.limit.is_some_and(|limit| output.size() >= limit.max(2 * self.opening))
    }
}

impl Writer {
    /// What every file of a process begins with: whatever makes it understood without the others is to be said here.
    pub fn begin_file(&mut self) {
        let mut records = RecordWriter::new(clock::now());
        self.facts.push(&mut records);
        for &(time, bytes) in &self.pauses {
            records.push(&Record::Interval { time, bytes });
        }
        // The facts may not have it any more.
        let bytes = if phase::is_paused() { 0 } else { phase::interval() };
        if bytes == 0 || !self.settings.interval.is_every() {
            records.push(&Record::Interval { time: records.time(), bytes });
        }
        self.output.block(BlockKind::Records, records.time(), records.payload());
    }

    /// What is live, with its stacks, images and threads, all of it numbered anew.
    pub fn checkpoint(&mut self, records: &mut RecordWriter) {
        self.samples.rewrite(&mut self.stacks);
        self.threads.rewrite();
        self.images = Images::new(self.facts.executable());
        self.images.push(records);
        self.held = Held::default();
        self.held.meet(&mut self.stacks);
        self.vitals = Vitals::default();
        self.stacks.push(records, |records| self.output.spill(records));
        self.samples.push(records, &mut self.threads, false);
        self.held.push(records, &self.mappings);
        self.threads.end(records);
    }

    /// Goes on in another file. The present one has everything up to `complete`, and says that it ends. No fork comes in
    /// between, whose child would have the descriptors of both.
    pub fn begin_segment(&mut self, complete: Nanos) -> io::Result<()> {
        let next = self.output.next()?;
        let full = std::mem::replace(&mut self.output, next);
        self.segments.number += 1;
        self.begin_file();
        let mut records = RecordWriter::new(clock::now());
        self.checkpoint(&mut records);
        if let Some(Origin { time, run, path }) = &self.origin {
            records.push(&Record::Fork { time: *time, run: *run, path, bytes: 0 });
        }
        self.lost.clear();
        self.push_lost(&mut records);
        let (blocks, bytes) = self.samples.allocated();
        let (time, number, path) = (complete, self.segments.number, &full.earlier());
        records.push(&Record::Segment { time, number, path, blocks, bytes });
        records.push(&Record::Complete { time });
        self.output.block(BlockKind::Records, records.time(), records.payload());
        self.output.flush_beginning().inspect_err(|_| self.output.discard())?;
        self.segments.opening = self.output.size();
        self.output.replace(full)
    }
}
