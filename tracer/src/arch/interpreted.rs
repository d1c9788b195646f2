//! `thread` where Miri interprets the library: it knows neither assembly nor the processor's thread pointer.

use crate::local::SIZE;
use std::cell::UnsafeCell;

#[repr(C, align(8))]
struct Block(UnsafeCell<[u8; SIZE]>);

thread_local! {
    static BLOCK: Block = const { Block(UnsafeCell::new([0; SIZE])) };
}

/// The address of the calling thread's block.
pub fn block() -> *const u8 {
    BLOCK.with(|block| block.0.get().cast_const().cast())
}

/// Nothing is known of the stack.
pub fn own_stack(_size: u64) -> (u64, u64) {
    (0, 0)
}
