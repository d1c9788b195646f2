//! Reads `.prof` files and says what grew, and where.
//!
//! One room a stage, in the order in which data flows through them; each takes the type before it and gives the
//! next one:
//!
//! ```text
//! profile   a file, read block by block     → blocks
//! pauses    intervals of a file              → when recording was paused
//! survey    blocks                          → what the file says about itself
//! vitals    records                         → what was measured of the process, over time
//! evenly    vitals                         → their values between two readings
//! census    a file                          → its threads, and the number of its events
//! instant   what was typed after '@'        → Nanos
//! stream    one stream's bytes               → its changes of the live set, with their stacks
//! order     blocks of many streams           → their changes, in the order in which they happened
//! stacks    addresses                       → nodes of a tree, each with its module
//! blocks    keys                            → live blocks
//! live      changes                         → live blocks, and their sums by stack
//! levels    instants                        → how much is live at them
//! exit      levels                          → when the process began to free all that it had
//! ledger    changes                         → what each stack allocates, what dies young, ages
//! past      a forked process              → its parents' changes
//! replay    the seven above, over a file     → snapshots at instants, scans at those of a grid
//! shape     scans                           → levels over time, slopes, shapes
//! rows      snapshots                       → what is known of each stack and thread
//! symbols   the stacks that are left        → frames, through symbolize
//! calltree  rows and frames                 → stacks merged by symbol
//! growth    merged stacks                   → retained and net growth, ranked
//! filter    a tree                          → the stacks that are shown
//! figures   two files, once more            → everything that is known of each stack and thread
//! breakdown figures, what is shown          → rows by function, library, thread or stack
//! output    growth or tree                  → table, SVG, folded text, JSON
//! ```
//!
//! [`choice`] is what was asked for: which stacks, and which rows. [`input`] is a surveyed file with its instant. [`compare`] and
//! [`weigh`] run the whole line, the first for two instants and the second for one; [`timeline`] for many, without stacks.
//! [`control`] speaks to a process that is being traced.
#![deny(unsafe_code)]

pub mod units;
pub mod estimate;
pub mod threads;
pub mod vitals;
pub mod evenly;
pub mod pauses;
pub mod survey;
pub mod profile;
pub mod census;
pub mod instant;
pub mod modules;
pub mod stacks;
pub mod stream;
pub mod order;
pub mod blocks;
pub mod shape;
pub mod live;
mod levels;
mod exit;
pub mod ledger;
mod past;
pub mod replay;
pub mod held;
pub mod rows;
pub mod symbolize;
pub mod names;
pub mod symbols;
pub mod calltree;
pub mod growth;
pub mod figures;
pub mod suppress;
pub mod filter;
pub mod breakdown;
pub mod choice;
pub mod check;
pub mod input;
pub mod compare;
pub mod verdict;
pub mod story;
pub mod weigh;
pub mod timeline;
pub mod output;
pub mod control;

#[cfg(test)]
mod uniform;

#[cfg(test)]
#[path = "../tests/cli/synthetic.rs"]
#[allow(missing_docs)]
mod synthetic;

#[cfg(test)]
mod whole_tests;

#[cfg(test)]
mod timeline_tests;
