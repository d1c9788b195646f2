//! Carries out what is asked for over the control socket, between two steps of the writer's work.
//!
//! An instant that is to be named is the end of a flush: what lives at it is in the file, however soon it dies.

use super::economy::Economy;
use super::{Flush, Writer, progress};
use crate::control::{self, Order, Request, Values};
use crate::settings::Interval;
use crate::{budget, clock, filter, phase, safepoint, vitals};
use prof::weight::EVERY;
use prof::{Nanos, Record, RecordWriter};
use std::io;

/// What the next flush says beside what has happened.
pub enum Said {
    /// A named instant: the flush's own where none is given.
    Mark(String, Option<Nanos>),
    /// Bytes between samples from then on; 0: none are taken.
    Interval(u64, Option<Nanos>),
}

impl Said {
    /// Appends the statement; `now` is the flush's instant.
    pub fn push(&self, records: &mut RecordWriter, now: Nanos) {
        records.push(&match self {
            Said::Mark(name, time) => Record::Mark { time: time.unwrap_or(now), name },
            Said::Interval(bytes, time) => Record::Interval { time: time.unwrap_or(now), bytes: *bytes },
        });
    }
}

impl Writer {
    /// Makes the control socket of the file at `path`, which begins at an instant, and notes how far it is. For a thread of the
    /// program: the allocator is called, which may not find its descriptors in the writer's table.
    pub fn listen(&mut self, path: String, begin: Nanos) {
        // A child's file is of its parent's kind.
        let is_file = std::fs::metadata(self.output.path()).is_ok_and(|data| data.is_file());
        let started = match (self.settings.ctl, is_file) {
            (true, true) => control::start(&path),
            (true, false) => Err("the output is no file".to_owned()),
            (false, _) => Err("ctl=off".to_owned()),
        };
        self.facts.add_control(started.unwrap_or_else(|why| format!("none: {why}")));
        progress::begun(path, self.facts.process_age(), begin);
        progress::chooses(self.settings.interval == Interval::Auto);
    }

    /// Does what is asked for, and answers. Whether tracing is to end.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn obey(&mut self, request: &Request) -> io::Result<bool> {
        let ends = *request.order() == Order::Stop;
        let why = if ends { Flush::Ending("stopped over the control socket") } else { Flush::Asked };
        let refused = match request.order() {
            Order::Mark(name) => {
                self.said.push(Said::Mark(name.clone(), None));
                Ok(())
            }
            Order::Flush => Ok(()),
            Order::Pause => self.pause(),
            Order::Resume => self.resume(),
            Order::Interval(interval) => self.set_interval(*interval),
            Order::Stop => {
                phase::stop();
                safepoint::outside(vitals::look_again);
                Ok(())
            }
        };
        if let Err(why) = refused {
            request.answer(Err(why));
            return Ok(false);
        }
        match self.flush(why) {
            Ok(()) => request.answer(Ok(self.state())),
            Err(error) => {
                request.answer(Err(format!("failed to write {}: {error}", self.output.path())));
                return Err(error);
            }
        }
        Ok(ends)
    }

    fn state(&self) -> Values {
        let progress = progress::progress();
        vec![
            ("file", progress.path.clone()),
            ("bytes", progress.written.to_string()),
            ("complete_ns", progress.since_start(progress.complete).0.to_string()),
        ]
    }

    fn pause(&mut self) -> Result<(), String> {
        if phase::is_paused() {
            return Err("recording is paused already".into());
        }
        phase::pause();
        self.pauses.push((clock::now(), 0));
        self.said.extend([Said::Interval(0, None), Said::Mark("pause".into(), None)]);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), String> {
        if !phase::is_paused() {
            return Err("recording is not paused".into());
        }
        let time = clock::now();
        self.pauses.push((time, phase::interval()));
        // Where nothing was recorded before, no death was looked for.
        if self.settings.interval.is_every() {
            filter::mark_all();
        }
        phase::resume();
        self.economy.as_mut().into_iter().for_each(Economy::look);
        let said = [Said::Interval(phase::interval(), Some(time)), Said::Mark("resume".into(), Some(time))];
        self.said.extend(said);
        Ok(())
    }

    fn set_interval(&mut self, interval: Interval) -> Result<(), String> {
        if self.settings.interval.is_every() != interval.is_every() {
            return Err(
                "a recording is of samples or of every allocation from its beginning on: this takes \
                        a new process, with LIBTRACE=interval=…"
                    .into(),
            );
        }
        if self.settings.interval == interval {
            return Err("that is the interval already".into());
        }
        let bytes = match interval {
            Interval::Auto => budget::FIRST_INTERVAL,
            Interval::Fixed(bytes) => bytes,
        };
        self.economy = (interval == Interval::Auto).then(Economy::new);
        progress::chooses(interval == Interval::Auto);
        self.settings.interval = interval;
        debug_assert!(bytes != EVERY, "refused above");
        phase::set_interval(bytes);
        if !phase::is_paused() {
            self.said.push(Said::Interval(bytes, None));
        }
        Ok(())
    }
}
