//! Reading records.

use super::*;
use crate::varint::{self, unzigzag};

/// Iterates over the records of one payload, and ends after the first that cannot be read.
#[derive(Debug)]
pub struct Records<'a> {
    time: Nanos,
    address: u64,
    payload_len: usize,
    rest: &'a [u8],
}

/// A record that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// Bytes from the start of the payload.
    pub at: usize,
    /// The kind byte, where it is not one of ours.
    pub unknown_kind: Option<u8>,
}

impl<'a> Records<'a> {
    /// The records of a block that was written at `time`.
    pub fn new(time: Nanos, payload: &'a [u8]) -> Records<'a> {
        Records { time, address: 0, payload_len: payload.len(), rest: payload }
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, Option<u8>> {
        let Some((&kind, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let record = match kind {
            FACT => self.fact(),
            MODULE => self.module(),
            MODULE_GONE => self.module_gone(),
            THREAD => self.thread(),
            THREAD_END => self.thread_end(),
            GENERATION => self.id().map(|id| Record::Generation(Generation(id))),
            NODE => self.node(),
            SAMPLE => self.sample(),
            FREED => self.freed(),
            FOLDED => self.folded(),
            LOST => self.lost(),
            MARK => self.mark(),
            COMPLETE => self.age().map(|time| Record::Complete { time }),
            INTERVAL => self.interval(),
            FORK => self.fork(),
            SEGMENT => self.segment(),
            VITALS => self.vitals(),
            ARENA => self.arena(),
            HELD => self.held(),
            END => self.text().map(|reason| Record::End { reason }),
            other => return Err(Some(other)),
        };
        record.map(Some).ok_or(None)
    }

    fn fact(&mut self) -> Option<Record<'a>> {
        Some(Record::Fact { key: self.text()?, value: self.text()? })
    }

    fn module(&mut self) -> Option<Record<'a>> {
        let (id, generation, bias) = (ModuleId(self.id()?), Generation(self.id()?), self.number()?);
        let identity = match self.number()? {
            0 => Identity::Unknown,
            1 => Identity::BuildId(self.bytes()?),
            2 => Identity::Content(self.number()?),
            _ => return None,
        };
        let path = self.text()?;
        let ranges = self.pairs()?;
        Some(Record::Module { id, generation, bias, identity, path, ranges })
    }

    fn module_gone(&mut self) -> Option<Record<'a>> {
        Some(Record::ModuleGone { id: ModuleId(self.id()?), generation: Generation(self.id()?) })
    }

    fn thread(&mut self) -> Option<Record<'a>> {
        let (thread, tid) = (ThreadIndex(self.id()?), self.id()?);
        Some(Record::Thread { thread, tid, start: self.age()?, name: self.text()? })
    }

    fn thread_end(&mut self) -> Option<Record<'a>> {
        Some(Record::ThreadEnd { thread: ThreadIndex(self.id()?), time: self.age()? })
    }

    fn node(&mut self) -> Option<Record<'a>> {
        let parent = NodeId(self.id()?);
        self.address = self.address.wrapping_add(unzigzag(self.number()?));
        Some(Record::Node { parent, address: self.address })
    }

    fn sample(&mut self) -> Option<Record<'a>> {
        let (node, thread, time) = (NodeId(self.id()?), ThreadIndex(self.id()?), self.age()?);
        Some(Record::Sample { node, thread, time, size: self.number()?, interval: self.number()? })
    }

    fn freed(&mut self) -> Option<Record<'a>> {
        Some(Record::Freed { sample: self.number()?, time: self.age()? })
    }

    fn folded(&mut self) -> Option<Record<'a>> {
        Some(Record::Folded { node: NodeId(self.id()?), blocks: self.float()?, bytes: self.float()? })
    }

    fn lost(&mut self) -> Option<Record<'a>> {
        let code = self.number()?;
        let reason = Lost::ALL.into_iter().find(|reason| reason.code() == code)?;
        Some(Record::Lost { reason, events: self.number()? })
    }

    fn interval(&mut self) -> Option<Record<'a>> {
        Some(Record::Interval { time: self.age()?, bytes: self.number()? })
    }

    fn fork(&mut self) -> Option<Record<'a>> {
        let time = self.age()?;
        let (&run, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(Record::Fork { time, run, path: self.text()?, bytes: self.number()? })
    }

    fn vitals(&mut self) -> Option<Record<'a>> {
        let time = self.age()?;
        let pairs = self.pairs()?.into_iter();
        let values = pairs.filter_map(|(code, value)| Some((Vital::of_code(code)?, value))).collect();
        Some(Record::Vitals { time, values })
    }

    fn arena(&mut self) -> Option<Record<'a>> {
        let (time, arena) = (self.age()?, self.id()?);
        Some(Record::Arena { time, arena, system: self.number()?, free: self.number()? })
    }

    fn held(&mut self) -> Option<Record<'a>> {
        let code = self.number()?;
        let resource = Resource::ALL.into_iter().find(|resource| resource.code() == code)?;
        let (node, time) = (NodeId(self.id()?), self.age()?);
        let (acquired, released, bytes) = (self.number()?, self.number()?, self.number()?);
        Some(Record::Held { resource, node, time, acquired, released, bytes })
    }

    fn segment(&mut self) -> Option<Record<'a>> {
        let (time, number, path) = (self.age()?, self.number()?, self.text()?);
        Some(Record::Segment { time, number, path, blocks: self.number()?, bytes: self.number()? })
    }

    fn mark(&mut self) -> Option<Record<'a>> {
        Some(Record::Mark { time: self.age()?, name: self.text()? })
    }

    /// A count, and as many pairs. Each takes two bytes at least: a count beyond that is a lie, not a reason to allocate.
    fn pairs(&mut self) -> Option<Vec<(u64, u64)>> {
        let count = self.number()?;
        if count > self.rest.len() as u64 / 2 {
            return None;
        }
        (0..count).map(|_| Some((self.number()?, self.number()?))).collect()
    }

    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.rest)
    }

    fn id(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn age(&mut self) -> Option<Nanos> {
        self.time.0.checked_sub(self.number()?).map(Nanos)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Finite and not negative: a sum of estimates.
    fn float(&mut self) -> Option<f32> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(f32::from_le_bytes(*bytes)).filter(|value| value.is_finite() && *value >= 0.0)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.payload_len - self.rest.len();
        match self.read() {
            Ok(record) => record.map(Ok),
            Err(unknown_kind) => {
                self.rest = &[];
                Some(Err(BadRecord { at, unknown_kind }))
            }
        }
    }
}
