//! Stacks that are deep, cut, swapped or left without returning.

use crate::harness::{Case, Stack, compiled, machine};

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
fn realigned() {
    let traced = Case::new("realigned.c").unchanged().exact().rooted_in("main");
    for Stack { frames, .. } in traced.stacks_of("in_realigned") {
        let turns =
            frames.iter().skip(1).take_while(|name| ["realigned", "between"].contains(&name.as_str()));
        let turns = turns.count();
        assert!(turns >= 4 && turns % 2 == 0 && frames[turns + 1] == "main", "{frames:#?}");
    }
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
fn signal_handler_that_interrupts_a_leaf() {
    let traced = Case::new("leaf_signal.c").unchanged().exact().rooted_in("main");
    for Stack { frames, .. } in traced.stacks_of("in_handler") {
        let interrupted = frames.iter().position(|name| name == "leaf").expect("the interrupted function");
        assert_eq!(frames[interrupted + 1], "calls_leaf", "{frames:#?}");
    }
}

#[test]
fn frame_pointers_where_there_is_no_unwind_information() {
    if !machine().follows_frame_pointers() {
        return;
    }
    let flags = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-omit-frame-pointer"];
    let flags = [["-fPIC", "-shared"].as_slice(), &flags].concat();
    let library = compiled("frame_pointers_library.c", "frame_pointers_library.so", &flags);
    let program = compiled("frame_pointers.c", "frame_pointers", &[library.to_str().unwrap()]);
    let traced = Case::of(program).unchanged().exact().rooted_in("main");
    for Stack { frames, .. } in traced.stacks_of("behind_relay") {
        let count = |name| frames.iter().filter(|frame| *frame == name).count();
        assert_eq!((count("from_here"), count("main")), (1, 1), "{frames:#?}");
    }
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
