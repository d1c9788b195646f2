//! Which shape a level has.

use crate::estimate::{Estimated, Sum, Z, student_quantile};
use crate::shape::fit::{Fit, Level, Sampling};
use crate::shape::series::{Lasting, Series};

/// The shapes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// It grows, at the end too.
    Steady,
    /// It grew, and has stopped.
    WarmUp,
    /// It grows and falls back, again and again.
    Sawtooth {
        /// Seconds from one peak to the next.
        period: Estimated,
        /// Bytes from a peak to the trough after it.
        amplitude: Estimated,
    },
    /// It grew at one moment.
    Step {
        /// Seconds from the span's start.
        at: f64,
        /// By so many bytes.
        height: Estimated,
    },
    /// Blocks come and go; what is live has not grown.
    Churn,
    /// Too few samples to say.
    Unclear,
}

impl Kind {
    /// In one word, as in machine-readable output.
    pub fn text(self) -> &'static str {
        match self {
            Kind::Steady => "steady",
            Kind::WarmUp => "warm-up",
            Kind::Sawtooth { .. } => "sawtooth",
            Kind::Step { .. } => "step",
            Kind::Churn => "churn",
            Kind::Unclear => "unclear",
        }
    }
}

/// A shape with its figures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Which.
    pub kind: Kind,
    /// The slope of the level, over the part of the span that can be taken for a straight line.
    pub fit: Fit,
    /// Where that part begins, in seconds from the span's start.
    pub since: f64,
    /// The part of the growth that is expected to stay.
    pub lasting: Sum,
}

impl Shape {
    /// Whether the stack grows for certain, and goes on.
    pub fn grows(&self) -> bool {
        self.kind == Kind::Steady
    }
}

/// What a shape's height or amplitude is in terms of the level.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Contrast {
    /// By how much the level counts at each scan; nothing where the shape has no such figure.
    pub weights: Vec<f64>,
    /// Bytes that the figure may be larger by, as the level is known at the scans only.
    pub resolution: f64,
}

impl Kind {
    /// With what sampling leaves uncertain of the height or amplitude, and what lies between the scans.
    pub fn with_error(self, variance: f64, resolution: f64) -> Kind {
        let wider = |figure: Estimated| {
            let sampled = Estimated::from(Sum { value: figure.value, variance, observed: 0.0 });
            let ((low, high), (least, most)) = (figure.ci95, sampled.ci95);
            Estimated { ci95: (low.min(least), high.max(most) + resolution), ..figure }
        };
        match self {
            Kind::Sawtooth { period, amplitude } => Kind::Sawtooth { period, amplitude: wider(amplitude) },
            Kind::Step { at, height } => Kind::Step { at, height: wider(height) },
            other => other,
        }
    }
}

/// Fewer samples than this say nothing about a shape: the interval of their sum would include zero, were it symmetric.
const LEAST_SAMPLES: f64 = 4.0;

/// A step happens within this share of the span.
const STEP_SHARE: usize = 64;

/// The shape of a level, without what sampling leaves uncertain of its height or amplitude. `sampling` is what it leaves
/// uncertain of the slope since `from`.
pub fn classify(series: &Series, lasting: &Lasting, from: usize, sampling: Sampling) -> (Shape, Contrast) {
    let level = &series.level;
    let n = level.len();
    let fit = level.part(from..n).fit().with_sampling(sampling);
    let since = level.times.get(from).copied().unwrap_or(0.0);
    let with = |kind, contrast| (Shape { kind, fit, since, lasting: lasting.bytes }, contrast);
    let of = |kind| with(kind, Contrast::default());
    let new: Sum = series.ends.iter().skip(1).fold(Sum::default(), |sum, end| sum.plus(*end));
    if new.variance > 0.0 && new.value * new.value / new.variance < LEAST_SAMPLES {
        return of(Kind::Unclear);
    }
    let (Some(first), Some(last)) = (level.values.first().copied(), level.values.last().copied()) else {
        return of(Kind::Unclear);
    };
    let rise = last - first;
    let stays = lasting.bytes.value > Z * lasting.bytes.variance.sqrt()
        && lasting.bytes.value > 0.05 * new.value.max(rise);
    let duration = level.times.last().copied().unwrap_or(0.0) - since;
    if let Some((step, contrast)) = step(level).filter(|_| stays && rise > 0.0) {
        return with(step, contrast);
    }
    if let Some(saw) = Saw::find(level, &series.variances) {
        return if saw.floor_rises && stays { of(Kind::Steady) } else { with(saw.kind, saw.contrast) };
    }
    if stays && fit.rises() && fit.slope * duration > 0.02 * (rise.max(new.value)) {
        return of(Kind::Steady);
    }
    if stays && rise > 0.25 * new.value {
        let step = later_step(level, rise);
        return step.map_or_else(|| of(Kind::WarmUp), |(step, contrast)| with(step, contrast));
    }
    of(Kind::Churn)
}

/// The largest rise within a short time: where it begins, and its height.
fn largest_rise(level: &Level) -> Option<(usize, usize, f64)> {
    let n = level.len();
    let width = (n / STEP_SHARE).max(1);
    let rise = |at: usize| Some(level.values.get(at + width)? - level.values.get(at)?);
    let all = (0..n).filter_map(|at| Some((at, at + width, rise(at)?)));
    all.max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)))
}

/// One rise that is most of all, after which the level stays. In the first sixteenth of a span it is how programs begin.
fn step(level: &Level) -> Option<(Kind, Contrast)> {
    let (from, to, height) = largest_rise(level)?;
    let (n, first, last) = (level.len(), *level.values.first()?, *level.values.last()?);
    let after = level.values.get(to..)?;
    let holds = after.iter().all(|x| *x >= last - 0.3 * height && *x <= last + 0.3 * height);
    (height >= 0.7 * (last - first) && holds && from >= n / 16).then(|| place(level, from, to, height))
}

/// Where growth is not at the beginning and not steady, its largest step.
fn later_step(level: &Level, rise: f64) -> Option<(Kind, Contrast)> {
    let n = level.len();
    let (first, middle) = (*level.values.first()?, *level.values.get(n / 2)?);
    let (from, to, height) = largest_rise(level)?;
    (middle - first < 0.5 * rise && height > 0.2 * rise).then(|| place(level, from, to, height))
}

/// A step at the place of its steepest part.
fn place(level: &Level, from: usize, to: usize, height: f64) -> (Kind, Contrast) {
    let rise = |at: usize| level.values.get(at + 1).zip(level.values.get(at)).map_or(0.0, |(b, a)| b - a);
    let steepest = (from..to).max_by(|a, b| rise(*a).total_cmp(&rise(*b)).then(b.cmp(a))).unwrap_or(from);
    let time = |at: usize| level.times.get(at).copied().unwrap_or(0.0);
    let kind =
        Kind::Step { at: (time(steepest) + time(steepest + 1)) / 2.0, height: Estimated::exact(height) };
    (kind, Contrast { weights: weights(level.len(), &[to], &[from]), resolution: 0.0 })
}

/// Samples that come and go rise and fall by some standard deviations of their sum all the time: what does no more is no
/// sawtooth. One that falls to zero has 16 samples at its peaks then.
const SAW_OVER_NOISE: f64 = 4.0;

/// The level at some scans less the level at others, in the mean.
fn weights(scans: usize, more: &[usize], less: &[usize]) -> Vec<f64> {
    let mut weights = vec![0.0; scans];
    for (at, sign) in [(more, 1.0), (less, -1.0)] {
        for scan in at {
            weights.iter_mut().skip(*scan).take(1).for_each(|weight| *weight += sign / at.len() as f64);
        }
    }
    weights
}

struct Saw {
    kind: Kind,
    contrast: Contrast,
    floor_rises: bool,
}

impl Saw {
    /// Rises and falls of at least a third of the level's largest fall, and in the mean of a fifth of its highest peak, at
    /// distances that are alike; `variances` is what sampling leaves uncertain at each instant.
    fn find(level: &Level, variances: &[f64]) -> Option<Saw> {
        let (peaks, troughs) = turns(level);
        // What the level does before its first fall and after its last one is not a whole cycle.
        if peaks.len() < 3 || troughs.len() < 2 {
            return None;
        }
        let time = |at: &usize| level.times.get(*at).copied().unwrap_or(0.0);
        let value = |at: &usize| level.values.get(*at).copied().unwrap_or(0.0);
        let periods: Vec<f64> =
            peaks.iter().zip(peaks.iter().skip(1)).map(|(a, b)| time(b) - time(a)).collect();
        let (period, deviation) = mean_and_deviation(&periods);
        let fallen = peaks.get(..troughs.len().min(peaks.len())).unwrap_or(&peaks);
        let falls: Vec<f64> =
            fallen.iter().zip(&troughs).map(|(peak, trough)| value(peak) - value(trough)).collect();
        let (amplitude, scatter) = mean_and_deviation(&falls);
        let steps_apart = (peaks.last()? - peaks.first()?) as f64 / (peaks.len() - 1) as f64;
        let top = peaks.iter().map(value).fold(0.0, f64::max);
        let variance: f64 = peaks.iter().filter_map(|at| variances.get(*at)).sum();
        let noise = (variance / peaks.len() as f64).sqrt();
        if amplitude < SAW_OVER_NOISE * noise {
            return None;
        }
        if deviation > 0.4 * period || steps_apart < 4.0 || amplitude < 0.2 * top {
            return None;
        }
        let floor =
            Level { times: troughs.iter().map(time).collect(), values: troughs.iter().map(value).collect() };
        let rise = floor.values.last()? - floor.values.first()?;
        let floor_rises = floor.len() >= 4 && floor.fit().rises() && rise > 0.25 * amplitude;
        let step = level.times.last()? / (level.len() - 1) as f64;
        let kind = Kind::Sawtooth {
            period: around(period, deviation, periods.len(), step / periods.len() as f64),
            amplitude: around(amplitude, scatter, falls.len(), 0.0),
        };
        // The level may have risen for a step after a scan, and from a step before one.
        let resolution = 2.0 * amplitude / steps_apart;
        let contrast = Contrast { weights: weights(level.len(), fallen, &troughs), resolution };
        Some(Saw { kind, contrast, floor_rises })
    }
}

/// Peaks and troughs, in turn; between two of them the level moves by at least a third of what it moves at most between any
/// two of its instants, one after the other.
fn turns(level: &Level) -> (Vec<usize>, Vec<usize>) {
    let values = &level.values;
    let drop = largest_fall(values);
    let least = drop / 3.0;
    let (mut peaks, mut troughs) = (Vec::new(), Vec::new());
    if drop <= 0.0 {
        return (peaks, troughs);
    }
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    let (mut high, mut low) = (0, 0);
    let mut rising = true;
    for i in 0..values.len() {
        if rising {
            if at(i) > at(high) {
                high = i;
            }
            if at(high) - at(i) >= least {
                peaks.push(high);
                (rising, low) = (false, i);
            }
        } else {
            if at(i) < at(low) {
                low = i;
            }
            if at(i) - at(low) >= least {
                troughs.push(low);
                (rising, high) = (true, i);
            }
        }
    }
    (peaks, troughs)
}

/// From a value to the smallest one after it.
fn largest_fall(values: &[f64]) -> f64 {
    let mut high = f64::MIN;
    values.iter().fold(0.0, |most: f64, value| {
        high = high.max(*value);
        most.max(high - value)
    })
}

/// A mean of `n` values with its interval: Student's, and what each end may be off by besides.
fn around(mean: f64, deviation: f64, n: usize, resolution: f64) -> Estimated {
    // The deviation is that of the values, not the one that is estimated for others like them.
    let freedom = n.saturating_sub(1);
    let margin = match deviation > mean.abs() * 1e-9 {
        true => student_quantile(freedom) * deviation / (freedom as f64).sqrt(),
        false => 0.0,
    };
    Estimated { value: mean, ci95: ((mean - margin - resolution).max(0.0), mean + margin + resolution) }
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}
