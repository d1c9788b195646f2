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
use super::stack::Window;
use super::walk::LOWEST_CODE;
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

/// A place that holds no return address.
static NO_ADDRESS: u64 = 0;

/// The words of frames of rare shape.
fn nowhere() -> u64 {
    &raw const NO_ADDRESS as u64
}

/// The way to the caller has to be found anew each time.
const RARE: u64 = 0;
/// There is no caller.
const ENDS: u64 = 1;
/// As [`RARE`], and there is more to the frame than is kept here.
const UNIQUE: u64 = 2;

impl Frame {
    /// A frame whose caller cannot be told from words of the stack, for the reason that `mark` says.
    #[cold]
    fn marked(at: &Registers, mark: u64) -> Frame {
        Frame {
            return_address: at.return_address,
            sp: at.sp,
            fp: at.fp,
            return_slot: nowhere(),
            fp_slot: nowhere(),
            fp_word: mark,
        }
    }

    /// Why its caller cannot be told from words of the stack, where it cannot.
    #[cold]
    fn mark(&self) -> Option<u64> {
        (self.return_slot == nowhere()).then_some(self.fp_word)
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
        // SAFETY: both slots are aligned, and are `NO_ADDRESS` or lie on the thread's own stack at or above this frame's
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

/// The last stack. All its bytes zero are an empty one.
pub struct Trail {
    depth: usize,
    /// Outermost first.
    frames: [Frame; MAX_DEPTH + 1],
    /// Those of the frames.
    addresses: [u64; MAX_DEPTH + 1],
    /// What has been walked anew, innermost first; of use only during a capture.
    walked: [Frame; MAX_DEPTH + 1],
    /// How many frames have been walked anew.
    new: usize,
}

impl Trail {
    /// Forgets the stack: the meaning of addresses has changed, or the thread.
    pub fn clear(&mut self) {
        self.depth = 0;
    }

    /// The stack's addresses without the `skipped` outermost ones, outermost first. The outermost is
    /// [`TRUNCATED`] where frames beyond [`MAX_DEPTH`] are missing.
    #[inline(always)]
    pub fn addresses(&self, skipped: usize) -> &[u64] {
        self.addresses.get(skipped..self.depth).unwrap_or(&[])
    }

    /// How many frames the stack has.
    #[inline]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Makes the stack that of `at`, a frame of the calling thread; returns how many outermost addresses are as before.
    #[inline(always)]
    pub fn capture(&mut self, mut at: Registers, local: &Local) -> usize {
        self.new = 0;
        let own = local.stack_low.get()..local.stack_high.get();
        let mut left = self.depth.min(MAX_DEPTH + 1);
        if !own.contains(&at.sp) {
            self.walk(at, local);
            return self.take(0);
        }
        loop {
            // Stacks grow down: what lies below the stack pointer is gone.
            while left > 0 && self.frames[left - 1].sp < at.sp {
                left -= 1;
            }
            if left > 0 && self.frames[left - 1].is(&at) {
                let outermost = self.confirmed(left - 1, local);
                if outermost == 0 && self.frames[0].mark() == Some(ENDS) {
                    return self.take(left);
                }
                // Its caller is another now; the frames further in are good.
                at = self.frames[outermost].registers();
                self.keep_inner(outermost, left);
                left = outermost;
            }
            let rule = rules::find(at.return_address);
            let Some((frame, caller)) = plain(&at, rule, own.end) else {
                match self.walk_rare(at, rule, local) {
                    Some(caller) => at = caller,
                    None => return self.take(0),
                }
                continue;
            };
            if !self.push(frame) || caller.return_address < LOWEST_CODE {
                return self.take(0);
            }
            at = caller;
        }
    }

    /// Makes the stack empty; returns how many outermost addresses are as before, which is none.
    #[cold]
    pub fn capture_nothing(&mut self) -> usize {
        self.clear();
        0
    }

    /// The outermost frame up to which all are as they were, from `innermost` on, which is. Frames lie above the stack
    /// pointer.
    #[inline(always)]
    fn confirmed(&self, innermost: usize, local: &Local) -> usize {
        let mut inner = innermost;
        // Four at a time, as nearly all are as they were.
        while let Some([a, b, c, d, e]) = inner.checked_sub(4).and_then(|at| self.frames.get(at..=inner)) {
            // SAFETY: the caller says where the frames lie.
            let difference = unsafe { e.difference(d) | d.difference(c) | c.difference(b) | b.difference(a) };
            if difference != 0 {
                break;
            }
            inner -= 4;
        }
        while inner > 0 {
            let (frame, outer) = (&self.frames[inner], &self.frames[inner - 1]);
            // SAFETY: as above.
            if unsafe { frame.difference(outer) } != 0 && !frame.leads_anew_to(outer, local) {
                break;
            }
            inner -= 1;
        }
        inner
    }

    /// Takes the frames from `outermost` to `end`, both exclusively, for walked.
    #[cold]
    #[inline(never)]
    fn keep_inner(&mut self, outermost: usize, end: usize) {
        for inner in (outermost + 1..end).rev() {
            self.push(self.frames[inner]);
        }
    }

    /// Walks one step from a frame of rare shape; the rest of the way too, where that leaves the thread's own stack.
    #[cold]
    #[inline(never)]
    fn walk_rare(&mut self, at: Registers, rule: Rule, local: &Local) -> Option<Registers> {
        if rule.ends() {
            self.push(Frame::marked(&at, ENDS));
            return None;
        }
        if !self.push(Frame::marked(&at, if at.link().is_none() { RARE } else { UNIQUE })) {
            return None;
        }
        let mut window = Window::at(local, at.sp);
        let caller = step(at, rule, &mut window)?;
        if caller.return_address < LOWEST_CODE {
            return None;
        }
        if !window.is_own() {
            self.walk_on(caller, window);
            return None;
        }
        Some(caller)
    }

    /// Walks all the way, on whatever stack.
    #[cold]
    #[inline(never)]
    fn walk(&mut self, at: Registers, local: &Local) {
        self.walk_on(at, Window::at(local, at.sp));
    }

    fn walk_on(&mut self, mut at: Registers, mut window: Window) {
        while self.push(Frame::marked(&at, UNIQUE)) {
            match step(at, rules::find(at.return_address), &mut window) {
                Some(caller) if caller.return_address >= LOWEST_CODE => at = caller,
                _ => return,
            }
        }
    }

    /// Adds a frame that has been walked; false where there are more than [`MAX_DEPTH`].
    #[inline(always)]
    fn push(&mut self, frame: Frame) -> bool {
        if let Some(slot) = self.walked.get_mut(self.new) {
            *slot = frame;
            self.new += 1;
        }
        self.new <= MAX_DEPTH
    }

    /// Puts what has been walked on the `kept` outermost frames; returns how many addresses are as before.
    #[inline(always)]
    fn take(&mut self, mut kept: usize) -> usize {
        if kept + self.new > MAX_DEPTH {
            self.truncate(kept);
            kept = 0;
        }
        let before = std::mem::replace(&mut self.depth, kept + self.new);
        if self.new == 0 {
            return kept;
        }
        // What has been walked may be the same after all.
        let Trail { depth, frames, addresses, walked, new } = self;
        let mut shared = kept;
        for (at, new) in (kept..*depth).zip((0..*new).rev()) {
            let frame = &walked[new];
            if shared == at && at < before && addresses[at] == frame.return_address {
                shared += 1;
            }
            frames[at] = *frame;
            addresses[at] = frame.return_address;
        }
        shared
    }

    /// Takes the `kept` outermost frames for walked as far as the limit goes, and marks what is missing.
    #[cold]
    #[inline(never)]
    fn truncate(&mut self, kept: usize) {
        for outer in (0..kept).rev() {
            self.push(self.frames[outer]);
        }
        let missing = Registers::new(TRUNCATED, u64::MAX, 0);
        self.walked[MAX_DEPTH] = Frame::marked(&missing, UNIQUE);
        self.new = MAX_DEPTH + 1;
    }
}

/// A frame of common shape on the thread's own stack, which ends at `high`, and its caller.
#[inline(always)]
fn plain(at: &Registers, rule: Rule, high: u64) -> Option<(Frame, Registers)> {
    let links = rule.links(at)?;
    let (first, last) = (links.return_slot.min(links.fp_slot), links.return_slot.max(links.fp_slot));
    // Stacks grow down, so the caller's frame lies above.
    let is_on_stack = links.cfa > at.sp && first >= at.sp && last <= high - 8;
    if !is_on_stack || (links.return_slot | links.fp_slot) % 8 != 0 {
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
