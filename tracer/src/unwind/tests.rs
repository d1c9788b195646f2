//! Frame by frame against the `backtrace` crate, which goes through libgcc.

use super::trail::Trail;
use super::{objects, stack};
use crate::arch::frame::Caller;
use crate::arch::hooks::called_with_caller;
use crate::local::local;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;

thread_local! {
    /// What a stream would have.
    static TRAIL: RefCell<Box<Trail>> = RefCell::new(empty());
}

fn empty() -> Box<Trail> {
    // SAFETY: zero bytes are an empty trail.
    unsafe { Box::new_zeroed().assume_init() }
}

/// Walks from the caller of [`called_with_caller`] outwards, leaf first: incrementally, which must be the same as anew.
pub unsafe extern "C" fn walk_from(out: *mut u64, len: usize, caller: Caller) -> usize {
    let capture = |trail: &mut Trail| {
        let before = trail.addresses(0).to_vec();
        let kept = trail.capture(caller, local());
        assert_eq!(before[..kept], trail.addresses(0)[..kept]);
        trail.addresses(0).to_vec()
    };
    let anew = capture(&mut empty());
    let incrementally = TRAIL.with_borrow_mut(|trail| capture(trail));
    assert_eq!(incrementally, anew);
    // SAFETY: `compare` passes a slice's parts.
    let out = unsafe { std::slice::from_raw_parts_mut(out, len) };
    out[..anew.len()].copy_from_slice(&anew);
    out[..anew.len()].reverse();
    anew.len()
}

/// Tells the walk which stack is the thread's own, as `pthread_create` and the start do in a traced process.
fn know_own_stack() {
    // SAFETY: asks for the bounds of the calling thread's stack; every place is valid.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &mut attributes), 0);
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        libc::pthread_attr_getstack(&attributes, &mut low, &mut size);
        libc::pthread_attr_destroy(&mut attributes);
        local().stack_low.set(low as u64);
        local().stack_high.set(low as u64 + size as u64);
    }
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// Captures the stack both ways. The two calls differ in the innermost frame, and the reference also has its own.
#[inline(never)]
fn compare() {
    objects::init();
    stack::init();
    know_own_stack();
    let mut ours = [0; 1025];
    // SAFETY: the place has that many entries.
    let depth = unsafe { called_with_caller(ours.as_mut_ptr(), ours.len()) };
    let mut reference = Vec::new();
    backtrace::trace(|frame| {
        reference.push(frame.ip() as u64);
        true
    });
    let ours = &ours[..depth];
    let caller = reference.iter().position(|address| ours.get(1) == Some(address));
    let Some(caller) = caller else { panic!("no common caller: {ours:x?}, not {reference:x?}") };
    // After a signal frame the reference has the exact address, and ours is one more.
    let same = |(ours, theirs): (&u64, &u64)| ours == theirs || *ours == *theirs + 1;
    let theirs: Vec<_> = reference[caller..].iter().copied().filter(|&address| address != 0).collect();
    let equal = ours[1..].iter().zip(&theirs).all(same);
    assert!(equal && ours.len() - 1 == theirs.len(), "{:x?}, not {theirs:x?}", &ours[1..]);
    COMPARED.set(COMPARED.get() + 1);
}

fn compared(work: impl FnOnce()) -> usize {
    let before = COMPARED.get();
    work();
    COMPARED.get() - before
}

#[inline(never)]
fn recurse(depth: u32) -> u32 {
    if depth == 0 {
        compare();
        return 0;
    }
    std::hint::black_box(recurse(depth - 1)) + 1
}

#[test]
fn follows_plain_calls_and_closures() {
    assert_eq!(
        compared(|| {
            compare();
            recurse(1);
            recurse(100);
            let call: fn(&dyn Fn()) = std::hint::black_box(|f| f());
            call(&|| call(&compare));
            [3, 1, 2].iter().for_each(|_| compare());
        }),
        7
    );
}

#[test]
fn follows_frames_of_the_c_library() {
    extern "C" fn order(_: *const std::ffi::c_void, _: *const std::ffi::c_void) -> c_int {
        compare();
        0
    }
    let mut numbers = [2u64, 1];
    // SAFETY: two elements of eight bytes.
    let n = compared(|| unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 2, 8, Some(order)) });
    assert_eq!(n, 1);
}

#[test]
fn follows_the_frame_of_a_signal() {
    extern "C" fn handler(_: c_int) {
        recurse(3);
    }
    // SAFETY: the handler compares stacks of its own thread; the signal is sent by this thread to itself.
    let n = compared(|| unsafe {
        libc::signal(libc::SIGUSR1, handler as *const () as usize);
        libc::raise(libc::SIGUSR1);
    });
    assert_eq!(n, 1);
}

#[test]
fn follows_an_alternate_stack_back() {
    extern "C" fn handler(_: c_int) {
        recurse(2);
    }
    let mut memory = vec![0u8; 256 << 10];
    // SAFETY: the alternate stack is taken away again before its memory goes.
    let n = compared(|| unsafe {
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        let mut before = std::mem::zeroed();
        libc::sigaltstack(&stack, &mut before);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
        libc::raise(libc::SIGUSR2);
        libc::sigaltstack(&before, std::ptr::null_mut());
    });
    assert_eq!(n, 1);
}

#[test]
fn follows_another_thread_to_its_start() {
    let n = std::thread::spawn(|| compared(|| assert_eq!(recurse(10), 10))).join().unwrap();
    assert_eq!(n, 1);
}
