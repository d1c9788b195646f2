//! The thread's block, found through a thread key: without assembly there is no other way that makes no call into the loader.
//! glibc keeps the values of the first 32 keys in the thread's descriptor, where reading and writing them neither allocates nor
//! locks. The library's key is made with the process's first allocation, and is one of them.
//!
//! Blocks go from thread to thread. The key's destructor gives a block back once the thread's stream is another's to take and
//! its end is noted, which other destructors see to, perhaps later ones: glibc goes round up to four times. What a thread allocates or frees after
//! the last round costs a block, of some hundred bytes, if it is recorded.

use crate::errno::Errno;
use crate::heap;
use crate::local::{Guard, Local, SIZE};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

/// A thread's bytes. All its bytes zero are a block that nobody has.
#[repr(C, align(8))]
struct Block {
    bytes: UnsafeCell<[u8; SIZE]>,
    taken: AtomicBool,
    next: AtomicPtr<Block>,
}

// SAFETY: the bytes are only reached by the thread that has taken the block, with acquire where the last one left it with
// release; the rest is atomic.
unsafe impl Sync for Block {}

/// Every block ever mapped.
static BLOCKS: AtomicPtr<Block> = AtomicPtr::new(std::ptr::null_mut());

/// For all threads where there is no key or no memory. Its guard is always [`Guard::Own`]: nothing is recorded.
static SPARE: [AtomicU64; SIZE / 8] = [const { AtomicU64::new(0) }; SIZE / 8];

/// The key plus 1, or one of these.
static KEY: AtomicU32 = AtomicU32::new(NO_KEY_YET);
const NO_KEY_YET: u32 = 0;
const NO_KEY: u32 = u32::MAX;

/// Keys from this one on have their values in memory that glibc allocates.
const FAR_KEY: u32 = 32;

/// The address of the calling thread's block.
#[inline]
pub fn block() -> *const u8 {
    let key = KEY.load(Acquire);
    if key != NO_KEY_YET && key != NO_KEY {
        // SAFETY: the key is ours and never deleted.
        let at = unsafe { libc::pthread_getspecific(key - 1) };
        if !at.is_null() {
            return at.cast();
        }
    }
    take(key)
}

/// Whether threads can have blocks of their own.
pub fn has_blocks() -> bool {
    block() != SPARE.as_ptr().cast()
}

/// Nothing is known of the stack, and nothing reads it.
pub fn own_stack(_size: u64) -> (u64, u64) {
    (0, 0)
}

#[cold]
fn take(key: u32) -> *const u8 {
    let _errno = Errno::save();
    let key = if key == NO_KEY_YET { make_key() } else { key };
    let block = if key == NO_KEY { None } else { free_block() };
    let Some(block) = block else { return spare() };
    // SAFETY: the key is ours, and its destructor takes what it is given here.
    unsafe { libc::pthread_setspecific(key - 1, std::ptr::from_ref(block).cast()) };
    block.bytes.get().cast_const().cast()
}

fn make_key() -> u32 {
    let mut made = 0;
    // SAFETY: a valid place, and a destructor that takes what `take` stores.
    let status = unsafe { libc::pthread_key_create(&mut made, Some(thread_ends)) };
    let key = if status == 0 && made < FAR_KEY { made + 1 } else { NO_KEY };
    match KEY.compare_exchange(NO_KEY_YET, key, AcqRel, Acquire) {
        Ok(_) => key,
        Err(other) => {
            if status == 0 {
                // SAFETY: made here, and nobody has seen it.
                unsafe { libc::pthread_key_delete(made) };
            }
            other
        }
    }
}

/// A block of zero bytes, taken for the caller.
fn free_block() -> Option<&'static Block> {
    let shared = |at: *mut Block| {
        // SAFETY: null, or a block, which stays mapped for ever.
        unsafe { at.as_ref() }
    };
    let mut all =
        std::iter::successors(shared(BLOCKS.load(Acquire)), |block| shared(block.next.load(Acquire)));
    all.find(|block| !block.taken.swap(true, Acquire)).or_else(map)
}

/// Maps blocks, and takes the first of them.
fn map() -> Option<&'static Block> {
    const COUNT: usize = 4096 / size_of::<Block>();
    let first = heap::map(COUNT * size_of::<Block>()).cast::<Block>();
    if first.is_null() {
        return None;
    }
    // SAFETY: that many blocks of zero bytes have just been mapped, and are nobody's.
    let blocks = unsafe { std::slice::from_raw_parts(first, COUNT) };
    blocks[0].taken.store(true, Relaxed);
    for (block, next) in blocks.iter().zip(&blocks[1..]) {
        block.next.store(std::ptr::from_ref(next).cast_mut(), Relaxed);
    }
    let last = &blocks[COUNT - 1].next;
    let mut head = BLOCKS.load(Acquire);
    loop {
        last.store(head, Relaxed);
        match BLOCKS.compare_exchange(head, first, AcqRel, Acquire) {
            Ok(_) => return Some(&blocks[0]),
            Err(other) => head = other,
        }
    }
}

#[cold]
fn spare() -> *const u8 {
    let at = SPARE.as_ptr().cast::<Local>();
    // SAFETY: as large and aligned as `Local`, of which zero bytes are a valid one. Threads share it, but whoever finds its guard
    // at `Own`, which it is before anybody else has it, writes only what is there already.
    unsafe { &*at }.set_guard(Guard::Own);
    at.cast()
}

/// Runs when a thread ends, in each round in which the key has a value.
unsafe extern "C" fn thread_ends(block: *mut c_void) {
    // SAFETY: what `take` stored: a block, which stays mapped for ever.
    let block = unsafe { &*block.cast::<Block>() };
    // SAFETY: the bytes are this thread's.
    let local = unsafe { &*block.bytes.get().cast_const().cast::<Local>() };
    let is_done = local.stream.get().is_null() && local.creator.get() == 0;
    if is_done && local.guard() == Guard::Open {
        // SAFETY: as above, and no reference to them is in use: the thread's hooks are not at work.
        unsafe { block.bytes.get().write([0; SIZE]) };
        block.taken.store(false, Release);
    } else {
        // SAFETY: as in `take`: another round.
        unsafe {
            libc::pthread_setspecific(KEY.load(Acquire).wrapping_sub(1), std::ptr::from_ref(block).cast())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::local;
    use std::ptr;

    #[test]
    fn threads_have_blocks_of_their_own_and_leave_them_clean() {
        assert!(has_blocks());
        let here = block() as usize;
        for _ in 0..200 {
            let both = [0, 1].map(|_| {
                std::thread::spawn(|| {
                    let local = local();
                    assert_eq!((local.countdown.get(), local.thread.get()), (0, 0));
                    local.countdown.set(7);
                    local.thread.set(9);
                    std::thread::yield_now();
                    assert_eq!(block(), ptr::from_ref(local).cast());
                    block() as usize
                })
            });
            let [one, other] = both.map(|thread| thread.join().unwrap());
            assert!(one != here && other != here);
        }
        // SAFETY: null, or a block, which stays mapped for ever.
        let next = |at: *mut Block| unsafe { at.as_ref() };
        let mapped =
            std::iter::successors(next(BLOCKS.load(Acquire)), |block| next(block.next.load(Acquire)));
        let mapped = mapped.count();
        assert!(mapped < 200, "blocks are used again, not {mapped} mapped");
    }
}
