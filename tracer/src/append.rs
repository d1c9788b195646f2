//! Appends births and deaths to the thread's stream, with what is needed to understand them: thread, interval, generation
//! of the module map, sites.
//!
//! ```text
//! usual_birth, usual_death ──┬──────────────────────────────────▶ buffer
//!             │ anything rare                                       ▲
//!             └──▶ record ──▶ birth, death ──▶ settle, unwind ──▶ append
//! ```
//! The usual ones are the same events, for a stream that has been settled, with room in its buffer and a site that is known:
//! what is rare takes registers and room on the stack, which they do without.

use crate::arch::frame::Caller;
use crate::clock;
use crate::local::Local;
use crate::stream::{self, Own, Stream};
use crate::unwind::rules;
use crate::{modules, phase};
use prof::event::{ADDRESS, Birth, EventEncoder, LONGEST};
use prof::record::Lost;
use prof::weight::EVERY;
use prof::{Generation, Nanos};

/// A block that has just come to life, and the frame that asked for it.
#[derive(Clone, Copy)]
pub struct Born {
    /// Where it is.
    pub block: u64,
    /// Requested bytes.
    pub size: u64,
    /// Who asked.
    pub caller: Caller,
}

/// A birth as it is appended, at the trail's stack.
pub struct Entry {
    /// The block, or the number of its sample.
    pub key: u64,
    /// Requested bytes.
    pub size: u64,
    /// When.
    pub stamp: Nanos,
    /// What died for it, and when.
    pub died: Option<(u64, Nanos)>,
}

/// The calling thread's stream, and the part of it that is the thread's alone.
#[inline(always)]
pub fn stream_of(local: &Local) -> Option<(&'static Stream, &'static mut Own)> {
    let Some(stream) = Stream::of(local) else {
        stream::lose(local, Lost::BackPressure);
        return None;
    };
    // SAFETY: called once in each guarded section (`record::record`), by the stream's thread.
    Some((stream, unsafe { stream.own_mut() }))
}

/// As [`stream_of`], where the thread has one already.
#[inline(always)]
fn present_stream(local: &Local) -> Option<(&'static Stream, &'static mut Own)> {
    let stream = Stream::present(local)?;
    // SAFETY: called once in each guarded section (`record::record_usual`), by the stream's thread.
    Some((stream, unsafe { stream.own_mut() }))
}

/// As [`birth`] of one block, in the usual case; `None` in any other, where nothing has been recorded. The trail may be the
/// caller's stack then all the same.
#[inline(always)]
pub fn usual_birth(local: &Local, born: Born) -> Option<()> {
    let (stream, own) = present_stream(local)?;
    let generation = modules::generation();
    if !own.is_settled(generation, EVERY) {
        return None;
    }
    let said = own.said.min(own.trail.capture(born.caller, local));
    let encoded = if generation == modules::generation() {
        stream.rest_for_event().and_then(|(buffer, out)| {
            let stamp = own.stamp();
            let pushed = own.trail.addresses(said);
            let birth = Birth { key: born.block, stamp, size: born.size, kept: said, pushed };
            Some((buffer, own.encoder.alloc(out, &birth)?))
        })
    } else {
        None
    };
    let Some((buffer, len)) = encoded else {
        own.said = said;
        own.forget_stamp();
        return None;
    };
    own.said = own.trail.depth();
    buffer.commit(len);
    Some(())
}

/// Records a block's birth, and in the same event another block's death. The block has not been returned to the program
/// yet, so nobody can free it meanwhile.
#[inline(always)]
pub fn birth(local: &Local, born: Born, died: Option<(u64, Nanos)>) {
    let Some((stream, own)) = stream_of(local) else { return };
    if !unwind(local, born, stream, own, EVERY) {
        return stream.lose(Lost::BackPressure);
    }
    let stamp = if died.is_some() { clock::now() } else { own.stamp() };
    if !append(stream, own, &Entry { key: born.block, size: born.size, stamp, died }) {
        own.forget_stamp();
        stream.lose(Lost::BackPressure);
    }
}

/// Appends a birth. False: there is no empty buffer.
#[inline(always)]
pub fn append(stream: &Stream, own: &mut Own, entry: &Entry) -> bool {
    append_at_site(stream, own, entry).unwrap_or_else(|| append_at_new_site(stream, own, entry))
}

/// As [`append`]; `None` where the site is to be defined before.
#[inline(always)]
fn append_at_site(stream: &Stream, own: &mut Own, entry: &Entry) -> Option<bool> {
    let Some((buffer, out)) = stream.room_for_event(own) else { return Some(false) };
    let pushed = own.trail.addresses(own.said);
    let Entry { key, size, stamp, died } = *entry;
    let birth = Birth { key, stamp, size, kept: own.said, pushed };
    let len = match died {
        Some((old_key, old_stamp)) => own.encoder.realloc(out, old_key, old_stamp, &birth),
        None => own.encoder.alloc(out, &birth),
    };
    buffer.commit(len?);
    own.said = own.trail.depth();
    Some(true)
}

/// As [`append`], where the site is to be defined before.
#[cold]
#[inline(never)]
fn append_at_new_site(stream: &Stream, own: &mut Own, entry: &Entry) -> bool {
    define(stream, own) && append_at_site(stream, own, entry) == Some(true)
}

/// Defines the site of the trail's stack in the stream. False: there is no empty buffer.
#[cold]
#[inline(never)]
fn define(stream: &Stream, own: &mut Own) -> bool {
    // What a definition says is its way from stack to stack: the rest of the birth does not matter.
    let bytes = LONGEST + ADDRESS * own.trail.addresses(own.said).len();
    let Some((buffer, out)) = stream.room(own, bytes) else { return false };
    let pushed = own.trail.addresses(own.said);
    let birth = Birth { key: 0, stamp: Nanos(0), size: 0, kept: own.said, pushed };
    let len = own.encoder.define(out, &birth);
    buffer.commit(len.unwrap_or(0));
    len.is_some()
}

/// States thread, interval and generation in the stream, as far as they have changed; the trail is to be walked anew.
/// False: there is no empty buffer.
#[cold]
#[inline(never)]
fn settle(stream: &Stream, own: &mut Own, interval: u64, generation: u32) -> bool {
    own.trail.clear();
    if own.stated == 0 && !stream.introduce(own) {
        return false;
    }
    if own.interval != interval {
        if !stream.append(own, |_, out| EventEncoder::interval(out, interval)) {
            return false;
        }
        own.interval = interval;
    }
    let stated = u64::from(generation) + 1;
    if own.stated != stated {
        if !stream.append(own, |encoder, out| encoder.generation(out, Generation(generation))) {
            return false;
        }
        own.stated = stated;
        own.said = 0;
    }
    // An address means the same as now if nothing is unloaded meanwhile, and nothing is being unloaded: of that the
    // generation tells only when it is done.
    own.settled = if rules::is_unloading() { 0 } else { stated };
    true
}

/// Records a death; where no stamp is given it happens now.
#[inline(always)]
pub fn death(local: &Local, key: u64, stamp: Option<Nanos>) {
    let Some((stream, own)) = stream_of(local) else { return };
    if own.stated == 0 && !settle(stream, own, phase::interval(), modules::generation()) {
        return stream.lose(Lost::BackPressure);
    }
    let stamp = stamp.unwrap_or_else(|| own.stamp());
    match stream.room_for_event(own) {
        Some((buffer, out)) => buffer.commit(own.encoder.free(out, key, stamp)),
        None => {
            own.forget_stamp();
            stream.lose(Lost::BackPressure);
        }
    }
}

/// As [`death`] now, in the usual case; `None` in any other, where nothing has been recorded.
#[inline(always)]
pub fn usual_death(local: &Local, key: u64) -> Option<()> {
    let (stream, own) = present_stream(local)?;
    if !own.repeats_stamp() || own.stated == 0 {
        return None;
    }
    let (buffer, out) = stream.rest_for_event()?;
    buffer.commit(own.encoder.free(out, key, own.encoder.stamp()));
    Some(())
}

/// Makes the trail the caller's stack, in a stream that says what is needed to understand it. False: there is no empty
/// buffer.
#[inline(always)]
pub fn unwind(local: &Local, born: Born, stream: &Stream, own: &mut Own, interval: u64) -> bool {
    let generation = modules::generation();
    if !own.is_settled(generation, interval) && !settle(stream, own, interval, generation) {
        return false;
    }
    let kept = own.trail.capture(born.caller, local);
    own.said = own.said.min(kept);
    // Unwinding may find that the module map has changed.
    generation == modules::generation() || unwind_again(local, born, stream, own)
}

#[cold]
#[inline(never)]
fn unwind_again(local: &Local, born: Born, stream: &Stream, own: &mut Own) -> bool {
    loop {
        let generation = modules::generation();
        if !settle(stream, own, own.interval, generation) {
            return false;
        }
        own.said = own.said.min(own.trail.capture(born.caller, local));
        if generation == modules::generation() {
            return true;
        }
    }
}
