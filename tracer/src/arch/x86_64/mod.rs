//! x86-64, System V ABI.

pub mod frame;
pub mod hooks;
pub mod step;
pub mod thread;
