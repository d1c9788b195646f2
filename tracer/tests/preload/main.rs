//! Small C and C++ programs of `testdata/preload` under the tracer.
//!
//! Each is run without and with it, has to behave the same, and knows the truth about its allocations, which
//! the analyzer has to tell from the profile to the byte.

mod code;
mod controlled;
mod hang;
mod harness;
mod machine;

mod allocators;
mod descriptors;
mod control;
mod control_socket;
mod entry_points;
mod family;
mod held;
mod hook_path;
mod killed;
mod loader;
mod process;
mod python;
mod reference;
mod settings;
mod stacks;
mod storage;
mod symbols;
mod threads;
mod verdicts;
mod vitals;
mod young;
