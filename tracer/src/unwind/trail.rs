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
use super::window::Window;
use crate::arch::frame::{Registers, address};
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

/// Frames further out than any, in front of a stack: what a frame without a caller leads to, and each of them to the next.
/// So frames can be compared [`AT_ONCE`] at a time without counting them.
const BASE: usize = AT_ONCE;

/// How many frames are compared at once.
const AT_ONCE: usize = 4;

/// What frames of rare shape read, so that they differ from what they were.
static DIFFERENT: u64 = 1;
/// What frames without a caller read: the address of [`BASE`] frames.
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
        let beyond = Registers::new(NO_ADDRESS, u64::MAX, NO_ADDRESS);
        self.frames[..BASE].fill(Frame::outermost(&beyond));
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

    /// A frame of the stack, or of those beyond.
    #[inline(always)]
    fn frame(&self, at: usize) -> &Frame {
        debug_assert!(at < BASE + MAX_DEPTH + 1);
        // SAFETY: places are those beyond and `depth` more, which `take` keeps within the array.
        unsafe { self.frames.get_unchecked(at) }
    }

    /// Makes the stack that of `at`, a frame of the calling thread; returns how many outermost addresses are as before. Where
    /// an image is being unloaded the trail is cleared before.
    #[inline(always)]
    pub fn capture(&mut self, mut at: Registers, local: &Local) -> usize {
        if !is_on_own_stack(&at, local) || self.depth == 0 {
            return self.capture_all(at, local);
        }
        let high = local.stack_high.get();
        let mut new = 0;
        // The place of the innermost frame that may be there still.
        let mut inner = BASE + self.depth - 1;
        loop {
            // Stacks grow down: what lies below the stack pointer is gone. The frames beyond lie above all.
            while self.frame(inner).sp < at.sp {
                inner -= 1;
            }
            if self.frame(inner).is(&at) {
                let outer = self.confirmed(inner, local);
                if outer < BASE {
                    return self.take(inner + 1, new);
                }
                // Its caller is another now; the frames further in are good.
                at = self.frame(outer).registers();
                new = self.keep_inner(outer, inner, new);
                inner = outer - 1;
            }
            let rule = rules::find_settled(at.return_address);
            let Some((frame, caller)) = plain(&at, rule, high) else {
                match self.walk_rare(at, rule, local, &mut new) {
                    Some(caller) => at = caller,
                    None => return self.take(BASE, new),
                }
                continue;
            };
            if !self.push(&mut new, frame) || caller.return_address < LOWEST_CODE {
                return self.take(BASE, new);
            }
            at = caller;
        }
    }

    /// As [`capture`](Self::capture), where nothing is known of the stack that the thread is on.
    #[cold]
    #[inline(never)]
    fn capture_all(&mut self, mut at: Registers, local: &Local) -> usize {
        self.clear();
        let mut new = 0;
        if !is_on_own_stack(&at, local) {
            self.walk_on(at, Window::at(local, at.sp), &mut new);
            return self.take(BASE, new);
        }
        loop {
            let rule = rules::find(at.return_address);
            let caller = match plain(&at, rule, local.stack_high.get()) {
                Some((frame, caller)) => {
                    (self.push(&mut new, frame) && caller.return_address >= LOWEST_CODE).then_some(caller)
                }
                None => self.walk_rare(at, rule, local, &mut new),
            };
            match caller {
                Some(caller) => at = caller,
                None => return self.take(BASE, new),
            }
        }
    }

    /// Makes the stack empty; returns how many outermost addresses are as before, which is none.
    #[cold]
    pub fn capture_nothing(&mut self) -> usize {
        self.clear();
        0
    }

    /// The place of the outermost frame up to which all are as they were, from `inner` on, which is; below [`BASE`] where
    /// that is the whole stack. Frames lie above the stack pointer.
    #[inline(always)]
    fn confirmed(&self, mut inner: usize, local: &Local) -> usize {
        loop {
            // Nearly all are as they were.
            while inner >= BASE {
                let [a, b, c, d, e] = [4, 3, 2, 1, 0].map(|outward| self.frame(inner - outward));
                // SAFETY: the caller says where the frames lie.
                let difference =
                    unsafe { e.difference(d) | d.difference(c) | c.difference(b) | b.difference(a) };
                if difference != 0 {
                    break;
                }
                inner -= AT_ONCE;
            }
            if inner < BASE {
                return inner;
            }
            match self.confirmed_singly(inner, local) {
                Ok(outer) => inner = outer,
                Err(outermost) => return outermost,
            }
        }
    }

    /// As [`confirmed`](Self::confirmed), for [`AT_ONCE`] frames: the place of the next, or where it ends.
    #[inline(never)]
    fn confirmed_singly(&self, inner: usize, local: &Local) -> Result<usize, usize> {
        for inner in (inner - (AT_ONCE - 1)..=inner).rev() {
            let (frame, outer) = (self.frame(inner), self.frame(inner - 1));
            // SAFETY: as above.
            if unsafe { frame.difference(outer) } != 0 && !frame.leads_anew_to(outer, local) {
                return Err(inner);
            }
        }
        Ok(inner - AT_ONCE)
    }

    /// Takes the frames from `outer` to `inner`, the first exclusively, for walked.
    #[cold]
    #[inline(never)]
    fn keep_inner(&mut self, outer: usize, inner: usize, mut new: usize) -> usize {
        for at in (outer + 1..=inner).rev() {
            self.push(&mut new, self.frames[at]);
        }
        new
    }

    /// Walks one step from a frame of rare shape; the rest of the way too, where that leaves the thread's own stack.
    #[cold]
    #[inline(never)]
    fn walk_rare(&mut self, at: Registers, rule: Rule, local: &Local, new: &mut usize) -> Option<Registers> {
        if rule.ends() {
            self.push(new, Frame::outermost(&at));
            return None;
        }
        if !self.push(new, Frame::marked(&at, if at.link().is_none() { RARE } else { UNIQUE })) {
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
        while self.push(new, Frame::marked(&at, UNIQUE)) {
            match step(at, rules::find(at.return_address), &mut window) {
                Some(caller) if caller.return_address >= LOWEST_CODE => at = caller,
                _ => return,
            }
        }
    }

    /// Adds a frame that has been walked to the `new` ones; false where there are more than [`MAX_DEPTH`].
    #[inline(always)]
    fn push(&mut self, new: &mut usize, frame: Frame) -> bool {
        if let Some(slot) = self.walked.get_mut(*new) {
            *slot = frame;
            *new += 1;
        }
        *new <= MAX_DEPTH
    }

    /// Puts the `new` frames that have been walked in the places from `kept` on; returns how many addresses are as before.
    #[inline(always)]
    fn take(&mut self, mut kept: usize, mut new: usize) -> usize {
        if kept + new > BASE + MAX_DEPTH {
            new = self.truncate(kept, new);
            kept = BASE;
        }
        kept -= BASE;
        let before = std::mem::replace(&mut self.depth, kept + new);
        if new == 0 {
            return kept;
        }
        assert!(new <= self.walked.len() && kept + new <= self.addresses.len());
        // What has been walked may be the same after all.
        let most = new.min(before.saturating_sub(kept));
        // SAFETY: places below `kept + new` in the stack, and below `new` in what has been walked, are within the arrays.
        unsafe {
            let is_same = |at: &usize| {
                let frame = self.walked.get_unchecked(new - 1 - at);
                *self.addresses.get_unchecked(kept + at) == frame.return_address
            };
            let shared = kept + (0..most).take_while(is_same).count();
            let mut place = self.frames.as_mut_ptr().add(BASE + kept);
            let mut address = self.addresses.as_mut_ptr().add(kept);
            for frame in self.walked.get_unchecked(..new).iter().rev() {
                place.copy_from_nonoverlapping(frame, 1);
                *address = frame.return_address;
                (place, address) = (place.add(1), address.add(1));
            }
            shared
        }
    }

    /// Takes the frames in places below `kept` for walked as far as the limit goes, and marks what is missing.
    #[cold]
    #[inline(never)]
    fn truncate(&mut self, kept: usize, mut new: usize) -> usize {
        for outer in (BASE..kept).rev() {
            self.push(&mut new, self.frames[outer]);
        }
        let missing = Registers::new(TRUNCATED, u64::MAX, 0);
        self.walked[MAX_DEPTH] = Frame::marked(&missing, UNIQUE);
        MAX_DEPTH + 1
    }
}

/// Whether the frame is on the calling thread's own stack; the word below it is, which a call has written.
#[inline(always)]
fn is_on_own_stack(at: &Registers, local: &Local) -> bool {
    (local.stack_low.get()..local.stack_high.get()).contains(&at.sp.wrapping_sub(8))
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
