//! AArch64, AAPCS64.

pub mod frame;
pub mod hooks;
pub mod step;
pub mod thread;
