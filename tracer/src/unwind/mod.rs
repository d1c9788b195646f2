//! Walks the calling thread's stack: no allocation, no lock, no loader call but glibc's lock-free `_dl_find_object`,
//! where it has one.
//!
//! ```text
//! trail ──▶ rules: return address → rule, a process-wide cache ──miss──▶ objects ──▶ cfi: .eh_frame_hdr, .eh_frame
//!   │  └──▶ walk, arch::step: from a frame to its caller                    └──▶ table, where glibc has no look-up
//!   └─────▶ window, stack: which memory may be read
//! ```
//! Everywhere an address is a return address: what it belongs to is looked up one byte before. Where a signal
//! interrupted a function the exact address is made into one by adding 1.
//!
//! On processors that have no steps in `arch`, stacks come from the `backtrace` crate (`whole`).

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod cfi;
pub mod objects;
pub mod rules;
pub mod stack;
pub mod table;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod walk;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod window;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "whole.rs")]
pub mod trail;

#[cfg(test)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod tests;
