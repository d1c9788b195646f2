//! What one sample stands for.
//!
//! Allocations are sampled by a Poisson process over allocated bytes with a mean of `interval` bytes between points:
//! a block of `size` bytes is recorded with probability p = 1 − exp(−size / interval), independently of all others.
//! Weighting every recorded block with 1/p makes sums over samples unbiased (Horvitz and Thompson 1952).

/// The interval at which every allocation is recorded.
pub const EVERY: u64 = 1;

/// The probability with which a block of `size` bytes is recorded at a mean interval of `interval` bytes.
pub fn probability(size: u64, interval: u64) -> f64 {
    if interval <= EVERY { 1.0 } else { -libm::expm1(-(size as f64) / interval as f64) }
}

/// The number of blocks that one recorded block of `size` bytes stands for; times `size`: the bytes.
pub fn blocks(size: u64, interval: u64) -> f64 {
    1.0 / probability(size.max(1), interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_blocks_stand_for_an_interval_and_large_ones_for_themselves() {
        assert!((blocks(16, 512 << 10) * 16.0 - 524_296.0).abs() < 1.0);
        assert!((blocks(64 << 20, 512 << 10) - 1.0).abs() < 1e-9);
        assert_eq!(blocks(16, EVERY), 1.0);
        assert_eq!(blocks(0, EVERY), 1.0);
    }
}
