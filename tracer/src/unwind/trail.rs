//! Verified incremental unwinding: a stream's last stack is remembered frame by frame, so that of the next one only the
//! innermost frames have to be walked.
//!
//! ```text
//! last stack     main ── serve ── handle ── parse ── grow
//! this one       main ── serve ── handle ── reply              walked: reply
//!                └─ confirmed: every word that unwinding would read there is compared ─┘
//! ```
//! A frame's registers and the words that its rule reads determine its caller's registers. So where a walk comes to
//! registers that it came to the last time, and all those words are as they were, all frames further out are too. Equal
//! addresses alone would not do: a stack pointer or a frame pointer may have changed under them.
//!
//! All this is for the thread's own stack. Elsewhere every frame is walked anew, as its memory may be gone.

use super::rules;
use super::walk::LOWEST_CODE;
use super::window::{Window, is_on_own_stack};
use crate::arch::frame::{Caller, Registers, address};
use crate::arch::step::{Rule, step};
use crate::local::Local;
use prof::{MAX_DEPTH, TRUNCATED};

/// A frame, and the words that lead to its caller.
#[derive(Clone, Copy)]
struct Frame {
    return_address: u64,
    sp: u64,
    fp: u64,
    /// Where the caller's return address lies on the thread's own stack; [`NOWHERE`] where that has to be found anew
    /// each time.
    return_slot: u64,
    /// Where the caller's frame pointer lies; `return_slot` where it is this frame's.
    fp_slot: u64,
    /// What lies there.
    fp_word: u64,
}

/// Frames further out than any, in front of a stack: one, which a frame without a caller leads to.
const BASE: usize = 1;

/// How many frames are compared at once.
const AT_ONCE: usize = 4;

/// What frames of rare shape read, so that they differ from what they were.
static DIFFERENT: u64 = 1;
/// What frames without a caller read: the address of the frame beyond.
static NO_ADDRESS: u64 = 0;

/// The way to the caller has to be found anew each time.
const RARE: u64 = 2;
/// As [`RARE`], and there is more to the frame than is kept here.
const UNIQUE: u64 = 3;

impl Frame {
    /// A frame that reads a word which it takes for its caller's address, and holds another for its caller's frame pointer.
    #[cold]
    fn reading(at: &Registers, word: &'static u64, fp_word: u64) -> Frame {
        let slot = std::ptr::from_ref(word) as u64;
        let Registers { return_address, sp, fp, .. } = *at;
        Frame { return_address, sp, fp, return_slot: slot, fp_slot: slot, fp_word }
    }

    /// A frame whose caller cannot be told from words of the stack, for the reason that `mark` says.
    #[cold]
    fn marked(at: &Registers, mark: u64) -> Frame {
        Frame::reading(at, &DIFFERENT, mark)
    }

    /// The outermost frame.
    #[cold]
    fn outermost(at: &Registers) -> Frame {
        Frame::reading(at, &NO_ADDRESS, NO_ADDRESS)
    }

    /// Why its caller cannot be told from words of the stack, where it cannot.
    #[cold]
    fn mark(&self) -> Option<u64> {
        (self.return_slot == &raw const DIFFERENT as u64).then_some(self.fp_word)
    }

    #[inline(always)]
    fn registers(&self) -> Registers {
        Registers::new(self.return_address, self.sp, self.fp)
    }

    /// Whether the walk came to these registers here.
    #[inline(always)]
    fn is(&self, at: &Registers) -> bool {
        // A frame with more to it than is kept has no such stack pointer.
        self.return_address == at.return_address
            && self.sp == at.sp
            && self.fp == at.fp
            && at.link().is_none()
    }

    /// Zero where the words say that `outer` is the caller still.
    ///
    /// # Safety
    /// The frame is at or above the stack pointer of the calling thread, on its own stack.
    #[inline(always)]
    unsafe fn difference(&self, outer: &Frame) -> u64 {
        // SAFETY: both slots are aligned, and are words of this file or lie on the thread's own stack at or above this frame's
        // stack pointer, which is mapped for as long as the thread runs.
        let (word, fp_word) = unsafe { (*(self.return_slot as *const u64), *(self.fp_slot as *const u64)) };
        (address(word) ^ outer.return_address) | (fp_word ^ self.fp_word)
    }

    /// Whether a step that has to be made anew each time leads to `outer` still, on the same stack.
    #[cold]
    #[inline(never)]
    fn leads_anew_to(&self, outer: &Frame, local: &Local) -> bool {
        let at = self.registers();
        let mut window = Window::at(local, at.sp);
        self.mark() == Some(RARE)
            && outer.mark() != Some(UNIQUE)
            && step(at, rules::find(at.return_address), &mut window)
                .is_some_and(|caller| outer.is(&caller) && window.is_own())
    }
}

/// The last stack. All its bytes zero are one that is to be [cleared](Trail::clear) first.
pub struct Trail {
    depth: usize,
    /// Outermost first, from [`BASE`] on.
    frames: [Frame; BASE + MAX_DEPTH + 1],
    /// Those of the frames, from 0 on.
    addresses: [u64; MAX_DEPTH + 1],
    /// What has been walked anew, innermost first; of use only during a capture.
    walked: [Frame; MAX_DEPTH + 1],
}

impl Trail {
    /// Forgets the stack: the meaning of addresses has changed, or the thread.
    #[cold]
    pub fn clear(&mut self) {
        self.depth = 0;
        self.frames[0] = Frame::outermost(&Registers::new(NO_ADDRESS, u64::MAX, NO_ADDRESS));
    }

    /// The stack's addresses without the `skipped` outermost ones, outermost first. The outermost is
    /// [`TRUNCATED`] where frames beyond [`MAX_DEPTH`] are missing.
    #[inline(always)]
    pub fn addresses(&self, skipped: usize) -> &[u64] {
        let skipped = skipped.min(self.depth);
        // SAFETY: `take` keeps the depth within the array.
        unsafe { self.addresses.get_unchecked(skipped..self.depth) }
    }

    /// How many frames the stack has.
    #[inline(always)]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The frame beyond all; the stack's follow it, outermost first.
    #[inline(always)]
    fn beyond(&self) -> *const Frame {
        self.frames.as_ptr()
    }

    /// Makes the stack that of `caller`, of the calling thread; returns how many outermost addresses are as before. Where an
    /// image is being unloaded the trail is cleared before.
    #[inline(always)]
    pub fn capture(&mut self, caller: Caller, local: &Local) -> usize {
        match caller.own_registers(local) {
            Some(at) if self.depth > 0 => self.capture_own(at, local),
            Some(at) => self.capture_all(at, local),
            None => self.capture_elsewhere(caller, local),
        }
    }

    /// As [`capture`](Self::capture), on the thread's own stack, on which the last one was too.
    #[inline(always)]
    fn capture_own(&mut self, mut at: Registers, local: &Local) -> usize {
        let high = local.stack_high.get();
        let mut new = 0;
        // SAFETY: the frames of the last stack follow the one beyond.
        let mut inner = unsafe { self.beyond().add(self.depth) };
        loop {
            // `inner` is the innermost frame that may be there still.
            // SAFETY: it is the frame beyond, or one of the stack's; the one beyond has the highest of all stack pointers.
            let known = unsafe {
                // Stacks grow down: what lies below the stack pointer is gone.
                while (*inner).sp < at.sp {
                    inner = inner.sub(1);
                }
                &*inner
            };
            if known.is(&at) {
                let confirmed = self.confirmed(inner, local);
                if confirmed == self.beyond() {
                    return self.take(self.place(inner), new);
                }
                // Its caller is another now; the frames further in are good.
                let (outer, inner_place) = (self.place(confirmed), self.place(inner));
                at = self.frames[outer].registers();
                new = self.keep_inner(outer, inner_place, new);
                // SAFETY: the frame beyond at least is further out.
                inner = unsafe { self.beyond().add(outer - 1) };
            }
            let rule = rules::find_settled(at.return_address);
            let Some((frame, caller)) = plain(&at, rule, high) else {
                let place = self.place(inner);
                match self.walk_rare(at, rule, local, &mut new) {
                    Some(caller) => at = caller,
                    None => return self.take(0, new),
                }
                // SAFETY: as it was.
                inner = unsafe { self.beyond().add(place) };
                continue;
            };
            if !push(&mut self.walked, &mut new, frame) || caller.return_address < LOWEST_CODE {
                return self.take(0, new);
            }
            at = caller;
        }
    }

    /// How many frames of the stack are `at` and those further out.
    #[inline(always)]
    fn place(&self, at: *const Frame) -> usize {
        // SAFETY: both are in the array.
        unsafe { at.offset_from(self.beyond()) as usize }
    }

    /// As [`capture`](Self::capture), on a stack that is not the thread's own.
    #[cold]
    #[inline(never)]
    fn capture_elsewhere(&mut self, caller: Caller, local: &Local) -> usize {
        match caller.registers(local) {
            Some(at) => self.capture_all(at, local),
            None => {
                self.clear();
                0
            }
        }
    }

    /// As [`capture`](Self::capture), where nothing is known of the stack that the thread is on.
    #[cold]
    #[inline(never)]
    fn capture_all(&mut self, mut at: Registers, local: &Local) -> usize {
        self.clear();
        let mut new = 0;
        if !is_on_own_stack(local, at.sp) {
            self.walk_on(at, Window::at(local, at.sp), &mut new);
            return self.take(0, new);
        }
        loop {
            let rule = rules::find(at.return_address);
            let caller = match plain(&at, rule, local.stack_high.get()) {
                Some((frame, caller)) => (push(&mut self.walked, &mut new, frame)
                    && caller.return_address >= LOWEST_CODE)
                    .then_some(caller),
                None => self.walk_rare(at, rule, local, &mut new),
            };
            match caller {
                Some(caller) => at = caller,
                None => return self.take(0, new),
            }
        }
    }

    /// The frame whose caller is another now, from `inner` on, which is as it was, outwards; the frame beyond where there is
    /// none.
    #[inline(always)]
    fn confirmed(&self, mut inner: *const Frame, local: &Local) -> *const Frame {
        let beyond = self.beyond();
        let far = beyond.wrapping_add(AT_ONCE);
        // SAFETY: all that are compared are frames of the stack, and those they are compared with too, or the one beyond. They
        // are further out than `inner`, a frame of the calling thread's, or that one: so they lie above its stack pointer.
        unsafe {
            loop {
                // Nearly all are as they were.
                while inner >= far {
                    let [a, b, c, d, e] = [4, 3, 2, 1, 0].map(|outward| &*inner.sub(outward));
                    let difference = e.difference(d) | d.difference(c) | c.difference(b) | b.difference(a);
                    if difference != 0 {
                        break;
                    }
                    inner = inner.sub(AT_ONCE);
                }
                while inner > beyond && (*inner).difference(&*inner.sub(1)) == 0 {
                    inner = inner.sub(1);
                }
                if inner == beyond || !(*inner).leads_anew_to(&*inner.sub(1), local) {
                    return inner;
                }
                inner = inner.sub(1);
            }
        }
    }

    /// Takes the frames from `outer` to `inner`, the first exclusively, for walked.
    #[cold]
    #[inline(never)]
    fn keep_inner(&mut self, outer: usize, inner: usize, mut new: usize) -> usize {
        for at in (outer + 1..=inner).rev() {
            push(&mut self.walked, &mut new, self.frames[at]);
        }
        new
    }

    /// Walks one step from a frame of rare shape; the rest of the way too, where that leaves the thread's own stack.
    #[cold]
    #[inline(never)]
    fn walk_rare(&mut self, at: Registers, rule: Rule, local: &Local, new: &mut usize) -> Option<Registers> {
        if rule.ends() {
            push(&mut self.walked, new, Frame::outermost(&at));
            return None;
        }
        if !push(&mut self.walked, new, Frame::marked(&at, if at.link().is_none() { RARE } else { UNIQUE })) {
            return None;
        }
        let mut window = Window::at(local, at.sp);
        let caller = step(at, rule, &mut window)?;
        if caller.return_address < LOWEST_CODE {
            return None;
        }
        if !window.is_own() {
            self.walk_on(caller, window, new);
            return None;
        }
        Some(caller)
    }

    /// Walks all the way, on whatever stack.
    #[cold]
    fn walk_on(&mut self, mut at: Registers, mut window: Window, new: &mut usize) {
        while push(&mut self.walked, new, Frame::marked(&at, UNIQUE)) {
            match step(at, rules::find(at.return_address), &mut window) {
                Some(caller) if caller.return_address >= LOWEST_CODE => at = caller,
                _ => return,
            }
        }
    }

    /// Puts the `new` frames that have been walked behind the `kept` outermost; returns how many addresses are as before.
    #[inline(always)]
    fn take(&mut self, kept: usize, new: usize) -> usize {
        if kept + new > MAX_DEPTH {
            return self.truncate(kept, new);
        }
        self.put(kept, new)
    }

    /// As [`take`](Self::take), for as many as there is room for.
    #[inline(always)]
    fn put(&mut self, kept: usize, new: usize) -> usize {
        let before = std::mem::replace(&mut self.depth, kept + new);
        if new == 0 {
            return kept;
        }
        debug_assert!(new <= self.walked.len() && kept + new <= self.addresses.len());
        // What has been walked may be the same after all.
        let known = before.min(kept + new);
        let mut shared = kept;
        // SAFETY: `new` frames have been walked, and there is room for them behind those that are kept.
        unsafe {
            let mut from = self.walked.as_ptr().add(new - 1);
            while shared < known
                && *self.addresses.get_unchecked(shared) == (*from.sub(shared - kept)).return_address
            {
                shared += 1;
            }
            let mut frame = self.frames.as_mut_ptr().add(BASE + kept);
            let mut address = self.addresses.as_mut_ptr().add(kept);
            for _ in 0..new {
                *frame = *from;
                *address = (*from).return_address;
                (frame, address, from) = (frame.add(1), address.add(1), from.wrapping_sub(1));
            }
        }
        shared
    }

    /// As [`take`](Self::take), as far as the limit goes; marks what is missing.
    #[cold]
    #[inline(never)]
    fn truncate(&mut self, kept: usize, mut new: usize) -> usize {
        for outer in (BASE..BASE + kept).rev() {
            push(&mut self.walked, &mut new, self.frames[outer]);
        }
        let missing = Registers::new(TRUNCATED, u64::MAX, 0);
        self.walked[MAX_DEPTH] = Frame::marked(&missing, UNIQUE);
        self.put(0, MAX_DEPTH + 1)
    }
}

/// Adds a frame to the `new` ones that have been walked; false where there is no room: there are more than [`MAX_DEPTH`].
#[inline(always)]
fn push(walked: &mut [Frame; MAX_DEPTH + 1], new: &mut usize, frame: Frame) -> bool {
    let Some(place) = walked.get_mut(*new) else { return false };
    *place = frame;
    *new += 1;
    true
}

/// A frame of common shape on the thread's own stack, which ends at `high`, and its caller.
#[inline(always)]
fn plain(at: &Registers, rule: Rule, high: u64) -> Option<(Frame, Registers)> {
    let links = rule.links(at)?;
    // Stacks grow down, so the caller's frame lies above.
    let is_on_stack = |slot: u64| slot >= at.sp && slot <= high - 8;
    let is_above = links.cfa > at.sp && is_on_stack(links.return_slot) && is_on_stack(links.fp_slot);
    if !is_above || (links.return_slot | links.fp_slot) % 8 != 0 {
        return None;
    }
    // SAFETY: aligned, and on the calling thread's own stack, at or above the stack pointer of a frame of it.
    let (word, fp_word) = unsafe { (*(links.return_slot as *const u64), *(links.fp_slot as *const u64)) };
    let fp = if links.fp_slot == links.return_slot { at.fp } else { fp_word };
    let frame = Frame {
        return_address: at.return_address,
        sp: at.sp,
        fp: at.fp,
        return_slot: links.return_slot,
        fp_slot: links.fp_slot,
        fp_word,
    };
    Some((frame, Registers::new(address(word), links.cfa, fp)))
}
