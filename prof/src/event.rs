//! What threads saw, encoded by themselves while it happens.
//!
//! A stream belongs to one thread at a time; when that ends, another thread goes on with it. Every event is a difference
//! to the stream's previous one, so a stream is read from its start, in order.
//! After a kind byte come LEB128 numbers, `±` marks zigzag differences:
//!
//! ```text
//! Alloc       0x00  ±key  stamp−last  size  kept  pushed  ±address × pushed
//! Free        0x01  ±key  stamp−last
//! Realloc     0x02  ±key  ±old_key  stamp−last  stamp−old_stamp  size  kept  pushed  ±address × pushed
//! Interval    0x03  mean bytes between samples from here on; 1: every allocation is recorded
//! Generation  0x04  of the module map that the addresses from here on belong to; the previous stack is empty then
//! Thread      0x05  thread  tid  stamp−last  name bytes × 16: the thread that the events from here on are of
//! ThreadEnd   0x06  stamp−last; this one and the thread's do not become the last stamp
//! ```
//!
//! A stack is given as the outermost frames `kept` from the stream's previous stack and the frames pushed on top
//! of them, outermost first. A key names a block of memory: its address where every allocation is recorded, a
//! number that is never reused where allocations are sampled.
//!
//! Stamps are taken after the call that allocated, and before the call that frees; a realloc carries both. So the
//! order of the stamps of one key is the order in which the blocks lived.

use crate::MAX_DEPTH;
use crate::ids::{Generation, Nanos, ThreadIndex};
use crate::varint::{self, unzigzag, zigzag};
use std::borrow::Cow;

const ALLOC: u8 = 0;
const FREE: u8 = 1;
const REALLOC: u8 = 2;
const INTERVAL: u8 = 3;
const GENERATION: u8 = 4;
const THREAD: u8 = 5;
const THREAD_END: u8 = 6;

/// A thread's name as the kernel keeps it: up to 15 bytes and a zero.
pub type ThreadName = [u8; 16];

/// As text.
pub fn name_text(name: &ThreadName) -> Cow<'_, str> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or(name))
}

/// One event; the stack of an allocation is [`EventDecoder::stack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A block came to life.
    Alloc {
        /// Names the block.
        key: u64,
        /// After the allocation.
        stamp: Nanos,
        /// Requested bytes.
        size: u64,
        /// Outermost frames shared with the stream's previous stack.
        kept: usize,
    },
    /// A block died.
    Free {
        /// Names the block.
        key: u64,
        /// Before the real call.
        stamp: Nanos,
    },
    /// One block died and another came to life in one call.
    Realloc {
        /// Names the new block.
        key: u64,
        /// Names the old block.
        old_key: u64,
        /// After the call.
        stamp: Nanos,
        /// Before the call.
        old_stamp: Nanos,
        /// Requested bytes.
        size: u64,
        /// Outermost frames shared with the stream's previous stack.
        kept: usize,
    },
    /// The mean interval of the samples that follow, in bytes; 1: every allocation is recorded.
    Interval(u64),
    /// The module map that the addresses which follow belong to.
    Generation(Generation),
    /// The thread that the events which follow are of.
    Thread {
        /// Its number.
        thread: ThreadIndex,
        /// The kernel's number.
        tid: u32,
        /// When it was first seen.
        stamp: Nanos,
        /// Its name then.
        name: ThreadName,
    },
    /// The stream's thread has ended.
    ThreadEnd {
        /// When.
        stamp: Nanos,
    },
}

/// The encoding side of one stream. It holds the previous stack, allocates nothing and cannot panic.
pub struct EventEncoder {
    key: u64,
    stamp: u64,
    /// Leaf first, so that a freshly unwound stack is compared from its end.
    stack: [u64; MAX_DEPTH + 1],
    depth: usize,
}

impl Default for EventEncoder {
    fn default() -> Self {
        EventEncoder::new()
    }
}

/// The part of an allocation that is new: bytes and where from.
#[derive(Clone, Copy)]
pub struct Birth<'a> {
    /// Names the block.
    pub key: u64,
    /// After the call.
    pub stamp: Nanos,
    /// Requested bytes.
    pub size: u64,
    /// Return addresses, leaf first, at most [`MAX_DEPTH`](crate::MAX_DEPTH) and [`TRUNCATED`](crate::TRUNCATED).
    pub stack: &'a [u64],
}

impl EventEncoder {
    /// An encoder whose previous stack is empty.
    pub const fn new() -> EventEncoder {
        EventEncoder { key: 0, stamp: 0, stack: [0; MAX_DEPTH + 1], depth: 0 }
    }

    /// Encodes an allocation at the start of `out` and returns the bytes taken. `None`: there was no room, and
    /// nothing has changed.
    #[inline]
    pub fn alloc(&mut self, out: &mut [u8], birth: Birth) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        w.byte(ALLOC)?;
        w.difference(birth.key, self.key)?;
        w.number(birth.stamp.0.saturating_sub(self.stamp))?;
        self.birth(w, birth)
    }

    /// Encodes a free; as [`alloc`](Self::alloc).
    #[inline]
    pub fn free(&mut self, out: &mut [u8], key: u64, stamp: Nanos) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        w.byte(FREE)?;
        w.difference(key, self.key)?;
        w.number(stamp.0.saturating_sub(self.stamp))?;
        self.key = key;
        self.stamp = self.stamp.max(stamp.0);
        Some(w.at)
    }

    /// Encodes a realloc of the block `old_key`, stamped before the call; as [`alloc`](Self::alloc).
    #[inline]
    pub fn realloc(&mut self, out: &mut [u8], old_key: u64, old_stamp: Nanos, birth: Birth) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        let stamp = self.stamp.max(birth.stamp.0);
        w.byte(REALLOC)?;
        w.difference(birth.key, self.key)?;
        w.difference(old_key, self.key)?;
        w.number(stamp - self.stamp)?;
        w.number(stamp.saturating_sub(old_stamp.0))?;
        self.birth(w, birth)
    }

    /// Encodes a change of the sampling interval; as [`alloc`](Self::alloc).
    pub fn interval(out: &mut [u8], bytes: u64) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        w.byte(INTERVAL)?;
        w.number(bytes)?;
        Some(w.at)
    }

    /// Encodes a change of the module map; as [`alloc`](Self::alloc), but that the next stack shares no frames with the
    /// one before: an equal address may mean another function now.
    pub fn generation(&mut self, out: &mut [u8], generation: Generation) -> Option<usize> {
        self.depth = 0;
        let mut w = Cursor { out, at: 0 };
        w.byte(GENERATION)?;
        w.number(u64::from(generation.0))?;
        Some(w.at)
    }

    /// Encodes that the stream has another thread now; as [`alloc`](Self::alloc).
    pub fn thread(
        &self,
        out: &mut [u8],
        thread: ThreadIndex,
        tid: u32,
        stamp: Nanos,
        name: &ThreadName,
    ) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        w.byte(THREAD)?;
        w.number(u64::from(thread.0))?;
        w.number(u64::from(tid))?;
        w.number(stamp.0.saturating_sub(self.stamp))?;
        for &byte in name {
            w.byte(byte)?;
        }
        Some(w.at)
    }

    /// Encodes that the stream's thread ends; as [`alloc`](Self::alloc).
    pub fn thread_end(&self, out: &mut [u8], stamp: Nanos) -> Option<usize> {
        let mut w = Cursor { out, at: 0 };
        w.byte(THREAD_END)?;
        w.number(stamp.0.saturating_sub(self.stamp))?;
        Some(w.at)
    }

    /// The end of an allocation, and the state that follows from it.
    #[inline]
    fn birth(&mut self, mut w: Cursor, birth: Birth) -> Option<usize> {
        let fresh = birth.stack.get(..birth.stack.len().min(self.stack.len()))?;
        let previous = self.stack.get(..self.depth)?;
        let kept = fresh.iter().rev().zip(previous.iter().rev()).take_while(|(a, b)| a == b).count();
        let pushed = fresh.get(..fresh.len() - kept)?;
        w.number(birth.size)?;
        w.number(kept as u64)?;
        w.number(pushed.len() as u64)?;
        let mut last = fresh.get(pushed.len()).copied().unwrap_or(0);
        for &address in pushed.iter().rev() {
            w.difference(address, last)?;
            last = address;
        }
        self.stack.get_mut(..fresh.len())?.copy_from_slice(fresh);
        self.depth = fresh.len();
        self.key = birth.key;
        self.stamp = self.stamp.max(birth.stamp.0);
        Some(w.at)
    }
}

struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn byte(&mut self, value: u8) -> Option<()> {
        *self.out.get_mut(self.at)? = value;
        self.at += 1;
        Some(())
    }

    #[inline]
    fn number(&mut self, value: u64) -> Option<()> {
        self.at += varint::put(self.out.get_mut(self.at..)?, value)?;
        Some(())
    }

    #[inline]
    fn difference(&mut self, value: u64, last: u64) -> Option<()> {
        self.number(zigzag(value.wrapping_sub(last)))
    }
}

/// The reading side of one stream.
#[derive(Clone, Debug, Default)]
pub struct EventDecoder {
    key: u64,
    stamp: u64,
    stack: Vec<u64>,
}

impl EventDecoder {
    /// The stack of the last allocation, outermost frame first. Where the outermost address is [`TRUNCATED`](crate::TRUNCATED), frames
    /// beyond it are not known.
    pub fn stack(&self) -> &[u64] {
        &self.stack
    }

    /// Takes the next event off the front of `input`; `None` at its end.
    ///
    /// # Errors
    /// What is wrong with the first event of `input`; the stream cannot be read on from there.
    #[inline(always)]
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, &'static str> {
        let Some((&kind, rest)) = input.split_first() else { return Ok(None) };
        *input = rest;
        let event = match kind {
            ALLOC => self.alloc(input),
            FREE => self.free(input),
            REALLOC => self.realloc(input),
            INTERVAL => varint::take(input).map(Event::Interval),
            GENERATION => {
                self.stack.clear();
                let number = varint::take(input).and_then(|n| u32::try_from(n).ok());
                number.map(|n| Event::Generation(Generation(n)))
            }
            THREAD => self.thread(input),
            THREAD_END => self.peek_stamp(input).map(|stamp| Event::ThreadEnd { stamp }),
            _ => return Err("unknown event kind"),
        };
        event.map(Some).ok_or("malformed event")
    }

    #[inline(always)]
    fn alloc(&mut self, input: &mut &[u8]) -> Option<Event> {
        let key = self.take_key(input)?;
        let stamp = self.take_stamp(input)?;
        let (size, kept) = self.birth(input)?;
        self.key = key;
        Some(Event::Alloc { key, stamp, size, kept })
    }

    #[inline(always)]
    fn free(&mut self, input: &mut &[u8]) -> Option<Event> {
        self.key = self.take_key(input)?;
        Some(Event::Free { key: self.key, stamp: self.take_stamp(input)? })
    }

    fn realloc(&mut self, input: &mut &[u8]) -> Option<Event> {
        let key = self.take_key(input)?;
        let old_key = self.take_key(input)?;
        let stamp = self.take_stamp(input)?;
        let old_stamp = Nanos(stamp.0.saturating_sub(varint::take(input)?));
        let (size, kept) = self.birth(input)?;
        self.key = key;
        Some(Event::Realloc { key, old_key, stamp, old_stamp, size, kept })
    }

    fn thread(&self, input: &mut &[u8]) -> Option<Event> {
        let thread = ThreadIndex(varint::take(input)?.try_into().ok()?);
        let tid = varint::take(input)?.try_into().ok()?;
        let stamp = self.peek_stamp(input)?;
        let (name, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(Event::Thread { thread, tid, stamp, name: *name })
    }

    #[inline]
    fn take_stamp(&mut self, input: &mut &[u8]) -> Option<Nanos> {
        let stamp = self.peek_stamp(input)?;
        self.stamp = stamp.0;
        Some(stamp)
    }

    #[inline]
    fn peek_stamp(&self, input: &mut &[u8]) -> Option<Nanos> {
        Some(Nanos(self.stamp.wrapping_add(varint::take(input)?)))
    }

    #[inline]
    fn take_key(&self, input: &mut &[u8]) -> Option<u64> {
        Some(self.key.wrapping_add(unzigzag(varint::take_long(input)?)))
    }

    #[inline(always)]
    fn birth(&mut self, input: &mut &[u8]) -> Option<(u64, usize)> {
        let size = varint::take(input)?;
        let kept = usize::try_from(varint::take(input)?).ok()?;
        let pushed = usize::try_from(varint::take(input)?).ok()?;
        if kept > self.stack.len() || kept + pushed.min(MAX_DEPTH + 2) > MAX_DEPTH + 1 {
            return None;
        }
        self.stack.truncate(kept);
        let mut last = self.stack.last().copied().unwrap_or(0);
        for _ in 0..pushed {
            last = last.wrapping_add(unzigzag(varint::take_long(input)?));
            self.stack.push(last);
        }
        Some((size, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a thread did, with absolute values: what must come out of the decoder.
    #[derive(Clone, Debug)]
    enum Act {
        Alloc(u64, u64, Vec<u64>),
        Free(u64),
        Realloc(u64, u64, u64, Vec<u64>),
        Interval(u64),
        Generation(u32),
        Thread(u32, u32, ThreadName),
        ThreadEnd,
    }

    fn stack() -> impl Strategy<Value = Vec<u64>> {
        // Few distinct addresses, so that stacks share outer frames.
        prop_oneof![
            prop::collection::vec(0x40_0000u64..0x40_0004, 0..12),
            prop::collection::vec(any::<u64>(), 0..MAX_DEPTH + 1),
        ]
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (any::<u64>(), any::<u64>(), stack()).prop_map(|(k, s, f)| Act::Alloc(k, s, f)),
            any::<u64>().prop_map(Act::Free),
            (any::<u64>(), any::<u64>(), any::<u64>(), stack())
                .prop_map(|(o, k, s, f)| Act::Realloc(o, k, s, f)),
            any::<u64>().prop_map(Act::Interval),
            any::<u32>().prop_map(Act::Generation),
            any::<(u32, u32, ThreadName)>().prop_map(|(thread, tid, name)| Act::Thread(thread, tid, name)),
            Just(Act::ThreadEnd),
        ]
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(acts in prop::collection::vec(act(), 0..40)) {
            let mut encoder = EventEncoder::new();
            let mut bytes = vec![0u8; 1 << 20];
            let mut len = 0;
            for (i, act) in acts.iter().enumerate() {
                let stamp = Nanos(10 * i as u64);
                let out = &mut bytes[len..];
                len += match act {
                    Act::Alloc(key, size, stack) => encoder.alloc(out, Birth { key: *key, stamp, size: *size, stack }),
                    Act::Free(key) => encoder.free(out, *key, stamp),
                    Act::Realloc(old, key, size, stack) => {
                        let birth = Birth { key: *key, stamp, size: *size, stack };
                        encoder.realloc(out, *old, Nanos(stamp.0.saturating_sub(5)), birth)
                    }
                    Act::Interval(bytes) => EventEncoder::interval(out, *bytes),
                    Act::Thread(thread, tid, name) => encoder.thread(out, ThreadIndex(*thread), *tid, stamp, name),
                    Act::ThreadEnd => encoder.thread_end(out, stamp),
                    Act::Generation(number) => encoder.generation(out, Generation(*number)),
                }.unwrap();
            }
            let mut input = &bytes[..len];
            let mut decoder = EventDecoder::default();
            for (i, act) in acts.iter().enumerate() {
                let at = Nanos(10 * i as u64);
                let event = decoder.next(&mut input).unwrap().unwrap();
                let leaf_first = || decoder.stack().iter().rev().copied().collect::<Vec<_>>();
                match (act, event) {
                    (Act::Alloc(k, s, f), Event::Alloc { key, stamp, size, .. }) => {
                        prop_assert_eq!((*k, *s, at, f.clone()), (key, size, stamp, leaf_first()));
                    }
                    (Act::Free(k), Event::Free { key, stamp }) => prop_assert_eq!((*k, at), (key, stamp)),
                    (Act::Realloc(o, k, s, f), Event::Realloc { key, old_key, stamp, old_stamp, size, .. }) => {
                        prop_assert_eq!((*o, *k, *s, at, f.clone()), (old_key, key, size, stamp, leaf_first()));
                        prop_assert_eq!(old_stamp, Nanos(at.0.saturating_sub(5)));
                    }
                    (Act::Interval(b), Event::Interval(bytes)) => prop_assert_eq!(*b, bytes),
                    (Act::Thread(t, k, n), Event::Thread { thread, tid, stamp, name }) => {
                        prop_assert_eq!((ThreadIndex(*t), *k, at, n), (thread, tid, stamp, &name));
                    }
                    (Act::ThreadEnd, Event::ThreadEnd { stamp }) => prop_assert_eq!(at, stamp),
                    (Act::Generation(g), Event::Generation(generation)) => {
                        prop_assert_eq!(Generation(*g), generation);
                        prop_assert!(decoder.stack().is_empty());
                    }
                    (act, event) => prop_assert!(false, "{:?} came back as {:?}", act, event),
                }
            }
            prop_assert_eq!(decoder.next(&mut input), Ok(None));
        }

        #[test]
        fn decoder_is_total(bytes: Vec<u8>) {
            let mut decoder = EventDecoder::default();
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            prop_assert!(decoder.stack().len() <= MAX_DEPTH + 1);
        }
    }

    #[test]
    fn no_room_changes_nothing() {
        let mut encoder = EventEncoder::new();
        let stack = [0x5000, 0x4000, 0x3000];
        let birth = |key| Birth { key, stamp: Nanos(7), size: 64, stack: &stack };
        assert_eq!(encoder.alloc(&mut [0; 6], birth(1)), None);
        let (mut a, mut b) = ([0; 64], [0; 64]);
        assert_eq!(encoder.alloc(&mut a, birth(1)), EventEncoder::new().alloc(&mut b, birth(1)));
        assert_eq!(a, b);
    }

    #[test]
    fn a_repeated_stack_costs_six_bytes() {
        let mut encoder = EventEncoder::new();
        let stack: Vec<u64> = (0..40).map(|i| 0x7f00_0000_0000 + i * 977).collect();
        let mut out = [0; 1024];
        let birth = |key, stamp| Birth { key, stamp: Nanos(stamp), size: 64, stack: &stack };
        encoder.alloc(&mut out, birth(0x1000, 1)).unwrap();
        assert_eq!(encoder.alloc(&mut out, birth(0x1010, 2)), Some(6));
    }
}
