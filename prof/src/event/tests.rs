use super::*;
use crate::MAX_DEPTH;
use proptest::prelude::*;

/// What a thread did, with absolute values: what must come out of the decoder. Stacks are outermost frame first.
#[derive(Clone, Debug)]
enum Act {
    Alloc { key: u64, size: u64, stack: Vec<u64> },
    Free { key: u64 },
    Realloc { key: u64, old_key: u64, size: u64, stack: Vec<u64> },
    Interval(u64),
    Generation(u32),
    Thread(u32, u32, ThreadName),
    ThreadEnd,
}

fn stack() -> impl Strategy<Value = Vec<u64>> {
    // Few distinct addresses, so that stacks share outer frames and sites come again.
    prop_oneof![
        4 => prop::collection::vec(0x40_0000u64..0x40_0004, 0..6),
        1 => prop::collection::vec(any::<u64>(), 0..20),
    ]
}

fn key() -> impl Strategy<Value = u64> {
    // Near and far, seen lately and not.
    prop_oneof![(0..400u64).prop_map(|n| 0x55_5500 + 16 * (n % 7) * (n / 7)), any::<u64>()]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(64), any::<u64>()]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (key(), size(), stack()).prop_map(|(key, size, stack)| Act::Alloc { key, size, stack }),
        6 => key().prop_map(|key| Act::Free { key }),
        2 => (key(), key(), size(), stack())
            .prop_map(|(key, old_key, size, stack)| Act::Realloc { key, old_key, size, stack }),
        1 => any::<u64>().prop_map(Act::Interval),
        1 => any::<u32>().prop_map(Act::Generation),
        1 => any::<(u32, u32, ThreadName)>().prop_map(|(thread, tid, name)| Act::Thread(thread, tid, name)),
        1 => Just(Act::ThreadEnd),
    ]
}

/// Encodes acts one after the other, as a thread does.
struct Log {
    encoder: Box<EventEncoder>,
    stack: Vec<u64>,
    bytes: Vec<u8>,
}

impl Log {
    fn new() -> Log {
        Log { encoder: Box::new(EventEncoder::new()), stack: Vec::new(), bytes: Vec::new() }
    }

    /// A birth of which the encoder is told at most `most` kept frames.
    fn birth<'a>(&mut self, key: u64, stamp: Nanos, size: u64, stack: &'a [u64], most: usize) -> Birth<'a> {
        let kept = self.stack.iter().zip(stack).take_while(|(a, b)| a == b).count().min(most);
        self.stack = stack.to_vec();
        Birth { key, stamp, size, kept, pushed: &stack[kept..] }
    }

    /// Appends a birth's event, its site's definition before it where that is new.
    fn born(
        &mut self,
        birth: &Birth,
        encode: impl Fn(&mut EventEncoder, &mut [u8; LONGEST], &Birth) -> Option<usize>,
    ) -> usize {
        let mut out = [0; LONGEST];
        let before = self.bytes.len();
        let len = encode(&mut self.encoder, &mut out, birth).unwrap_or_else(|| {
            let mut site = vec![0; LONGEST + ADDRESS * birth.pushed.len()];
            let len = self.encoder.define(&mut site, birth).unwrap();
            self.bytes.extend_from_slice(&site[..len]);
            encode(&mut self.encoder, &mut out, birth).unwrap()
        });
        self.bytes.extend_from_slice(&out[..len]);
        self.bytes.len() - before
    }

    fn push(&mut self, act: &Act, stamp: Nanos, most: usize) -> usize {
        let mut out = [0; LONGEST];
        let len = match act {
            Act::Alloc { key, size, stack } => {
                let birth = self.birth(*key, stamp, *size, stack, most);
                return self.born(&birth, |encoder, out, birth| encoder.alloc(out, birth));
            }
            Act::Realloc { key, old_key, size, stack } => {
                let birth = self.birth(*key, stamp, *size, stack, most);
                let old_stamp = Nanos(stamp.0.saturating_sub(5));
                return self
                    .born(&birth, |encoder, out, birth| encoder.realloc(out, *old_key, old_stamp, birth));
            }
            Act::Free { key } => self.encoder.free(&mut out, *key, stamp),
            Act::Interval(bytes) => EventEncoder::interval(&mut out, *bytes),
            Act::Thread(thread, tid, name) => {
                self.encoder.thread(&mut out, ThreadIndex(*thread), *tid, stamp, name)
            }
            Act::ThreadEnd => self.encoder.thread_end(&mut out, stamp),
            Act::Generation(number) => {
                self.stack.clear();
                self.encoder.generation(&mut out, Generation(*number))
            }
        };
        self.bytes.extend_from_slice(&out[..len]);
        len
    }
}

/// Decodes, and keeps the stack.
#[derive(Default)]
struct Playback {
    decoder: EventDecoder,
    stack: Vec<u64>,
}

impl Playback {
    fn any(&mut self, input: &mut &[u8]) -> Result<Option<Event>, &'static str> {
        let event = self.decoder.next(input)?;
        match event {
            Some(Event::Generation(_)) => self.stack.clear(),
            Some(Event::Alloc { kept, site, .. } | Event::Realloc { kept, site, .. }) => {
                assert!(kept <= self.stack.len());
                self.stack.truncate(kept);
                self.stack.extend_from_slice(self.decoder.pushed(site));
            }
            _ => {}
        }
        Ok(event)
    }

    /// The next event that is not a site's definition.
    fn next(&mut self, input: &mut &[u8]) -> Option<Event> {
        loop {
            match self.any(input).unwrap() {
                Some(Event::Site(_)) => {}
                other => return other,
            }
        }
    }
}

proptest! {
    #[test]
    fn decodes_what_was_encoded(acts in prop::collection::vec((act(), 0..8usize, 0..3u64), 0..300)) {
        let mut log = Log::new();
        let mut stamps = Vec::new();
        let mut stamp = 0;
        for (act, most, later) in &acts {
            stamp += later * 7;
            stamps.push(Nanos(stamp));
            log.push(act, Nanos(stamp), *most);
        }
        let mut input = &log.bytes[..];
        let mut playback = Playback::default();
        for ((act, ..), at) in acts.iter().zip(stamps) {
            match (act, playback.next(&mut input).unwrap()) {
                (Act::Alloc { key: k, size: s, stack }, Event::Alloc { key, stamp, size, .. }) => {
                    prop_assert_eq!((*k, *s, at, &stack[..]), (key, size, stamp, &playback.stack[..]));
                }
                (Act::Free { key: k }, Event::Free { key, stamp }) => prop_assert_eq!((*k, at), (key, stamp)),
                (
                    Act::Realloc { key: k, old_key: o, size: s, stack },
                    Event::Realloc { key, old_key, stamp, old_stamp, size, .. },
                ) => {
                    prop_assert_eq!((*o, *k, *s, at, &stack[..]), (old_key, key, size, stamp, &playback.stack[..]));
                    prop_assert_eq!(old_stamp, Nanos(at.0.saturating_sub(5)));
                }
                (Act::Interval(b), Event::Interval(bytes)) => prop_assert_eq!(*b, bytes),
                (Act::Thread(t, k, n), Event::Thread { thread, tid, stamp, name }) => {
                    prop_assert_eq!((ThreadIndex(*t), *k, at, n), (thread, tid, stamp, &name));
                }
                (Act::ThreadEnd, Event::ThreadEnd { stamp }) => prop_assert_eq!(at, stamp),
                (Act::Generation(g), Event::Generation(generation)) => {
                    prop_assert_eq!(Generation(*g), generation);
                    prop_assert!(playback.stack.is_empty());
                }
                (act, event) => prop_assert!(false, "{:?} came back as {:?}", act, event),
            }
        }
        prop_assert_eq!(playback.any(&mut input), Ok(None));
    }

    #[test]
    fn a_site_leads_from_one_stack_to_one_other(acts in prop::collection::vec((act(), 0..8usize), 0..300)) {
        let mut log = Log::new();
        for (act, most) in &acts {
            log.push(act, Nanos(0), *most);
        }
        let mut input = &log.bytes[..];
        let mut playback = Playback::default();
        let mut led = std::collections::HashMap::new();
        let mut before = Vec::new();
        while let Some(event) = playback.any(&mut input).unwrap() {
            match event {
                Event::Site(number) => led.retain(|(site, _), _| *site != number),
                Event::Alloc { site, kept, .. } | Event::Realloc { site, kept, .. } => {
                    let after = playback.stack.clone();
                    prop_assert_eq!(&before[..kept], &after[..kept]);
                    let known = led.entry((site, before)).or_insert_with(|| after.clone());
                    prop_assert_eq!(&*known, &after);
                }
                _ => {}
            }
            before = playback.stack.clone();
        }
    }

    #[test]
    fn decoder_is_total(bytes: Vec<u8>) {
        let mut playback = Playback::default();
        let mut input = &bytes[..];
        while let Ok(Some(_)) = playback.any(&mut input) {}
        prop_assert!(playback.stack.len() <= MAX_DEPTH + 1);
    }

    #[test]
    fn folding_loses_nothing(difference: u64, small in -5000i64..5000) {
        prop_assert_eq!(unfold(fold(difference)), difference);
        prop_assert_eq!(unfold(fold(small as u64)), small as u64);
        prop_assert!(fold((small * 8) as u64) < 10_000);
    }
}

#[test]
fn more_sites_and_addresses_than_there_are_places() {
    let mut log = Log::new();
    let stacks: Vec<Vec<u64>> =
        (0..20_000u64).map(|i| vec![7, i % 3, 0x40_0000 + 977 * (i % 9973)]).collect();
    for (i, stack) in stacks.iter().enumerate() {
        let act = Act::Alloc { key: 16 * i as u64, size: i as u64 % 5, stack: stack.clone() };
        log.push(&act, Nanos(i as u64), usize::MAX);
    }
    let mut input = &log.bytes[..];
    let mut playback = Playback::default();
    for (i, stack) in stacks.iter().enumerate() {
        let event = playback.next(&mut input);
        assert!(matches!(event, Some(Event::Alloc { size, .. }) if size == i as u64 % 5));
        assert_eq!(&playback.stack[..], stack);
    }
    assert!(playback.decoder.sites() <= SITES);
}

#[test]
fn sites_of_addresses_8_mib_apart_are_two() {
    let mut log = Log::new();
    let near = 0x7f00_0000_1000;
    let stacks = [vec![1, 2], vec![1, 2, near], vec![1, 2], vec![1, near ^ 1 << 23]];
    for stack in &stacks {
        log.push(&Act::Alloc { key: 16, size: 1, stack: stack.clone() }, Nanos(0), usize::MAX);
    }
    let mut input = &log.bytes[..];
    let mut playback = Playback::default();
    for stack in &stacks {
        playback.next(&mut input);
        assert_eq!(&playback.stack, stack);
    }
}

#[test]
fn the_deepest_stack_of_far_addresses_has_room_in_what_is_asked_for() {
    let mut log = Log::new();
    let stack: Vec<u64> = (0..MAX_DEPTH as u64 + 1).map(|i| i.wrapping_mul(0xabcd_ef01_2345_6789)).collect();
    let act = Act::Realloc { key: 1 << 63, old_key: u64::MAX, size: u64::MAX, stack: stack.clone() };
    let len = log.push(&act, Nanos(u64::MAX), 0);
    assert!(len <= LONGEST + ADDRESS * (MAX_DEPTH + 1));
    let mut playback = Playback::default();
    playback.next(&mut &log.bytes[..]).unwrap();
    assert_eq!(&playback.stack[..], stack);
}

#[test]
fn what_cannot_be_encoded_changes_nothing() {
    let mut encoder = EventEncoder::new();
    let birth = Birth { key: 1, stamp: Nanos(7), size: 64, kept: 0, pushed: &[0x5000, 0x4000] };
    let room = LONGEST + ADDRESS * birth.pushed.len();
    assert_eq!(encoder.alloc(&mut [0; LONGEST], &birth), None);
    assert_eq!(encoder.realloc(&mut [0; LONGEST], 5, Nanos(6), &birth), None);
    assert_eq!(encoder.define(&mut vec![0; room - 1], &birth), None);
    let encode = |mut encoder: EventEncoder| {
        let (mut site, mut event) = (vec![0; room], [0; LONGEST]);
        let lens = (encoder.define(&mut site, &birth).unwrap(), encoder.alloc(&mut event, &birth).unwrap());
        (lens, site, event)
    };
    assert_eq!(encode(encoder), encode(EventEncoder::new()));
}

#[test]
fn what_comes_again_takes_one_byte() {
    let mut log = Log::new();
    let stacks: Vec<Vec<u64>> =
        (0..3).map(|leaf| (0..40).map(|i| 0x7f00_0000_0000 + (i + leaf) * 977).collect()).collect();
    let mut lens = Vec::new();
    for _ in 0..4 {
        for (i, stack) in stacks.iter().enumerate() {
            let key = 0x5500 + 64 * i as u64;
            lens.push(log.push(&Act::Alloc { key, size: 64, stack: stack.clone() }, Nanos(0), usize::MAX));
            lens.push(log.push(&Act::Free { key }, Nanos(0), usize::MAX));
        }
    }
    assert!(lens[12..].iter().all(|len| *len == 1), "{lens:?}");
}
