//! Memory of the tracer, its heap and the pages of its tables and buffers that are in RAM, and of the program's stacks.

use super::pages::Pages;
use crate::unwind::rules;
use crate::{filter, heap, thread_stacks};
use prof::record::Vital;
use std::path::Path;

/// Measures it.
pub fn read(proc: &Path) -> Vec<(Vital, u64)> {
    let Some(pages) = Pages::open(proc) else { return Vec::new() };
    let tables = [(&raw const filter::PAGES as u64, size_of_val(&filter::PAGES) as u64), rules::cache()];
    let own: u64 = heap::mapped().chain(tables).map(|(start, len)| pages.resident(start, start + len)).sum();
    let stacks = thread_stacks::all().map(|(low, high)| pages.resident_from_above(low, high)).sum();
    vec![(Vital::TracerMemory, own + heap::allocated()), (Vital::ThreadStacksResident, stacks)]
}
