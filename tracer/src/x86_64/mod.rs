//! What depends on the processor: thread-local state at a fixed offset, and the hooks.

pub mod hooks;
pub mod local;
