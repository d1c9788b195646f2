//! Stacks that are deep, cut, swapped or left without returning.

use crate::harness::Case;

/// The documented depth cap.
const MAX_FRAMES: usize = 1024;

#[test]
fn deep_recursion() {
    let traced = Case::new("deep.c").unchanged().exact();
    let depths = |site| traced.stacks_of(site).into_iter().map(|stack| stack.frames.len());
    assert!(depths("under_100").all(|frames| (101..200).contains(&frames)));
    assert!(depths("under_900").all(|frames| (901..MAX_FRAMES).contains(&frames)));
    assert!(depths("under_1500").all(|frames| (1000..=MAX_FRAMES + 1).contains(&frames)));
    assert!(traced.stacks_of("under_900").iter().all(|stack| stack.frames.iter().any(|name| name == "main")));
}

#[test]
fn exceptions() {
    Case::new("exceptions.cpp").unchanged().exact().rooted_in("main");
}

#[test]
fn longjmp() {
    Case::new("longjmp.c").unchanged().exact().rooted_in("main");
}

#[test]
fn signal_handler_on_its_own_stack() {
    Case::new("signal_alloc.c").unchanged().exact().rooted_in("main");
}

#[test]
fn coroutines() {
    let traced = Case::new("coroutine.c").unchanged().exact();
    let complete = |site, root: &str| {
        traced.stacks_of(site).iter().all(|stack| stack.frames.iter().any(|name| name == root))
    };
    assert!(complete("in_coroutine", "coroutine"));
    assert!(complete("in_scheduler", "main"));
}
