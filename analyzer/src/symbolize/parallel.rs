//! Symbolizes many images at once.

use std::num::NonZeroUsize;
use std::thread;

use super::{Image, ImageSymbols, Options, symbolize};

/// One more image is done.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Images that are done.
    pub images_done: usize,
    /// All images.
    pub images: usize,
    /// Addresses of the images that are done.
    pub addresses_done: usize,
    /// All addresses.
    pub addresses: usize,
}

/// Symbolizes every image, each in one thread, the largest files first. The results stand in the
/// order of the images whatever order they were done in. `progress` is called in the caller's
/// thread, once after each image.
pub fn symbolize_all(
    images: &[(Image<'_>, Vec<u64>)],
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Vec<ImageSymbols> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by_cached_key(|&index| {
        let (image, svmas) = &images[index];
        let size = std::fs::metadata(image.path).map_or(0, |metadata| metadata.len());
        (std::cmp::Reverse((size, svmas.len())), index)
    });
    let mut state = Progress {
        images_done: 0,
        images: images.len(),
        addresses_done: 0,
        addresses: images.iter().map(|(_, svmas)| svmas.len()).sum(),
    };
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (work_sender, work) = crossbeam_channel::unbounded();
    let (done_sender, done) = crossbeam_channel::unbounded();
    for index in order {
        // The receiver outlives this loop: sending cannot fail.
        let _ = work_sender.send(index);
    }
    drop(work_sender);
    let mut results: Vec<Option<ImageSymbols>> = images.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..workers.min(images.len()) {
            let (work, done_sender) = (work.clone(), done_sender.clone());
            scope.spawn(move || {
                for index in work {
                    let (image, svmas) = &images[index];
                    // Fails only when the caller's thread is gone.
                    let _ = done_sender.send((index, symbolize(image, svmas, options)));
                }
            });
        }
        drop(done_sender);
        for (index, symbols) in done {
            state.images_done += 1;
            state.addresses_done += images[index].1.len();
            results[index] = Some(symbols);
            progress(state);
        }
    });
    results.into_iter().flatten().collect()
}
