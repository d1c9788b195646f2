//! What depends on the processor: one folder each, with the same files and the same names in them.
//!
//! | file | what |
//! |---|---|
//! | `hooks` | the shapes of hooks, in assembly |
//! | `caller` | the shape of hooks that are written in Rust, in assembly |
//! | `thread` | the thread's block of static TLS, and its own stack |
//! | `frame` | registers and their DWARF numbers; what a hook says of its caller |
//! | `step` | packed unwind rules, and the step from a frame to its caller's |
//!
//! Miri interprets no assembly: there `thread` is `interpreted`. For processors without a folder of their own there is
//! `other`, which records samples only.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{caller, frame, hooks, step, thread};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use other::{caller, frame, hooks, refusal, step, thread};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{caller, frame, hooks, step, thread};

/// Why the library cannot record what it is asked to, if it cannot.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn refusal(_every: bool) -> Option<&'static str> {
    None
}

#[cfg(test)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use super::thread::own_stack;

    #[test]
    fn the_own_stack_is_mapped_from_here_to_its_high_end() {
        const SIZE: usize = 1 << 20;
        let check = || {
            let place = 0u8;
            let here = &raw const place as u64;
            let (low, high) = own_stack(SIZE as u64);
            assert!(low < here && here < high && high - low <= SIZE as u64);
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let mut bounds = maps.lines().map(|line| line.split([' ', '-']).take(2).map(number));
            let mapped = bounds.any(|mut of| {
                of.next().is_some_and(|start| start <= here) && of.next().is_some_and(|end| end >= high)
            });
            assert!(mapped, "{here:x} to {high:x} in\n{maps}");
        };
        std::thread::Builder::new().stack_size(SIZE).spawn(check).unwrap().join().unwrap();
    }
}
