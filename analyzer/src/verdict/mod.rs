//! Is it a leak, where, how sure, what now.
//!
//! ```text
//! parts     vitals, live heap     → what memory the process grew by is
//! memory    vitals                → how it grows, and when a control group's limit will be reached
//! decide    all of these          → one of the classes
//! words     the class, figures    → sentences: what happened, and what to do
//! ```

pub mod decide;
pub mod memory;
pub mod parts;
pub mod words;

pub use decide::{Class, Evidence, Finding, find};
pub use memory::{Limit, Memory};
pub use parts::{Name, Part, Parts};
