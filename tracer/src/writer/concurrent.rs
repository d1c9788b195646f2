//! Threads that record, hand blocks and streams on and end, beside one that collects: what they recorded arrives.

use super::source::Source;
use crate::local::local;
use crate::stream::{Occupant, Stream};
use crate::{buffer, live, phase, record, stream};
use prof::record::Lost;
use prof::weight::EVERY;
use prof::{Event, Nanos, ThreadIndex};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Mutex, Once, mpsc};
use std::thread;

const WAVES: u64 = if cfg!(miri) { 3 } else { 20 };
const THREADS: u64 = if cfg!(miri) { 2 } else { 8 };
const BLOCKS: u64 = if cfg!(miri) { 2 } else { 1_000 };

/// Enough that a block is as good as never passed over at [`SAMPLED`].
const SIZE: u64 = 8192;
const SAMPLED: u64 = 128;

/// What one life's events say.
#[derive(Default, Debug, PartialEq)]
struct Life {
    born: Vec<(u64, Nanos)>,
    died: Vec<Nanos>,
}

#[derive(Default)]
struct Seen {
    /// By address, or by sample.
    lives: HashMap<u64, Life>,
    introduced: HashMap<ThreadIndex, (u32, Nanos)>,
    ended: u64,
    occupants: Vec<Occupant>,
}

impl Seen {
    fn collect(&mut self, source: &mut Source, current: bool) {
        source.collect(current, |_, state, mut bytes| {
            while let Some(event) = state.decoder.next(&mut bytes).expect("whole events") {
                match event {
                    Event::Thread { thread, tid, stamp, .. } => {
                        let known = self.introduced.insert(thread, (tid, stamp));
                        assert_eq!(known, None, "introduced twice");
                    }
                    Event::ThreadEnd { .. } => self.ended += 1,
                    Event::Alloc { key, stamp, size, .. } => {
                        self.lives.entry(key).or_default().born.push((size, stamp));
                    }
                    Event::Free { key, stamp } => self.lives.entry(key).or_default().died.push(stamp),
                    Event::Interval(_) | Event::Generation(_) | Event::Site(_) | Event::Realloc { .. } => {}
                }
            }
        });
        self.occupants.extend(stream::all().filter_map(|stream| stream.occupant_among(|_| true)));
    }
}

/// Allocates blocks, each of a size of its own, and frees those of another thread, in waves of threads that end.
fn run(seen: &mut Seen, source: &mut Source, every_block: bool) {
    // SAFETY: two words that say that there is nothing to walk.
    let caller = || unsafe { std::mem::zeroed() };
    let given = [const { AtomicU64::new(0) }; (THREADS * BLOCKS) as usize];
    let block = |number: u64| 0x6000_0000_0000 + u64::from(every_block) * 0x100_0000_0000 + number * 16;
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (is_over, done, given) = (&is_over, &done, &given);
        let collector = scope.spawn(move || {
            let Some(exchange) = buffer::exchange() else { panic!("not created") };
            while !is_over.load(Acquire) {
                exchange.sleep(Nanos(1_000_000));
                seen.collect(source, true);
            }
            seen.collect(source, true);
        });
        let mut threads = Vec::new();
        for wave in 0..WAVES {
            threads.extend((0..THREADS).map(|thread| {
                scope.spawn(move || {
                    for number in thread * BLOCKS..(thread + 1) * BLOCKS {
                        // Addresses are used again where each life is known by its sample.
                        let block =
                            block(if every_block { wave * THREADS * BLOCKS + number } else { number });
                        record::alloc(block as *mut c_void, (SIZE + number) as usize, caller());
                        given[number as usize].store(block, Release);
                    }
                    let from = (thread + 1) % THREADS;
                    for given in &given[(from * BLOCKS) as usize..((from + 1) * BLOCKS) as usize] {
                        let block = loop {
                            match given.swap(0, Acquire) {
                                0 => thread::yield_now(),
                                block => break block,
                            }
                        };
                        record::free(block as *mut c_void);
                    }
                    done.fetch_add(1, Release);
                })
            }));
            // The next wave begins while this one's threads are ending, and may get their streams.
            while done.load(Acquire) < (wave + 1) * THREADS {
                thread::yield_now();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, Release);
        collector.join().unwrap();
    });
}

#[test]
fn what_threads_record_arrives_whole_and_once() {
    let _alone = phase::alone();
    static SOURCE: Mutex<Option<Source>> = Mutex::new(None);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        buffer::create();
        assert!(stream::create_key());
        record::be_lossless();
    });
    live::tests::created();
    let mut source = SOURCE.lock().unwrap();
    let source = source.get_or_insert_default();
    // Other tests' events.
    Seen::default().collect(source, true);

    let lost = || Lost::ALL.iter().map(|&reason| stream::lost(reason)).sum::<u64>();
    for interval in [EVERY, SAMPLED] {
        let mut seen = Seen::default();
        phase::trace(interval);
        run(&mut seen, source, interval == EVERY);
        phase::stop();

        assert_eq!(lost(), 0);
        assert_eq!(seen.lives.len() as u64, WAVES * THREADS * BLOCKS);
        let mut sizes: Vec<_> = seen
            .lives
            .values()
            .map(|life| match (&life.born[..], &life.died[..]) {
                (&[(size, born)], &[died]) if born <= died => size - SIZE,
                _ => panic!("{life:?}"),
            })
            .collect();
        sizes.sort_unstable();
        assert!(sizes.iter().enumerate().all(|(i, &size)| size == i as u64 / WAVES));

        assert_eq!(seen.introduced.len() as u64, WAVES * THREADS);
        assert_eq!(seen.ended, WAVES * THREADS);
        for Occupant { thread, tid, start } in seen.occupants {
            assert_eq!(seen.introduced.get(&thread), Some(&(tid, start)), "parts of two occupants");
        }
    }
    assert_eq!(record::live_samples(), 0);
}

#[test]
fn a_stream_that_has_changed_hands_is_not_taken_from_its_new_thread() {
    let _alone = phase::alone();
    stream::create_key();
    // A thread that has a stream until its sender goes.
    let occupy = || {
        let (tell, told) = mpsc::channel();
        let (until, end) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            tell.send(Stream::of(local()).unwrap()).unwrap();
            let _ = end.recv();
        });
        (thread, told.recv().unwrap(), until)
    };
    let (first, stream, until) = occupy();
    let before = stream.occupant_among(|_| true).unwrap();
    let mut second = None;
    // The second thread comes after the first has been looked at, and before it is found to have gone.
    let seen = stream.occupant_among(|tid| {
        assert_eq!(tid, before.tid);
        drop(until);
        first.join().unwrap();
        second = Some(occupy());
        false
    });
    assert!(seen.is_none());
    let (second, same, until) = second.unwrap();
    assert!(std::ptr::eq(stream, same));
    assert_ne!(stream.occupant_among(|_| true).unwrap().thread, before.thread);

    // A thread that has gone without giving its stream back.
    assert!(stream.occupant_among(|_| false).is_none());
    assert!(stream.occupant_among(|_| true).is_none());
    drop(until);
    second.join().unwrap();
}
