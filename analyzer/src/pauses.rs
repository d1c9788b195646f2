//! When recording was paused.

use crate::units::Seconds;
use prof::Nanos;

/// The pauses of a file, in its order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pauses(Vec<(Nanos, Option<Nanos>)>);

impl Pauses {
    /// An interval is stated: 0 begins a pause, any other ends it.
    pub fn note(&mut self, time: Nanos, interval: u64) {
        let open = self.0.last_mut().filter(|(_, end)| end.is_none());
        match (open, interval) {
            (None, 0) => self.0.push((time, None)),
            (Some((_, end)), 1..) => *end = Some(time),
            _ => {}
        }
    }

    /// When each began and ended; the last may not have.
    pub fn all(&self) -> &[(Nanos, Option<Nanos>)] {
        &self.0
    }

    /// Those that began before an instant.
    pub fn until(&self, instant: Nanos) -> Pauses {
        Pauses(self.0.iter().copied().filter(|(begin, _)| *begin < instant).collect())
    }

    /// What the evidence lacks; `seconds` is since the start of the process.
    pub fn warning(&self, seconds: impl Fn(Nanos) -> f64) -> Option<String> {
        const NAMED: usize = 3;
        let time = |time| Seconds(seconds(time));
        let span = |&(from, to): &(Nanos, Option<Nanos>)| match to {
            Some(to) => format!("from {} to {}", time(from), time(to)),
            None => format!("from {} on", time(from)),
        };
        let mut spans: Vec<String> = self.0.iter().take(NAMED).map(span).collect();
        if self.0.len() > NAMED {
            spans.push(format!("{} times more", self.0.len() - NAMED));
        }
        let what = "what was allocated or resized then is missing";
        (!spans.is_empty()).then(|| format!("recording was paused {}: {what}", spans.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(intervals: &[(u64, u64)]) -> Option<String> {
        let mut pauses = Pauses::default();
        intervals.iter().for_each(|&(second, bytes)| pauses.note(Nanos(second * 1_000_000_000), bytes));
        pauses.warning(Nanos::seconds)
    }

    #[test]
    fn says_from_when_to_when() {
        assert_eq!(warning(&[]), None);
        assert_eq!(warning(&[(1, 4096), (2, 8192)]), None);
        let missing = "what was allocated or resized then is missing";
        let once = format!("recording was paused from 2.0 s to 5.0 s: {missing}");
        assert_eq!(warning(&[(1, 4096), (2, 0), (3, 0), (5, 1), (6, 1)]), Some(once));
        let many: Vec<_> = (0..5).flat_map(|i| [(2 * i, 0), (2 * i + 1, 9)]).chain([(10, 0)]).collect();
        let said = warning(&many).unwrap();
        assert!(said.ends_with(&format!("from 4.0 s to 5.0 s, 3 times more: {missing}")), "{said}");
        assert_eq!(warning(&[(7, 0)]), Some(format!("recording was paused from 7.0 s on: {missing}")));
    }
}
