//! Which part of what is live will stay: a life table.
//!
//! Blocks that are live at one scan and not at the next have died at the age that they had. At each age, in strides, the
//! hazard h is the share of bytes that died within one stride; what has an age will stay with the product of (1 − h) over
//! that age and all older ones that were observed (Kaplan & Meier 1958, for deaths that are seen in intervals). The youngest
//! blocks of a run are counted as what would be left of them.

/// Risk and deaths of one age.
#[derive(Clone, Copy, Debug, Default)]
struct Age {
    /// Bytes that were live at a scan and could die before the next.
    risk: f64,
    /// Those that did.
    died: f64,
    /// Recorded blocks at risk.
    samples: f64,
}

/// Risk and deaths by age.
#[derive(Clone, Debug, Default)]
pub struct LifeTable {
    /// In strides.
    ages: Vec<Age>,
}

/// The part that stays, and how sure that is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Staying {
    /// Between 0 and 1.
    pub share: f64,
    /// Standard deviation of the logarithm of `share` (Greenwood 1926).
    pub log_deviation: f64,
}

/// Of ages that nothing was observed of.
const ALL: Staying = Staying { share: 1.0, log_deviation: 0.0 };

impl LifeTable {
    /// Of `bytes` in `samples` blocks at an age, in strides, `died` before the next scan.
    pub fn add(&mut self, age: usize, bytes: f64, samples: u32, died: f64) {
        if self.ages.len() <= age {
            self.ages.resize(age + 1, Age::default());
        }
        if let Some(age) = self.ages.get_mut(age) {
            age.risk += bytes;
            age.died += died.clamp(0.0, bytes);
            age.samples += f64::from(samples);
        }
    }

    /// What stays of each age, in strides; of older ones all.
    pub fn staying(&self) -> Vec<Staying> {
        let mut all = vec![ALL; self.ages.len() + 1];
        let (mut share, mut log_variance) = (1.0, 0.0_f64);
        for (age, staying) in self.ages.iter().zip(&mut all).rev() {
            if age.risk > 0.0 {
                let hazard = (age.died / age.risk).clamp(0.0, 1.0);
                share *= 1.0 - hazard;
                log_variance += hazard / ((1.0 - hazard).max(1e-9) * age.samples.max(1.0));
            }
            // Of what is nearly certain to die, the logarithm says nothing any more.
            *staying = Staying { share, log_deviation: log_variance.sqrt().min(2.0) };
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_dies_stays_and_what_dies_at_an_age_does_not() {
        let mut table = LifeTable::default();
        for age in 0..10 {
            table.add(age, 100.0, 1, 0.0);
        }
        assert!(table.staying().iter().all(|staying| staying.share == 1.0));
        table.add(3, 100.0, 1, 100.0);
        let shares: Vec<f64> = table.staying().iter().map(|staying| staying.share).collect();
        assert_eq!((shares[0], shares[3], shares[4], shares[10]), (0.5, 0.5, 1.0, 1.0));
    }
}
