//! What only the events say: how many there are, and of which threads.

use crate::profile::{Profile, Survey};
use crate::threads::Threads;
use prof::event::name_text;
use prof::{BlockKind, Event, EventDecoder, ReadError, ThreadIndex, varint};
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
        while let Ok(Some(block)) = reader.next_block() {
            let mut rest = block.payload;
            if block.kind == BlockKind::Events
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
                    self.threads.note(thread, tid, stamp, &name_text(&name));
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
