//! One stream of events: from its bytes to changes of the live set, in order, with their stacks.

use crate::stacks::{Stack, Stacks};
use crate::threads::Threads;
use prof::event::name_text;
use prof::read::What;
use prof::{Damage, Event, EventDecoder, Generation, Nanos, ThreadIndex, weight};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::num::NonZeroU32;

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
    chunks: VecDeque<Chunk>,
    /// The next change, decoded.
    pub head: Option<Change>,
    /// The change after it: a realloc is two.
    second: Option<Change>,
    /// Of the last change; no later one is earlier.
    time: Nanos,
}

impl Stream {
    /// The stream of this number.
    pub fn new(number: u32) -> Stream {
        Stream { number, ..Stream::default() }
    }

    /// Takes in a block's payload from `offset` of the file on, whose events start at `at`.
    pub fn push(&mut self, offset: u64, bytes: Vec<u8>, at: usize) {
        self.chunks.push_back(Chunk { offset, bytes, at });
    }

    /// Whether changes may be left.
    pub fn holds_any(&self) -> bool {
        let is_read = self.chunk.at == self.chunk.bytes.len() && self.chunks.is_empty();
        self.head.is_some() || self.second.is_some() || !is_read
    }

    /// Decodes up to the next change, which becomes the head; buffers that are read go to `spare`.
    ///
    /// # Errors
    /// Where an event cannot be read.
    #[inline(always)]
    pub fn advance(&mut self, known: &mut Known, spare: &mut Vec<Vec<u8>>) -> Result<(), Damage> {
        self.head = self.second.take();
        while self.head.is_none() {
            let mut input = self.chunk.bytes.get(self.chunk.at..).unwrap_or(&[]);
            let event = self.decoder.next(&mut input).map_err(|what| self.damage(what))?;
            self.chunk.at = self.chunk.bytes.len() - input.len();
            match event {
                Some(Event::Alloc { key, stamp, size, kept, site }) => {
                    let birth = Some(self.birth(size, kept, site, known)?);
                    self.head = Some(self.change(stamp, key, birth));
                }
                Some(Event::Free { key, stamp }) => self.head = Some(self.change(stamp, key, None)),
                Some(Event::Realloc { key, old_key, stamp, old_stamp, size, kept, site }) => {
                    let birth = Some(self.birth(size, kept, site, known)?);
                    self.head = Some(self.change(old_stamp, old_key, None));
                    self.second = Some(self.change(stamp, key, birth));
                }
                Some(statement) => self.note(&statement, known),
                None if self.next_chunk(spare) => {}
                None => break,
            }
        }
        Ok(())
    }

    /// Goes on with the next chunk, where there is one.
    #[cold]
    fn next_chunk(&mut self, spare: &mut Vec<Vec<u8>>) -> bool {
        let next = self.chunks.pop_front();
        let is_any = next.is_some();
        let mut bytes = std::mem::replace(&mut self.chunk, next.unwrap_or_default()).bytes;
        if bytes.capacity() > 0 {
            bytes.clear();
            spare.push(bytes);
        }
        is_any
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
                known.threads.note(thread, tid, stamp, &name_text(name));
            }
            Event::ThreadEnd { stamp } => known.threads.end(self.thread, stamp),
            Event::Alloc { .. } | Event::Free { .. } | Event::Realloc { .. } => {}
        }
    }

    #[inline]
    fn change(&mut self, time: Nanos, key: u64, birth: Option<Birth>) -> Change {
        self.time = self.time.max(time);
        Change { time: self.time, key, birth, stream: self.number }
    }

    #[inline(always)]
    fn birth(&mut self, size: u64, kept: usize, site: u16, known: &mut Known) -> Result<Birth, Damage> {
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
    fn follow(&mut self, from: Stack, number: u16, known: &mut Known) -> Result<(), Damage> {
        if known.stacks.is_full() {
            return Err(self.damage("more distinct stacks than an analysis can hold"));
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
