//! One stream of events: from its bytes to changes of the live set, in order, with their stacks.

use crate::profile::Store;
use crate::stacks::{Stack, Stacks};
use crate::threads::Threads;
use prof::event::name_text;
use prof::read::What;
use prof::{Damage, Event, EventDecoder, Generation, Nanos, ThreadIndex, weight};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;

/// Who allocated, and at which sampling interval.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin(NonZeroU32);

/// The origins of a file; there are about as many as threads.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    all: Vec<(ThreadIndex, u64)>,
    by_content: FxHashMap<(ThreadIndex, u64), Origin>,
}

impl Origins {
    /// The origin of a thread and an interval.
    pub fn intern(&mut self, thread: ThreadIndex, interval: u64) -> Origin {
        *self.by_content.entry((thread, interval)).or_insert_with(|| {
            self.all.push((thread, interval));
            Origin(NonZeroU32::MIN.saturating_add(self.all.len() as u32 - 1))
        })
    }

    /// Thread and interval.
    #[inline]
    pub fn get(&self, origin: Origin) -> (ThreadIndex, u64) {
        self.all.get(origin.0.get() as usize - 1).copied().unwrap_or((ThreadIndex(0), 1))
    }
}

/// What became live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Requested bytes.
    pub size: u64,
    /// Where it was allocated.
    pub stack: Stack,
    /// By whom.
    pub origin: Origin,
}

/// A block became live, or died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub time: Nanos,
    /// Names the block.
    pub key: u64,
    /// `None`: it died.
    pub birth: Option<Birth>,
    /// The stream that says so. Its changes are in order, also where their times are equal.
    pub stream: u32,
}

/// Stands among the streams for the records.
pub const RECORDS: u32 = u32::MAX;

/// What streams refer to, and add to.
#[derive(Debug, Default)]
pub struct Known {
    /// Every stack so far.
    pub stacks: Stacks,
    /// Every origin so far.
    pub origins: Origins,
    /// Every thread so far.
    pub threads: Threads,
}

/// The payload of a block of events, which was found sound.
#[derive(Debug)]
pub enum Bytes {
    /// In memory.
    Held(Vec<u8>),
    /// So many bytes of a file.
    Stored(Rc<Store>, usize),
}

/// A block of events that is still to be read.
#[derive(Debug)]
struct Pending {
    /// In the file.
    offset: u64,
    bytes: Bytes,
    /// Where the first event starts in `bytes`.
    at: usize,
}

/// The payload of a block of events.
#[derive(Debug, Default)]
struct Chunk {
    /// In the file.
    offset: u64,
    bytes: Vec<u8>,
    /// Where the next event starts in `bytes`.
    at: usize,
}

/// What a site has led to from one stack; from there it always does so again.
#[derive(Clone, Debug, Default)]
struct Site {
    /// The stack of the frames kept; `None` where it is not known yet.
    from: Option<Stack>,
    /// The nodes of the frames pushed.
    nodes: Vec<Stack>,
}

/// One thread's events, and then another's.
#[derive(Debug, Default)]
pub struct Stream {
    number: u32,
    decoder: EventDecoder,
    /// The last allocation's stack as nodes, outermost first.
    stacks: Vec<Stack>,
    /// By number, what sites led to the last time.
    sites: Vec<Site>,
    generation: Generation,
    thread: ThreadIndex,
    /// Where it has been said; else every allocation is recorded.
    interval: Option<u64>,
    origin: Option<Origin>,
    /// What is being read, and what follows it.
    chunk: Chunk,
    chunks: VecDeque<Pending>,
    /// The changes that were decoded last.
    ready: Vec<Change>,
    /// How many of them were taken.
    taken: usize,
    /// What is wrong with the event after them.
    damage: Option<Damage>,
    /// Of the last change; no later one is earlier.
    time: Nanos,
}

/// So many changes are decoded at a time: the processor's caches hold them easily.
pub const BATCH: usize = 128;

impl Stream {
    /// The stream of this number.
    pub fn new(number: u32) -> Stream {
        Stream { number, ..Stream::default() }
    }

    /// Takes in a block's payload from `offset` of the file on, whose events start at `at`.
    pub fn push(&mut self, offset: u64, bytes: Bytes, at: usize) {
        self.chunks.push_back(Pending { offset, bytes, at });
    }

    /// Bytes of events that are held in memory.
    pub fn held(&self) -> usize {
        let held = self.chunks.iter().map(|chunk| match &chunk.bytes {
            Bytes::Held(bytes) => bytes.len(),
            Bytes::Stored(..) => 0,
        });
        self.chunk.bytes.len() + held.sum::<usize>()
    }

    /// Whether changes may be left.
    pub fn holds_any(&self) -> bool {
        let is_read = self.chunk.at == self.chunk.bytes.len() && self.chunks.is_empty();
        !self.ready().is_empty() || !is_read
    }

    /// The next changes, as far as they are decoded.
    #[inline]
    pub fn ready(&self) -> &[Change] {
        self.ready.get(self.taken..).unwrap_or(&[])
    }

    /// Passes over the first `count` of the next changes.
    #[inline]
    pub fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// Decodes more changes where none is ready: up to a batch of them, and the first that is not before `limit` is the
    /// last, since what follows may refer to records that are still to come. Buffers that are read go to `spare`.
    ///
    /// # Errors
    /// Where the next event cannot be read.
    pub fn decode(
        &mut self,
        limit: Option<Nanos>,
        known: &mut Known,
        spare: &mut Vec<Vec<u8>>,
    ) -> Result<(), Damage> {
        if !self.ready().is_empty() {
            return Ok(());
        }
        self.ready.clear();
        self.taken = 0;
        let is_before = |time: Nanos| limit.is_none_or(|limit| time < limit);
        while self.damage.is_none() && self.ready.len() < BATCH && is_before(self.time) {
            self.damage = self.decode_chunk(limit, known).err();
            if self.damage.is_none() && self.chunk.at == self.chunk.bytes.len() {
                match self.next_chunk(spare) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(damage) => self.damage = Some(damage),
                }
            }
        }
        match self.damage {
            Some(damage) if self.ready.is_empty() => Err(damage),
            _ => Ok(()),
        }
    }

    /// Decodes what there is in the present chunk, up to a batch or `limit`.
    fn decode_chunk(&mut self, limit: Option<Nanos>, known: &mut Known) -> Result<(), Damage> {
        let bytes = std::mem::take(&mut self.chunk.bytes);
        let mut input = bytes.get(self.chunk.at..).unwrap_or(&[]);
        let mut result = Ok(());
        while self.ready.len() < BATCH {
            let event = self.decoder.next(&mut input);
            let at = bytes.len() - input.len();
            let done = match event {
                Ok(Some(Event::Alloc { key, stamp, size, kept, site })) => {
                    self.birth(size, kept, site, known).map(|birth| self.change(stamp, key, Some(birth)))
                }
                Ok(Some(Event::Free { key, stamp })) => {
                    self.change(stamp, key, None);
                    Ok(())
                }
                Ok(Some(Event::Realloc { key, old_key, stamp, old_stamp, size, kept, site })) => {
                    self.birth(size, kept, site, known).map(|birth| {
                        self.change(old_stamp, old_key, None);
                        self.change(stamp, key, Some(birth));
                    })
                }
                Ok(Some(statement)) => {
                    self.note(&statement, known);
                    Ok(())
                }
                Ok(None) => break,
                Err(what) => Err(what),
            };
            if let Err(what) = done {
                result = Err(self.damage(what));
                break;
            }
            self.chunk.at = at;
            if limit.is_some_and(|limit| self.time >= limit) {
                break;
            }
        }
        self.chunk.bytes = bytes;
        result
    }

    /// Goes on with the next chunk, where there is one.
    #[cold]
    fn next_chunk(&mut self, spare: &mut Vec<Vec<u8>>) -> Result<bool, Damage> {
        let last = std::mem::take(&mut self.chunk).bytes;
        if last.capacity() > 0 {
            spare.push(last);
        }
        let Some(Pending { offset, bytes, at }) = self.chunks.pop_front() else { return Ok(false) };
        let bytes = match bytes {
            Bytes::Held(bytes) => bytes,
            Bytes::Stored(store, len) => {
                let mut bytes = spare.pop().unwrap_or_default();
                bytes.resize(len, 0);
                // It was there when the block was found sound.
                store.read_at(offset, &mut bytes).map_err(|_| Damage::Cut { offset, bytes: 0 })?;
                bytes
            }
        };
        self.chunk = Chunk { offset, bytes, at };
        Ok(true)
    }

    /// Takes in what is not a change.
    #[cold]
    fn note(&mut self, statement: &Event, known: &mut Known) {
        match *statement {
            Event::Interval(interval) => (self.interval, self.origin) = (Some(interval), None),
            Event::Generation(generation) => {
                self.generation = generation;
                self.stacks.clear();
                self.sites.iter_mut().for_each(|site| site.from = None);
            }
            Event::Site(number) => {
                if let Some(site) = self.sites.get_mut(usize::from(number)) {
                    site.from = None;
                }
            }
            Event::Thread { thread, tid, stamp, ref name } => {
                (self.thread, self.origin) = (thread, None);
                known.threads.introduce(thread, tid, stamp, &name_text(name));
            }
            Event::ThreadEnd { stamp } => known.threads.end(self.thread, stamp),
            Event::Alloc { .. } | Event::Free { .. } | Event::Realloc { .. } => {}
        }
    }

    #[inline(always)]
    fn change(&mut self, time: Nanos, key: u64, birth: Option<Birth>) {
        self.time = self.time.max(time);
        self.ready.push(Change { time: self.time, key, birth, stream: self.number });
    }

    #[inline(always)]
    fn birth(&mut self, size: u64, kept: usize, site: u16, known: &mut Known) -> Result<Birth, &'static str> {
        self.stacks.truncate(kept);
        let from = self.stacks.last().copied().unwrap_or(Stack::EMPTY);
        match self.sites.get(usize::from(site)) {
            Some(site) if site.from == Some(from) => self.stacks.extend_from_slice(&site.nodes),
            _ => self.follow(from, site, known)?,
        }
        let stack = self.stacks.last().copied().unwrap_or(Stack::EMPTY);
        let interval = self.interval.unwrap_or(weight::EVERY);
        let origin = *self.origin.get_or_insert_with(|| known.origins.intern(self.thread, interval));
        Ok(Birth { size, stack, origin })
    }

    /// What is wrong with the next event.
    #[cold]
    fn damage(&self, what: &'static str) -> Damage {
        let offset = self.chunk.offset + self.chunk.at as u64;
        Damage::Corrupt { offset, what: What::Malformed(what) }
    }

    /// Finds what a site leads to.
    fn follow(&mut self, from: Stack, number: u16, known: &mut Known) -> Result<(), &'static str> {
        if known.stacks.is_full() {
            return Err("more distinct stacks than an analysis can hold");
        }
        let at = usize::from(number);
        if self.sites.len() <= at {
            self.sites.resize(at + 1, Site::default());
        }
        let Some(site) = self.sites.get_mut(at) else { return Ok(()) };
        site.from = Some(from);
        site.nodes.clear();
        let mut stack = from;
        for &address in self.decoder.pushed(number) {
            stack = known.stacks.push(stack, address, self.generation);
            site.nodes.push(stack);
        }
        self.stacks.extend_from_slice(&site.nodes);
        Ok(())
    }
}
