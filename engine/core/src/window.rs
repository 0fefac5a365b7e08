//! Windows over signals, by PromQL's names, in bounded memory: a window is a ring of at most 60
//! buckets (200 for quantiles), each with only what its function needs. The newest bucket is part of
//! the window at once; the oldest leaves as a whole, so a window is up to one bucket longer than asked.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use qscaler_cel::WindowFunction as Function;

use crate::time::Time;

/// Buckets of a window.
const BUCKETS: u64 = 60;
/// Buckets of a window for quantiles, each with one sample: the newest.
const QUANTILE_BUCKETS: u64 = 200;

/// The memory of one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When its first sample came; a rate is per the time since then while the window is not full.
    began: Option<Time>,
    /// Time of the newest sample, so that none counts twice.
    newest: Option<Time>,
    /// Numbers of the buckets, rising, counted from `base`.
    buckets: VecDeque<u32>,
    /// What each bucket holds, one after the other.
    values: VecDeque<f64>,
    /// The number of the first bucket ever.
    base: i64,
}

/// What a window keeps per bucket of a function.
trait Bucketed: Sized {
    /// The function of a key's name; none for one of a later version.
    fn named(name: &str) -> Option<Self>;
    /// Numbers per bucket.
    fn width(self) -> usize;
    /// What a new bucket holds after its first sample, `ms` after the bucket began.
    fn first(self, value: f64, ms: f64) -> [f64; 3];
    /// Adds a sample to a bucket.
    fn add(self, held: [f64; 3], value: f64, ms: f64) -> [f64; 3];
}

impl Bucketed for Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            "sum" => Function::Sum,
            "count" => Function::Count,
            "last" => Function::Last,
            "quantile" => Function::Quantile,
            "stddev" => Function::Stddev,
            "delta" => Function::Delta,
            "increase" => Function::Increase,
            "rate" => Function::Rate,
            "deriv" => Function::Deriv,
            "predictlinear" => Function::PredictLinear,
            "ewma" => Function::Ewma,
            "maxever" => Function::MaxEver,
            _ => return None,
        })
    }

    fn width(self) -> usize {
        match self {
            Function::Min
            | Function::Max
            | Function::MaxEver
            | Function::Sum
            | Function::Count
            | Function::Last
            | Function::Quantile => 1,
            // Sum and count; first and last; mean and time of the newest sample.
            Function::Avg | Function::Delta | Function::Ewma => 2,
            // Count, mean, sum of squared distances; first, last, rise; count, mean value, mean time.
            Function::Stddev
            | Function::Increase
            | Function::Rate
            | Function::Deriv
            | Function::PredictLinear => 3,
            // Kept as histograms and not here.
            Function::DecayingQuantile
            | Function::DecayingSamples
            | Function::DecayingLifespan
            | Function::DecayingPeakQuantile => 0,
        }
    }

    fn first(self, value: f64, ms: f64) -> [f64; 3] {
        match self {
            Function::Avg => [value, 1.0, 0.0],
            Function::Count => [1.0, 0.0, 0.0],
            Function::Delta | Function::Increase | Function::Rate => [value, value, 0.0],
            Function::Stddev => [1.0, value, 0.0],
            Function::Deriv | Function::PredictLinear => [1.0, value, ms],
            _ => [value, 0.0, 0.0],
        }
    }

    fn add(self, held: [f64; 3], value: f64, ms: f64) -> [f64; 3] {
        let [a, b, c] = held;
        match self {
            Function::Avg => [a + value, b + 1.0, 0.0],
            Function::Min => [a.min(value), 0.0, 0.0],
            Function::Max | Function::MaxEver => [a.max(value), 0.0, 0.0],
            Function::Sum => [a + value, 0.0, 0.0],
            Function::Count => [a + 1.0, 0.0, 0.0],
            Function::Last | Function::Quantile | Function::Ewma => [value, 0.0, 0.0],
            Function::DecayingQuantile
            | Function::DecayingSamples
            | Function::DecayingLifespan
            | Function::DecayingPeakQuantile => held,
            Function::Delta => [a, value, 0.0],
            Function::Increase | Function::Rate => [a, value, c + rise(b, value)],
            // Welford 1962: mean and squared distances without a sum of squares that could cancel.
            Function::Stddev => {
                let mean = b + (value - b) / (a + 1.0);
                [a + 1.0, mean, c + (value - b) * (value - mean)]
            }
            Function::Deriv | Function::PredictLinear => {
                [a + 1.0, b + (value - b) / (a + 1.0), c + (ms - c) / (a + 1.0)]
            }
        }
    }
}

/// By how much a counter rose from one sample to the next; a fall is a restart at zero.
fn rise(before: f64, after: f64) -> f64 {
    if after >= before { after - before } else { after }
}

/// A bucket as it is read.
struct Bucket {
    held: [f64; 3],
    /// When it began, in milliseconds.
    begin: i64,
}

impl Window {
    /// Adds a sample. One that is not newer than the newest, or for a function that this version does
    /// not know, changes nothing.
    pub fn feed(&mut self, function: &str, length_ms: u64, at: Time, value: f64) {
        let Some(function) = Function::named(function) else { return };
        if self.newest.is_some_and(|newest| at <= newest) || !value.is_finite() {
            return;
        }
        if function == Function::Ewma {
            self.decay(length_ms, at, value);
        } else if function == Function::MaxEver {
            let before = self.values.front().copied().unwrap_or(value);
            self.values = VecDeque::from([before.max(value)]);
        } else {
            self.put(function, length_ms, at, value);
        }
        self.began.get_or_insert(at);
        self.newest = Some(at);
    }

    fn put(&mut self, function: Function, length_ms: u64, at: Time, value: f64) {
        let width = bucket_ms(function, length_ms);
        let number = at.0.div_euclid(width);
        if self.buckets.is_empty() {
            self.base = number;
            self.reserve(function);
        }
        let oldest = Self::number_of_oldest(function, length_ms, at);
        while self.buckets.front().is_some_and(|bucket| self.base + i64::from(*bucket) < oldest) {
            self.buckets.pop_front();
            self.values.drain(..function.width());
        }
        let ms = at.0.rem_euclid(width) as f64;
        let offset = u32::try_from(number - self.base).unwrap_or(u32::MAX);
        if self.buckets.back() == Some(&offset) {
            let start = self.values.len() - function.width();
            let held = function.add(self.read_at(start, function), value, ms);
            self.values.truncate(start);
            self.values.extend(&held[..function.width()]);
        } else {
            self.buckets.push_back(offset);
            self.values.extend(&function.first(value, ms)[..function.width()]);
        }
    }

    /// Space for a full window at once, so that a workload's memory does not creep.
    fn reserve(&mut self, function: Function) {
        let buckets = count(function) as usize + 1;
        self.buckets.reserve_exact(buckets);
        self.values.reserve_exact(buckets * function.width());
    }

    /// A mean in which a sample counts half after each half-life.
    fn decay(&mut self, half_life_ms: u64, at: Time, value: f64) {
        let held = self.values.front().copied();
        let next = match (held, self.newest) {
            (Some(held), Some(newest)) => {
                let passed = at.since(newest).as_secs_f64() * 1000.0;
                let keep = libm::exp2(-passed / half_life_ms.max(1) as f64);
                value + (held - value) * keep
            }
            _ => value,
        };
        self.values = VecDeque::from([next]);
    }

    fn number_of_oldest(function: Function, length_ms: u64, now: Time) -> i64 {
        let width = bucket_ms(function, length_ms);
        (now.0 - i64::try_from(length_ms).unwrap_or(i64::MAX)).div_euclid(width) + 1
    }

    fn read_at(&self, start: usize, function: Function) -> [f64; 3] {
        let mut held = [0.0; 3];
        for (place, value) in held.iter_mut().zip(self.values.range(start..start + function.width())) {
            *place = *value;
        }
        held
    }

    /// What the window says now; none when it holds no sample.
    pub fn read(&self, function: &str, length_ms: u64, argument: Option<f64>, now: Time) -> Option<f64> {
        let function = Function::named(function)?;
        if matches!(function, Function::Ewma | Function::MaxEver) {
            return self.values.front().copied();
        }
        let buckets = self.live(function, length_ms, now);
        let first = buckets.first()?;
        let last = buckets.last()?;
        let each = |place: usize| buckets.iter().map(move |bucket| bucket.held[place]);
        let result = match function {
            Function::Avg => each(0).sum::<f64>() / each(1).sum::<f64>(),
            Function::Min => each(0).fold(f64::INFINITY, f64::min),
            Function::Max | Function::MaxEver => each(0).fold(f64::NEG_INFINITY, f64::max),
            Function::Sum | Function::Count => each(0).sum(),
            Function::Last | Function::Ewma => last.held[0],
            Function::Quantile => quantile(each(0).collect(), argument.unwrap_or(0.5)),
            Function::Stddev => stddev(&buckets),
            Function::Delta => last.held[1] - first.held[0],
            Function::Increase => increase(&buckets),
            Function::Rate => increase(&buckets) / self.covered_seconds(length_ms, now)?,
            Function::Deriv => line(&buckets, now).0,
            Function::PredictLinear => {
                let (slope, level) = line(&buckets, now);
                level + slope * argument.unwrap_or(0.0)
            }
            Function::DecayingQuantile
            | Function::DecayingSamples
            | Function::DecayingLifespan
            | Function::DecayingPeakQuantile => return None,
        };
        result.is_finite().then_some(result)
    }

    fn live(&self, function: Function, length_ms: u64, now: Time) -> Vec<Bucket> {
        let (oldest, width) =
            (Self::number_of_oldest(function, length_ms, now), bucket_ms(function, length_ms));
        let numbered =
            self.buckets.iter().enumerate().map(|(place, offset)| (place, self.base + i64::from(*offset)));
        numbered
            .filter(|(_, number)| *number >= oldest)
            .map(|(place, number)| Bucket {
                held: self.read_at(place * function.width(), function),
                begin: number.saturating_mul(width),
            })
            .collect()
    }

    /// The time that the window has seen, at most its length. None before a second sample.
    fn covered_seconds(&self, length_ms: u64, now: Time) -> Option<f64> {
        let seen = now.since(self.began?).as_secs_f64();
        Some(seen.min(length_ms as f64 / 1000.0)).filter(|seconds| *seconds > 0.0)
    }

    /// Whether nothing was fed for longer than the window is long.
    pub fn is_over(&self, length_ms: u64, now: Time) -> bool {
        let length = std::time::Duration::from_millis(length_ms);
        self.newest.is_none_or(|newest| now.since(newest) > length)
    }
}

fn count(function: Function) -> u64 {
    if function == Function::Quantile { QUANTILE_BUCKETS } else { BUCKETS }
}

fn bucket_ms(function: Function, length_ms: u64) -> i64 {
    i64::try_from(length_ms.div_ceil(count(function)).max(1)).unwrap_or(i64::MAX)
}

/// As Prometheus computes it: linear between the two nearest ranks.
fn quantile(mut samples: Vec<f64>, quantile: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = quantile.clamp(0.0, 1.0) * (samples.len() - 1) as f64;
    let (low, high) = (rank.floor(), rank.ceil());
    samples[low as usize] + (samples[high as usize] - samples[low as usize]) * (rank - low)
}

/// Standard deviation over buckets (Chan, Golub and LeVeque 1979).
fn stddev(buckets: &[Bucket]) -> f64 {
    let merge = |(n, mean, squares): (f64, f64, f64), bucket: &Bucket| {
        let [count, bucket_mean, bucket_squares] = bucket.held;
        let (total, apart) = (n + count, bucket_mean - mean);
        (total, mean + apart * count / total, squares + bucket_squares + apart * apart * n * count / total)
    };
    let (n, _, squares) = buckets.iter().fold((0.0, 0.0, 0.0), merge);
    (squares / n).sqrt()
}

fn increase(buckets: &[Bucket]) -> f64 {
    let within: f64 = buckets.iter().map(|bucket| bucket.held[2]).sum();
    let between: f64 = buckets.windows(2).map(|pair| rise(pair[0].held[1], pair[1].held[0])).sum();
    within + between
}

/// Slope per second and level at `now` of the least-squares line through the buckets' means.
fn line(buckets: &[Bucket], now: Time) -> (f64, f64) {
    let point = |bucket: &Bucket| {
        let [count, value, ms] = bucket.held;
        (count, (bucket.begin - now.0) as f64 / 1000.0 + ms / 1000.0, value)
    };
    let points: Vec<_> = buckets.iter().map(point).collect();
    let weight: f64 = points.iter().map(|it| it.0).sum();
    let mean_time = points.iter().map(|it| it.0 * it.1).sum::<f64>() / weight;
    let mean = points.iter().map(|it| it.0 * it.2).sum::<f64>() / weight;
    let across: f64 = points.iter().map(|it| it.0 * (it.1 - mean_time) * (it.2 - mean)).sum();
    let along: f64 = points.iter().map(|it| it.0 * (it.1 - mean_time) * (it.1 - mean_time)).sum();
    let slope = if along > 0.0 { across / along } else { 0.0 };
    (slope, mean - slope * mean_time)
}
