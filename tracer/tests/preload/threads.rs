//! Blocks that cross threads, and threads that come and go.

use crate::harness::Case;

#[test]
fn freed_by_another_thread() {
    Case::new("threads.cpp").unchanged().exact();
}

#[test]
fn realloc_chains_across_threads() {
    Case::new("realloc_chain.c").unchanged().exact();
}

#[test]
fn one_block_per_short_lived_thread() {
    Case::new("threads_leak.c").unchanged().exact();
}

/// 4,000 blocks of 1,000 bytes at one sample in 20,000 bytes: 195 samples or so, six standard errors are 43 %.
#[test]
fn short_lived_threads_sampled() {
    let case = Case::new("threads_leak.c").arg("4000").arg("1000").settings("interval=20000");
    let traced = case.unchanged();
    let (truth, measured) = (traced.truth("live"), traced.measured());
    let ratio = measured["leak_in_thread"].0 as f64 / truth["leak_in_thread"].0 as f64;
    assert!((0.57..1.43).contains(&ratio), "{ratio} of the truth");
}

/// A gRPC server starts hundreds of threads a second. When each of them took a buffer of its own until the next flush,
/// the buffers ran out and events were lost. At this interval nearly every block is sampled.
#[test]
fn threads_that_come_and_go_lose_nothing() {
    let case = Case::new("threads_leak.c").arg("4000").arg("1000").settings("interval=64");
    let traced = case.unchanged();
    let (truth, measured) = (traced.truth("live"), traced.measured());
    let ratio = measured["leak_in_thread"].0 as f64 / truth["leak_in_thread"].0 as f64;
    assert!((ratio - 1.0).abs() < 0.001, "{ratio} of the truth");
}
