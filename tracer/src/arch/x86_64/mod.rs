//! x86-64, System V ABI.

pub mod frame;
pub mod caller;
pub mod hooks;
pub mod step;
#[cfg_attr(miri, path = "../interpreted.rs")]
pub mod thread;
