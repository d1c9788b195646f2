//! How the live bytes of stacks develop over a span: do they grow, and in which shape.
//!
//! ```text
//! grid      the span                      → instants at equal distances
//! scan      the live set at those         → bytes by stack and time of birth, in bounded memory
//! series    scans, stacks in groups       → of each group its level over time, and what is live at the end by birth
//! survival  a group's scans               → which part of what has an age will stay
//! fit       a level over time             → its slope, with an interval
//! class     all of these                  → the shape
//! ```
//!
//! The method, with its sources, is written down in `docs/METHOD.md`.

pub mod class;
pub mod fit;
pub mod grid;
pub mod scan;
pub mod series;
pub mod survival;
pub mod tally;

#[cfg(test)]
mod tests;

pub use class::{Kind, Shape};
pub use grid::Grid;
pub use scan::History;

use class::Contrast;
use fit::Level;
use series::Groups;

/// A group's level over time, and its shape.
#[derive(Clone, Debug)]
pub struct Development {
    /// Live bytes at each scan, by seconds from the span's start.
    pub level: Level,
    /// What it looks like.
    pub shape: Shape,
}

impl History {
    /// How each group develops.
    pub fn develop(&self, groups: &Groups) -> Vec<Development> {
        let all = self.series(groups);
        let settled: Vec<usize> = all.iter().map(|series| series.level.settled()).collect();
        let weights = all.iter().zip(&settled).map(|(series, from)| {
            let mut weights = vec![0.0; *from];
            weights.extend(series.level.part(*from..series.level.len()).weights());
            weights
        });
        let sampling = self.sampling(groups, &weights.collect::<Vec<_>>());
        let each = all.into_iter().zip(settled).zip(sampling);
        let each = each.map(|((series, from), sampling)| {
            let (shape, contrast) = class::classify(&series, &self.lasting(&series), from, sampling);
            (Development { level: series.level, shape }, contrast)
        });
        let (mut all, contrasts): (Vec<Development>, Vec<Contrast>) = each.unzip();
        if contrasts.iter().any(|contrast| !contrast.weights.is_empty()) {
            let weights = contrasts.iter().map(|contrast| contrast.weights.clone());
            let sampling = self.sampling(groups, &weights.collect::<Vec<_>>());
            for ((development, contrast), sampling) in all.iter_mut().zip(&contrasts).zip(sampling) {
                development.shape.kind =
                    development.shape.kind.with_error(sampling.variance, contrast.resolution);
            }
        }
        all
    }
}
