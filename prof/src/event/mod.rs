//! What threads saw, encoded by themselves while it happens.
//!
//! A stream belongs to one thread at a time; when that ends, another thread goes on with it. Every event is a difference
//! to what the stream said before, so a stream is read from its start, in order. Both sides keep the same small state:
//!
//! - the *stack* of the last allocation, outermost frame first;
//! - *sites*, numbered from 0: ways to get from one allocation's stack to the next one's, by dropping some innermost
//!   frames and pushing others; with each the size of its last allocation, and the site that came after it last time;
//! - *addresses*, 4096 places with return addresses that have been pushed before;
//! - *keys*, the last 256 of them in a ring. A key names a block: its address where every allocation is recorded, a
//!   number that is never reused where allocations are sampled.
//!
//! An event begins with a tag; numbers after it are LEB128, `±` marks zigzag differences:
//!
//! ```text
//! bits 1…0   0  Free
//!            1  Alloc at the site that followed the last one the time before
//!            2  Alloc at a site that is given
//!            3  other, see below
//! bit  2     a stamp is given; else it is the last one
//! Free       bits 7…3   how many keys ago this one was seen: 1…30, 31: one byte says, 0: not lately
//! Alloc      bit  3     of the size that the site's last allocation had
//!            bits 7…4   how many keys ago: 1…14, 15: one byte says, 0: not lately
//! then       [site]  [keys ago: 1 byte | ±key]  [size]  [stamp−last]      each where the tag says so
//!
//! 3 | n << 3, n = 0  Site        site  frames dropped  frames pushed  address × pushed
//!                1  Realloc     keys ago, 0: ±old_key  stamp−old_stamp  then the Alloc of the new block
//!                2  Interval    mean bytes between samples from here on; 1: every allocation is recorded
//!                3  Generation  of the module map that the addresses from here on belong to; the stack is empty then
//!                4  Thread      thread  tid  stamp−last  name bytes × 16: the thread that the events from here on are of
//!                5  ThreadEnd   stamp−last; this one and the thread's do not become the last stamp
//! ```
//!
//! - A site is defined before its first allocation, and again where its number has been given away; it is then the site
//!   that the next allocation follows.
//! - `±key` is a difference to the last key of the same kind of event, as `fold` writes it: the sign in the lowest bit, and
//!   the magnitude's lowest three bits above all others.
//! - An address is two bytes, its place × 2; where the place does not hold it yet, 1 is added and `±address` follows, a
//!   difference to the last address that was given so.
//!
//! Stamps are taken after the call that allocated, and before the call that frees; a realloc carries both. So the
//! order of the stamps of one key is the order in which the blocks lived. While a process has but one stream its order
//! says that already, and stamps may be given less often.

mod encode;
mod decode;

pub use decode::EventDecoder;
pub use encode::{ADDRESS, Birth, EventEncoder, LONGEST};

use crate::ids::{Generation, Nanos, ThreadIndex};
use std::borrow::Cow;

const FREE: u8 = 0;
const ALLOC_NEXT: u8 = 1;
const ALLOC_SITE: u8 = 2;
const OTHER: u8 = 3;
const KIND: u8 = 3;
const STAMPED: u8 = 1 << 2;
const SAME_SIZE: u8 = 1 << 3;
const FREE_AGO: u32 = 3;
const ALLOC_AGO: u32 = 4;

const SITE: u8 = OTHER;
const REALLOC: u8 = OTHER | 1 << 3;
const INTERVAL: u8 = OTHER | 2 << 3;
const GENERATION: u8 = OTHER | 3 << 3;
const THREAD: u8 = OTHER | 4 << 3;
const THREAD_END: u8 = OTHER | 5 << 3;

/// Sites that a stream can have at a time.
const SITES: usize = 1 << 11;

/// Places for addresses.
const ADDRESSES: usize = 1 << 12;

/// Keys in the ring; a position in it is one byte.
const KEYS: usize = 256;

/// A thread's name as the kernel keeps it: up to 15 bytes and a zero.
pub type ThreadName = [u8; 16];

/// As text.
pub fn name_text(name: &ThreadName) -> Cow<'_, str> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or(name))
}

/// One event. The stack of an allocation is the outermost `kept` frames of the stream's previous one, and on them the
/// addresses of its site: [`EventDecoder::pushed`].
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
        /// The site that led here: as long as its number is not defined anew, from one stack it always leads to the same
        /// other one.
        site: u16,
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
        /// As for [`Event::Alloc`].
        site: u16,
    },
    /// This site is another from here on.
    Site(u16),
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

/// The last keys, in a ring.
#[derive(Clone, Copy, Debug)]
struct Keys {
    ring: [u64; KEYS],
    /// The place of the next key.
    next: u8,
}

impl Keys {
    const EMPTY: Keys = Keys { ring: [0; KEYS], next: 0 };

    #[inline]
    fn push(&mut self, key: u64) {
        self.ring[usize::from(self.next)] = key;
        self.next = self.next.wrapping_add(1);
    }
}

/// A difference between keys, which are addresses of blocks and so mostly multiples of 8: short where it is small, of
/// either sign, and such a multiple.
#[inline]
fn fold(difference: u64) -> u64 {
    let sign = (difference as i64 >> 63) as u64;
    let magnitude = difference ^ sign ^ sign & 7;
    (magnitude >> 3 | (magnitude & 7) << 60) << 1 | sign & 1
}

/// The inverse of [`fold`].
#[inline]
fn unfold(code: u64) -> u64 {
    let sign = (code & 1).wrapping_neg();
    let folded = code >> 1;
    let magnitude = (folded << 3 | folded >> 60) & (u64::MAX >> 1);
    magnitude ^ sign ^ sign & 7
}

#[cfg(test)]
mod tests;
