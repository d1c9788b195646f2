//! The reading side of a stream.

use super::*;
use crate::MAX_DEPTH;
use crate::varint::{self, unzigzag};

/// The reading side of one stream.
#[derive(Clone, Debug)]
pub struct EventDecoder {
    stamp: u64,
    /// Frames of the last allocation's stack.
    depth: usize,
    sites: Vec<Site>,
    /// The last site, once there is one.
    last: Option<u16>,
    /// The site that followed it the time before.
    expected: Option<u16>,
    last_alloc: u64,
    last_free: u64,
    last_address: u64,
    keys: Keys,
    /// As far as used.
    addresses: Vec<u64>,
}

/// See [`EventEncoder`]'s.
#[derive(Clone, Debug, Default)]
struct Site {
    dropped: usize,
    pushed: Vec<u64>,
    size: u64,
    next: Option<u16>,
    is_defined: bool,
}

impl Default for EventDecoder {
    fn default() -> Self {
        EventDecoder {
            stamp: 0,
            depth: 0,
            sites: Vec::new(),
            last: None,
            expected: None,
            last_alloc: 0,
            last_free: 0,
            last_address: 0,
            keys: Keys::EMPTY,
            addresses: Vec::new(),
        }
    }
}

/// An allocation.
struct Birth {
    key: u64,
    stamp: Nanos,
    size: u64,
    kept: usize,
    site: u16,
}

impl EventDecoder {
    /// The addresses of a site: what is on the stack's kept frames after an allocation there, outermost first. Where
    /// the outermost frame of all is [`TRUNCATED`](crate::TRUNCATED), those beyond it are not known.
    #[inline]
    pub fn pushed(&self, site: u16) -> &[u64] {
        self.sites.get(usize::from(site)).map_or(&[], |site| &site.pushed)
    }

    /// How many numbers of sites have been given away.
    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    /// Takes the next event off the front of `input`; `None` at its end.
    ///
    /// # Errors
    /// What is wrong with the first event of `input`; the stream cannot be read on from there.
    #[inline(always)]
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, &'static str> {
        let Some((&tag, rest)) = input.split_first() else { return Ok(None) };
        *input = rest;
        let event = match tag & KIND {
            FREE => self.free(tag, input),
            ALLOC_NEXT | ALLOC_SITE => self.birth(tag, input).map(|b| Event::Alloc {
                key: b.key,
                stamp: b.stamp,
                size: b.size,
                kept: b.kept,
                site: b.site,
            }),
            _ if tag > THREAD_END => return Err("unknown event kind"),
            _ => {
                // A copy, so that where the input starts need not be kept in memory for the others.
                let mut rest = *input;
                let event = self.other(tag, &mut rest);
                *input = rest;
                event
            }
        };
        event.map(Some).ok_or("malformed event")
    }

    #[inline(always)]
    fn free(&mut self, tag: u8, input: &mut &[u8]) -> Option<Event> {
        let key = match tag >> FREE_AGO {
            0 => self.last_free.wrapping_add(unfold(varint::take_long(input)?)),
            31 => self.key_ago(take_byte(input)?),
            ago => self.key_ago(ago),
        };
        self.last_free = key;
        self.keys.push(key);
        Some(Event::Free { key, stamp: self.take_stamp(tag, input)? })
    }

    #[inline(always)]
    fn birth(&mut self, tag: u8, input: &mut &[u8]) -> Option<Birth> {
        let number = match tag & KIND {
            ALLOC_NEXT => self.expected?,
            _ => varint::take(input)?.try_into().ok()?,
        };
        let key = match tag >> ALLOC_AGO {
            0 => self.last_alloc.wrapping_add(unfold(varint::take_long(input)?)),
            15 => self.key_ago(take_byte(input)?),
            ago => self.key_ago(ago),
        };
        self.last_alloc = key;
        self.keys.push(key);
        let site = self.sites.get_mut(usize::from(number)).filter(|site| site.is_defined)?;
        if tag & SAME_SIZE == 0 {
            site.size = varint::take_short(input)?;
        }
        let size = site.size;
        let kept = self.depth.checked_sub(site.dropped)?;
        self.depth = kept + site.pushed.len();
        if self.depth > MAX_DEPTH + 1 {
            return None;
        }
        // The site that came next is asked before it is said anew: a site may follow itself.
        let next = site.next;
        if let Some(last) = self.last {
            self.sites.get_mut(usize::from(last))?.next = Some(number);
        }
        self.last = Some(number);
        self.expected = next;
        Some(Birth { key, stamp: self.take_stamp(tag, input)?, size, kept, site: number })
    }

    #[cold]
    #[inline(never)]
    fn other(&mut self, tag: u8, input: &mut &[u8]) -> Option<Event> {
        match tag {
            SITE => self.site(input),
            REALLOC => self.realloc(input),
            INTERVAL => varint::take(input).map(Event::Interval),
            GENERATION => {
                self.depth = 0;
                let number = varint::take(input).and_then(|n| u32::try_from(n).ok());
                number.map(|n| Event::Generation(Generation(n)))
            }
            THREAD => self.thread(input),
            THREAD_END => self.peek_stamp(input).map(|stamp| Event::ThreadEnd { stamp }),
            _ => None,
        }
    }

    fn site(&mut self, input: &mut &[u8]) -> Option<Event> {
        let number = u16::try_from(varint::take(input)?).ok()?;
        let at = usize::from(number);
        let dropped = usize::try_from(varint::take(input)?).ok()?;
        let count = usize::try_from(varint::take(input)?).ok()?;
        if at >= SITES || count > MAX_DEPTH + 1 {
            return None;
        }
        if self.sites.len() <= at {
            self.sites.resize(at + 1, Site::default());
        }
        let mut pushed = std::mem::take(&mut self.sites.get_mut(at)?.pushed);
        pushed.clear();
        for _ in 0..count {
            pushed.push(self.address(input)?);
        }
        *self.sites.get_mut(at)? = Site { dropped, pushed, size: 0, next: None, is_defined: true };
        self.expected = Some(number);
        Some(Event::Site(number))
    }

    fn address(&mut self, input: &mut &[u8]) -> Option<u64> {
        let (pair, rest) = input.split_first_chunk::<2>()?;
        *input = rest;
        let code = u16::from_le_bytes(*pair);
        let place = usize::from(code / 2);
        if place >= ADDRESSES {
            return None;
        }
        if code & 1 == 0 {
            return Some(self.addresses.get(place).copied().unwrap_or(0));
        }
        if self.addresses.len() <= place {
            self.addresses.resize(place + 1, 0);
        }
        self.last_address = self.last_address.wrapping_add(unzigzag(varint::take_long(input)?));
        *self.addresses.get_mut(place)? = self.last_address;
        Some(self.last_address)
    }

    fn realloc(&mut self, input: &mut &[u8]) -> Option<Event> {
        let old_key = match take_byte(input)? {
            0 => self.last_free.wrapping_add(unfold(varint::take_long(input)?)),
            ago => self.key_ago(ago),
        };
        self.last_free = old_key;
        self.keys.push(old_key);
        let back = varint::take(input)?;
        let tag = take_byte(input).filter(|tag| matches!(tag & KIND, ALLOC_NEXT | ALLOC_SITE))?;
        let Birth { key, stamp, size, kept, site } = self.birth(tag, input)?;
        let old_stamp = Nanos(stamp.0.saturating_sub(back));
        Some(Event::Realloc { key, old_key, stamp, old_stamp, size, kept, site })
    }

    fn thread(&self, input: &mut &[u8]) -> Option<Event> {
        let thread = ThreadIndex(varint::take(input)?.try_into().ok()?);
        let tid = varint::take(input)?.try_into().ok()?;
        let stamp = self.peek_stamp(input)?;
        let (name, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(Event::Thread { thread, tid, stamp, name: *name })
    }

    #[inline(always)]
    fn key_ago(&self, ago: u8) -> u64 {
        self.keys.ring[usize::from(self.keys.next.wrapping_sub(ago))]
    }

    #[inline(always)]
    fn take_stamp(&mut self, tag: u8, input: &mut &[u8]) -> Option<Nanos> {
        if tag & STAMPED != 0 {
            self.stamp = self.peek_stamp(input)?.0;
        }
        Some(Nanos(self.stamp))
    }

    #[inline]
    fn peek_stamp(&self, input: &mut &[u8]) -> Option<Nanos> {
        Some(Nanos(self.stamp.wrapping_add(varint::take_short(input)?)))
    }
}

#[inline(always)]
fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}
