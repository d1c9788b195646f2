//! Writes what is measured of the process as a whole, as far as it has changed.

use super::held::Held;
use super::mappings::Mappings;
use crate::own_thread;
use crate::vitals::{self, Arena, Pace, Reading, process};
use prof::record::Vital;
use prof::{Nanos, Record, RecordWriter};
use rustc_hash::FxHashMap;
use std::path::Path;

/// Flushes are a second apart, not quite.
const SHORTEST: Nanos = Nanos(900_000_000);

/// A look at the process may cost this part of the time until the next.
const SHARE: u64 = 10_000;

/// What the file says.
#[derive(Default)]
pub struct Vitals {
    values: FxHashMap<Vital, u64>,
    arenas: FxHashMap<u32, Arena>,
    /// When the process is to be looked at.
    pace: Option<Pace>,
}

impl Vitals {
    /// Appends what has been found since the last time; where the stream ends, with a look at the process. That is stated as of
    /// `time`: the file is complete up to then, and what is stated of a later moment would not be believed.
    pub fn push(
        &mut self,
        records: &mut RecordWriter,
        time: Nanos,
        is_end: bool,
        mappings: &Mappings,
        held: &Held,
    ) {
        for reading in vitals::readings() {
            self.write(records, reading);
        }
        let mut values = vec![(Vital::Mapped, mappings.bytes()), (Vital::ThreadStacks, held.stack_bytes())];
        let pace = self.pace.get_or_insert_with(|| vitals::paced(SHORTEST, SHARE));
        if is_end || pace.is_due(time) {
            let own = own_thread::running();
            pace.measure(|| values.extend(process::read(Path::new("/proc/self"), own)));
        }
        self.write(records, Reading { time, values, arenas: Vec::new() });
    }

    fn write(&mut self, records: &mut RecordWriter, reading: Reading) {
        let Reading { time, mut values, arenas } = reading;
        values.retain(|&(vital, value)| self.values.insert(vital, value) != Some(value));
        if !values.is_empty() {
            records.push(&Record::Vitals { time, values });
        }
        for arena in arenas {
            if self.arenas.insert(arena.number, arena) != Some(arena) {
                let Arena { number, system, free } = arena;
                records.push(&Record::Arena { time, arena: number, system, free });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_written() {
        let mut vitals = Vitals::default();
        let mut records = RecordWriter::new(Nanos(9));
        let arena = |free| Arena { number: 1, system: 10, free };
        let mut write = |time, swap, free| {
            let values = vec![(Vital::Swap, swap), (Vital::Uss, 5)];
            vitals.write(&mut records, Reading { time: Nanos(time), values, arenas: vec![arena(free)] });
        };
        write(1, 0, 3);
        write(2, 0, 3);
        write(3, 1, 4);
        let all: Vec<_> = prof::Records::new(Nanos(9), records.payload()).map(Result::unwrap).collect();
        let vitals = |time, values: &[_]| Record::Vitals { time: Nanos(time), values: values.to_vec() };
        let arena = |time, free| Record::Arena { time: Nanos(time), arena: 1, system: 10, free };
        let expected = [
            vitals(1, &[(Vital::Swap, 0), (Vital::Uss, 5)]),
            arena(1, 3),
            vitals(3, &[(Vital::Swap, 1)]),
            arena(3, 4),
        ];
        assert_eq!(all, expected);
    }
}
