//! What only the events say: how many there are, and of which threads.

use crate::profile::Profile;
use crate::survey::Survey;
use crate::threads::Threads;
use prof::event::name_text;
use prof::{BlockKind, Event, EventDecoder, ReadError, Record, ThreadIndex, varint};
use rustc_hash::FxHashMap;

/// Counted by decoding every event, without following any stack.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Threads of records and events.
    pub threads: Threads,
    /// Allocations, frees, and reallocations as one.
    pub events: u64,
}

/// One stream, up to its first event that cannot be read.
#[derive(Default)]
struct Stream {
    decoder: EventDecoder,
    thread: Option<ThreadIndex>,
    is_broken: bool,
}

impl Census {
    /// Counts the events of a file.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn take(profile: &Profile, survey: &Survey) -> Result<Census, ReadError> {
        let mut census = Census { threads: survey.threads.clone(), events: 0 };
        let mut streams = FxHashMap::<u64, Stream>::default();
        let mut reader = profile.read(survey.sound_bytes)?;
        // Up to its end, the past of a forked process is the parent's, and cannot be read without the parent's file.
        let mut past = survey.fork.as_ref().map(|fork| fork.time);
        while let Ok(Some(block)) = reader.next_block() {
            let mut rest = block.payload;
            if block.kind == BlockKind::Records {
                let is_end =
                    |record: &Record| matches!(*record, Record::Complete { time } if Some(time) == past);
                if past.is_some() && block.records().map_while(Result::ok).any(|record| is_end(&record)) {
                    past = None;
                }
            } else if past.is_none()
                && let Some(index) = varint::take(&mut rest)
            {
                census.count(streams.entry(index).or_default(), rest);
            }
        }
        Ok(census)
    }

    fn count(&mut self, stream: &mut Stream, mut input: &[u8]) {
        while !stream.is_broken {
            match stream.decoder.next(&mut input) {
                Ok(None) => return,
                Ok(Some(Event::Thread { thread, tid, stamp, name })) => {
                    stream.thread = Some(thread);
                    self.threads.introduce(thread, tid, stamp, &name_text(&name));
                }
                Ok(Some(Event::ThreadEnd { stamp })) => {
                    stream.thread.into_iter().for_each(|thread| self.threads.end(thread, stamp));
                }
                Ok(Some(Event::Site(_) | Event::Interval(_) | Event::Generation(_))) => {}
                Ok(Some(Event::Alloc { .. } | Event::Free { .. } | Event::Realloc { .. })) => {
                    self.events += 1
                }
                Err(_) => stream.is_broken = true,
            }
        }
    }
}
