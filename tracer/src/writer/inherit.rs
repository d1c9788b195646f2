//! The writer of a forked child: from the copy of the parent's to its own file.
//!
//! ```text
//! samples:     facts, images, live samples, Fork ──────────────────────────────────── Complete, own records …
//! every event: facts, images, Fork ── parent's events that are not in its file yet ── Complete, own events …
//! ```

use super::segments::{Origin, Segments};
use super::{Output, Source, Writer, event_block, settle};
use crate::fork::Fork;
use crate::{buffer, clock, mapping, start};
use prof::{BlockKind, Record, RecordWriter};
use std::io;

impl Writer {
    /// Takes in what the parent's threads had recorded, starts the child's file, and writes what is inherited.
    ///
    /// # Errors
    /// Where the file cannot be made or written.
    pub fn inherit(&mut self, fork: Fork) -> io::Result<()> {
        let unread = self.collect_unread(fork);
        self.source = Source::default();
        self.lost.clear();
        self.uncounted = 0;
        self.threads.end_all(fork.time);
        self.samples.inherit();
        self.mappings.forked();
        let path = self.own_path();
        let parent = self.output.give_up(path.clone());
        self.output = Output::create(&path, start::entropy().to_le_bytes())?;
        self.segments = Segments::new(&self.settings);

        let every = self.settings.interval.is_every();
        let bytes = if every { parent.written } else { 0 };
        self.begin_file();
        let mut records = RecordWriter::new(clock::now());
        self.checkpoint(&mut records);
        records.push(&Record::Fork { time: fork.time, run: parent.run, path: &parent.path, bytes });
        self.output.block(BlockKind::Records, records.time(), records.payload());
        if every {
            self.output.event_blocks(&parent.pending);
            for (stream, bytes) in unread {
                event_block(&mut self.output, stream, &bytes);
            }
        }
        self.origin = Some(Origin { time: fork.time, run: parent.run, path: parent.path });
        records.restart(records.time());
        records.push(&Record::Complete { time: fork.time });
        self.output.block(BlockKind::Records, records.time(), records.payload());
        self.output.flush_beginning()
    }

    /// Where a forked child's file is.
    pub fn own_path(&self) -> String {
        let pid = std::process::id();
        let (path, has_id) = self.settings.path(pid);
        self.output.beside(&if has_id { path } else { super::output::with(&path, pid) })
    }

    /// Reads the buffers that the parent's writer had not read: into the samples, or returned as events of a stream.
    fn collect_unread(&mut self, fork: Fork) -> Vec<(u32, Vec<u8>)> {
        let Writer { settings, source, stacks, samples, threads, mappings, .. } = self;
        mapping::collect_inherited(|change| mappings.apply(change));
        let mut unread = Vec::new();
        let read = source.collect_rest(fork.first_stream, |stream, state, bytes| {
            if settings.interval.is_every() {
                unread.push((stream, bytes.to_vec()));
            } else {
                settle(stacks, samples, threads, state, bytes);
            }
        });
        if let Some(exchange) = buffer::exchange() {
            read.into_iter().for_each(|buffer| exchange.adopt(buffer));
        }
        unread
    }
}
