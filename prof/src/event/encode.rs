//! The writing side of a stream.

use super::*;
use crate::varint::{self, zigzag};

/// The encoding side of one stream. It allocates nothing and cannot panic; all its bytes zero are a fresh one.
pub struct EventEncoder {
    stamp: u64,
    /// Frames of the last allocation's stack.
    depth: usize,
    /// The last site's place; 0: none yet.
    last: u16,
    /// The place of the site that followed it the time before; 0: none yet.
    expected: u16,
    /// Sites that have a number.
    numbered: u16,
    last_alloc: u64,
    last_free: u64,
    last_address: u64,
    keys: Keys,
    /// By [`place_of_key`]: where in the ring a key was put last.
    positions: [u8; POSITIONS],
    /// From 1 on; the first one is nobody's.
    sites: [Site; 1 + SITES],
    addresses: [u64; ADDRESSES],
}

const POSITIONS: usize = 1 << 10;

/// A way from one stack to the next.
#[derive(Clone, Copy)]
struct Site {
    /// Of the frames dropped and pushed; 0: there is none here yet.
    hash: u64,
    /// Of the last allocation.
    size: u64,
    /// As the stream says it, plus 1.
    number: u16,
    /// The place of the site that came next the last time; 0: none yet.
    next: u16,
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
    /// After the call; not before the stream's last stamp.
    pub stamp: Nanos,
    /// Requested bytes.
    pub size: u64,
    /// Outermost frames that the stack shares with the stream's last one.
    pub kept: usize,
    /// Return addresses of the other frames, outermost first; at most [`MAX_DEPTH`](crate::MAX_DEPTH) and
    /// [`TRUNCATED`](crate::TRUNCATED) in all.
    pub pushed: &'a [u64],
}

/// An odd number with bits in no order: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes that suffice for an event that is not a site's definition: a place among so many is one byte.
pub const LONGEST: usize = 256;

/// Bytes that suffice for a site's definition, beside [`LONGEST`], for each pushed address.
pub const ADDRESS: usize = 2 + varint::MAX_LEN;

#[inline]
fn place_of_key(key: u64) -> usize {
    (key.wrapping_mul(SPREAD) >> 54) as usize % POSITIONS
}

#[inline]
fn place_of_site(hash: u64) -> usize {
    1 + (hash >> 53) as usize % SITES
}

#[inline]
fn place_of_address(address: u64) -> usize {
    (address.wrapping_mul(SPREAD) >> 52) as usize % ADDRESSES
}

impl EventEncoder {
    /// An encoder whose last stack is empty.
    pub const fn new() -> EventEncoder {
        const NO_SITE: Site = Site { hash: 0, size: 0, number: 0, next: 0 };
        EventEncoder {
            stamp: 0,
            depth: 0,
            last: 0,
            expected: 0,
            numbered: 0,
            last_alloc: 0,
            last_free: 0,
            last_address: 0,
            keys: Keys::EMPTY,
            positions: [0; POSITIONS],
            sites: [NO_SITE; 1 + SITES],
            addresses: [0; ADDRESSES],
        }
    }

    /// The stream's last stamp.
    #[inline]
    pub fn stamp(&self) -> Nanos {
        Nanos(self.stamp)
    }

    /// Encodes an allocation at the start of `out` and returns the bytes taken. `None`: its site is to be
    /// [defined](Self::define) before, and nothing has changed.
    #[inline(always)]
    pub fn alloc(&mut self, out: &mut [u8; LONGEST], birth: &Birth) -> Option<usize> {
        let mut w = Cursor::new(out);
        let place = self.site(birth)?;
        self.birth(&mut w, place, birth);
        Some(w.len())
    }

    /// Encodes a free; as [`alloc`](Self::alloc).
    #[inline(always)]
    pub fn free(&mut self, out: &mut [u8; LONGEST], key: u64, stamp: Nanos) -> usize {
        let mut w = Cursor::new(out);
        // Before anything is written: that it is the last one again, where the caller says so, is then known.
        let later = self.later(stamp);
        let ago = self.ago(key);
        let tag = w.tag(FREE | ago.min(31) << FREE_AGO);
        w.key(ago, 31, key.wrapping_sub(self.last_free));
        self.last_free = key;
        self.put_stamp(&mut w, tag, later);
        w.len()
    }

    /// Encodes a realloc of the block `old_key`, stamped before the call; as [`alloc`](Self::alloc).
    #[inline]
    pub fn realloc(
        &mut self,
        out: &mut [u8; LONGEST],
        old_key: u64,
        old_stamp: Nanos,
        birth: &Birth,
    ) -> Option<usize> {
        let mut w = Cursor::new(out);
        let place = self.site(birth)?;
        w.byte(REALLOC);
        let ago = self.ago(old_key);
        w.byte(ago);
        if ago == 0 {
            w.number(fold(old_key.wrapping_sub(self.last_free)));
        }
        self.last_free = old_key;
        w.number(self.stamp.max(birth.stamp.0).saturating_sub(old_stamp.0));
        self.birth(&mut w, place, birth);
        Some(w.len())
    }

    /// Encodes a change of the sampling interval; as [`alloc`](Self::alloc).
    pub fn interval(out: &mut [u8; LONGEST], bytes: u64) -> usize {
        let mut w = Cursor::new(out);
        w.byte(INTERVAL);
        w.number(bytes);
        w.len()
    }

    /// Encodes a change of the module map; as [`alloc`](Self::alloc), but that the next stack shares no frames with the
    /// one before: an equal address may mean another function now.
    pub fn generation(&mut self, out: &mut [u8; LONGEST], generation: Generation) -> usize {
        let mut w = Cursor::new(out);
        self.depth = 0;
        w.byte(GENERATION);
        w.number(u64::from(generation.0));
        w.len()
    }

    /// Encodes that the stream has another thread now; as [`alloc`](Self::alloc).
    pub fn thread(
        &self,
        out: &mut [u8; LONGEST],
        thread: ThreadIndex,
        tid: u32,
        stamp: Nanos,
        name: &ThreadName,
    ) -> usize {
        let mut w = Cursor::new(out);
        w.byte(THREAD);
        w.number(u64::from(thread.0));
        w.number(u64::from(tid));
        w.number(stamp.0.saturating_sub(self.stamp));
        name.iter().for_each(|&byte| w.byte(byte));
        w.len()
    }

    /// Encodes that the stream's thread ends; as [`alloc`](Self::alloc).
    pub fn thread_end(&self, out: &mut [u8; LONGEST], stamp: Nanos) -> usize {
        let mut w = Cursor::new(out);
        w.byte(THREAD_END);
        w.number(stamp.0.saturating_sub(self.stamp));
        w.len()
    }

    /// Encodes the definition of the site of `birth`, which is to be the next allocation. `None`: `out` has not room for
    /// [`LONGEST`] bytes and [`ADDRESS`] for each pushed address, and nothing has changed.
    #[cold]
    #[inline(never)]
    pub fn define(&mut self, out: &mut [u8], birth: &Birth) -> Option<usize> {
        if out.len() < LONGEST + ADDRESS * birth.pushed.len() {
            return None;
        }
        let (hash, dropped) = self.way(birth);
        let place = place_of_site(hash);
        let site = &mut self.sites[place];
        if site.number == 0 {
            self.numbered += 1;
            site.number = self.numbered;
        }
        *site = Site { hash, size: 0, number: site.number, next: 0 };
        self.expected = place as u16;
        let mut w = Cursor::new(out.first_chunk_mut()?);
        w.byte(SITE);
        w.number(u64::from(site.number - 1));
        w.number(dropped as u64);
        w.number(birth.pushed.len() as u64);
        let mut len = w.len();
        for &address in birth.pushed {
            let mut w = Cursor::new(out.get_mut(len..)?.first_chunk_mut()?);
            let place = place_of_address(address);
            let known = &mut self.addresses[place];
            if *known == address {
                w.pair(place as u16 * 2);
            } else {
                *known = address;
                w.pair(place as u16 * 2 + 1);
                w.number(zigzag(address.wrapping_sub(self.last_address)));
                self.last_address = address;
            }
            len += w.len();
        }
        Some(len)
    }

    /// What names the way from the last stack to the next, and how many frames it drops.
    #[inline(always)]
    fn way(&self, birth: &Birth) -> (u64, usize) {
        let dropped = self.depth.saturating_sub(birth.kept);
        let mut hash = (dropped as u64).wrapping_mul(SPREAD);
        for address in birth.pushed {
            hash = (hash.rotate_left(23) ^ address).wrapping_mul(SPREAD);
        }
        (hash | 1, dropped)
    }

    /// The place of the site that leads from the last stack to the next, where it is defined.
    #[inline(always)]
    fn site(&mut self, birth: &Birth) -> Option<usize> {
        let (hash, _) = self.way(birth);
        let place = place_of_site(hash);
        if self.sites[place].hash != hash {
            return None;
        }
        self.depth = birth.kept + birth.pushed.len();
        Some(place)
    }

    /// The allocation itself, at the site in `place`.
    #[inline(always)]
    fn birth(&mut self, w: &mut Cursor, place: usize, birth: &Birth) {
        let ago = self.ago(birth.key);
        let follows = place as u16;
        let site = &mut self.sites[place];
        let tag = w.tag(ALLOC_NEXT | SAME_SIZE | ago.min(15) << ALLOC_AGO);
        if self.expected != follows {
            w.change(tag, ALLOC_NEXT ^ ALLOC_SITE);
            w.number(u64::from(site.number - 1));
        }
        w.key(ago, 15, birth.key.wrapping_sub(self.last_alloc));
        if site.size != birth.size {
            site.size = birth.size;
            w.change(tag, SAME_SIZE);
            w.number(birth.size);
        }
        let next = site.next;
        self.last_alloc = birth.key;
        self.put_stamp(w, tag, self.later(birth.stamp));
        if let Some(last) = self.sites.get_mut(usize::from(self.last)) {
            last.next = follows;
        }
        self.last = follows;
        self.expected = next;
    }

    /// How much later than the last one a stamp is, where it is.
    #[inline(always)]
    fn later(&self, stamp: Nanos) -> Option<u64> {
        (stamp.0 > self.stamp).then(|| stamp.0.wrapping_sub(self.stamp))
    }

    #[inline(always)]
    fn put_stamp(&mut self, w: &mut Cursor, tag: Tag, later: Option<u64>) {
        if let Some(later) = later {
            w.change(tag, STAMPED);
            w.number(later);
            self.stamp += later;
        }
    }

    /// How many keys ago the key was seen, 0 where not lately; and puts it into the ring.
    #[inline(always)]
    fn ago(&mut self, key: u64) -> u8 {
        let position = &mut self.positions[place_of_key(key)];
        let at = std::mem::replace(position, self.keys.next);
        let is_there = self.keys.ring[usize::from(at)] == key;
        let ago = if is_there { self.keys.next.wrapping_sub(at) } else { 0 };
        self.keys.push(key);
        ago
    }
}

/// Where an event's tag stands.
#[derive(Clone, Copy)]
struct Tag(u8);

/// Writes an event.
struct Cursor<'a> {
    out: &'a mut [u8; LONGEST],
    at: u8,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn new(out: &'a mut [u8; LONGEST]) -> Cursor<'a> {
        Cursor { out, at: 0 }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        usize::from(self.at)
    }

    #[inline(always)]
    fn byte(&mut self, value: u8) {
        self.out[usize::from(self.at)] = value;
        self.at = self.at.wrapping_add(1);
    }

    /// Writes a tag, which may still change.
    #[inline(always)]
    fn tag(&mut self, value: u8) -> Tag {
        let tag = Tag(self.at);
        self.byte(value);
        tag
    }

    /// Turns bits of a tag over.
    #[inline(always)]
    fn change(&mut self, tag: Tag, bits: u8) {
        self.out[usize::from(tag.0)] ^= bits;
    }

    #[inline]
    fn pair(&mut self, value: u16) {
        let [low, high] = value.to_le_bytes();
        self.byte(low);
        self.byte(high);
    }

    #[inline(always)]
    fn number(&mut self, mut value: u64) {
        // Most numbers have one byte or two.
        if value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
            while value >= 0x80 {
                self.byte(value as u8 | 0x80);
                value >>= 7;
            }
        }
        self.byte(value as u8);
    }

    /// Writes a key that was seen `ago` keys ago, of which the tag says up to `most` - 1: one byte, or where it has not
    /// been seen lately the difference to another.
    #[inline(always)]
    fn key(&mut self, ago: u8, most: u8, difference: u64) {
        if ago == 0 {
            self.number(fold(difference));
        } else if ago >= most {
            self.byte(ago);
        }
    }
}
