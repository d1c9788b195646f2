//! How many bytes pass until the next sample: the gaps of a Poisson process over allocated bytes.
//!
//! Gaps are drawn independently from the exponential distribution with the interval as mean. That distribution has no
//! memory, so a thread may start with a fresh gap, and a gap may be redrawn when the interval changes, without bias.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// SplitMix64: a counter, so that threads draw from one sequence without a lock.
static STATE: AtomicU64 = AtomicU64::new(0);

/// Longer than any gap drawn: stands for "never".
pub const NEVER: u64 = 1 << 62;

/// Takes real entropy for the sequence.
pub fn seed(entropy: u64) {
    STATE.store(entropy, Relaxed);
}

/// In a forked child, whose samples would else be its siblings'.
pub fn reseed() {
    let own = crate::clock::now().0.rotate_left(32) ^ u64::from(std::process::id());
    STATE.fetch_xor(own.wrapping_mul(0xd6e8_feb8_6659_fd93), Relaxed);
}

fn random() -> u64 {
    let mut x = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Draws a gap with a mean of `interval` bytes: at least 1, so that a block of no bytes is never sampled. A block of
/// `size` bytes is sampled where `size` ≥ gap, which has the probability 1 − exp(−size / interval).
pub fn gap(interval: u64) -> u64 {
    // Uniform in (0, 1]: 53 random bits, never zero.
    let uniform = ((random() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    (-libm::log(uniform) * interval as f64).ceil().clamp(1.0, NEVER as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_sampled_with_the_stated_probability() {
        seed(42);
        let interval = 4096;
        for size in [16, 1000, 4096, 20_000] {
            let draws = 200_000;
            let taken = (0..draws).filter(|_| gap(interval) <= size).count() as f64;
            let expected = prof::weight::probability(size, interval) * draws as f64;
            let sigma = (expected * (1.0 - expected / draws as f64)).sqrt();
            assert!((taken - expected).abs() < 4.0 * sigma, "size {size}: {taken} of {expected}");
        }
    }

    #[test]
    fn gaps_have_the_interval_as_mean() {
        seed(7);
        let draws = 200_000;
        let mean = (0..draws).map(|_| gap(512 << 10) as f64).sum::<f64>() / f64::from(draws);
        assert!((mean / (512.0 * 1024.0) - 1.0).abs() < 0.01, "{mean}");
    }
}
