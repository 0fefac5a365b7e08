//! Decaying histograms with the buckets and weights of the VerticalPodAutoscaler, so that both say the
//! same of the same samples, and each can go on with what the other has gathered.
//!
//! A sample of the time t weighs 2^((t - reference) / half-life) as much as one at the reference, so
//! that nothing has to be touched for the older ones to fade. The reference moves before the exponents
//! grow too large, by whole half-lives, which scales weights by powers of two and rounds nothing.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Weights under this count as none.
const EPSILON: f64 = 1e-4;
/// The reference moves when a weight would be larger than two to the power of this.
const EXPONENT_MAX: f64 = 100.0;
/// What the heaviest bucket weighs in the VerticalPodAutoscaler's checkpoints.
const CHECKPOINT_MAX: f64 = 10_000.0;

/// Into which buckets values are put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    first: f64,
    ratio: f64,
    count: usize,
}

impl Buckets {
    /// Of processor: from 10 thousandths of a core, to 1,000 cores.
    pub fn cores() -> Self {
        Self::growing(1000.0, 0.01, 1.05)
    }

    /// Of memory: from 10 MB to 1 TB.
    pub fn bytes() -> Self {
        Self::growing(1e12, 1e7, 1.05)
    }

    /// Buckets up to `max`, the first of this size and each larger than the one before by this ratio.
    pub fn growing(max: f64, first: f64, ratio: f64) -> Self {
        let count = (libm::log(max * (ratio - 1.0) / first + 1.0) / libm::log(ratio)).ceil() as usize + 1;
        Self { first, ratio, count }
    }

    /// Buckets up to `max`, all of this size.
    pub fn equal(max: f64, size: f64) -> Self {
        Self { first: size, ratio: 1.0, count: (max / size).ceil() as usize + 1 }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.count
    }

    fn is_growing(self) -> bool {
        self.ratio > 1.0
    }

    /// The least value of a bucket.
    pub fn start(self, bucket: usize) -> f64 {
        match bucket {
            0 => 0.0,
            bucket if self.is_growing() => {
                self.first * (libm::pow(self.ratio, bucket as f64) - 1.0) / (self.ratio - 1.0)
            }
            bucket => self.first * bucket as f64,
        }
    }

    /// The bucket of a value; the first and the last one take what lies outside.
    pub fn find(self, value: f64) -> usize {
        let place = if value < self.first {
            0.0
        } else if self.is_growing() {
            libm::log(value * (self.ratio - 1.0) / self.first + 1.0) / libm::log(self.ratio)
        } else {
            value / self.first
        };
        (place as usize).min(self.count - 1)
    }
}

/// A histogram in which samples fade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// At which a sample weighs what it weighs.
    reference: Time,
    /// The number of the first bucket that is kept.
    first: u16,
    /// Weights, from that bucket on.
    weights: Vec<f64>,
    total: f64,
}

impl Histogram {
    /// Adds a sample.
    pub fn add(&mut self, buckets: Buckets, (value, weight): (f64, f64), at: Time, half_life_ms: u64) {
        let weight = weight * self.factor(at, half_life_ms);
        *self.weight_mut(buckets.find(value)) += weight;
        self.total += weight;
    }

    /// Takes a sample out that was added with the same time and weight.
    pub fn subtract(&mut self, buckets: Buckets, (value, weight): (f64, f64), at: Time, half_life_ms: u64) {
        let weight = weight * self.factor(at, half_life_ms);
        let less = |held: f64| if held - weight < EPSILON { 0.0 } else { held - weight };
        let held = self.weight_mut(buckets.find(value));
        *held = less(*held);
        self.total = less(self.total);
    }

    fn weight_mut(&mut self, bucket: usize) -> &mut f64 {
        if self.weights.is_empty() {
            self.first = bucket as u16;
        }
        let first = usize::from(self.first);
        if bucket < first {
            self.weights.splice(0..0, std::iter::repeat_n(0.0, first - bucket));
            self.first = bucket as u16;
        }
        let place = bucket - usize::from(self.first);
        if place >= self.weights.len() {
            self.weights.resize(place + 1, 0.0);
        }
        &mut self.weights[place]
    }

    /// How much a sample of this time weighs.
    fn factor(&mut self, at: Time, half_life_ms: u64) -> f64 {
        let half_lives = |from: Time, to: Time| (to.0 - from.0) as f64 / half_life_ms.max(1) as f64;
        if half_lives(self.reference, at) > EXPONENT_MAX {
            let reference = Time((half_lives(Time(0), at).round() * half_life_ms as f64) as i64);
            let exponent = half_lives(reference, self.reference).round();
            let scale = libm::ldexp(1.0, exponent.max(-2000.0) as i32);
            self.weights.iter_mut().for_each(|weight| *weight *= scale);
            self.total *= scale;
            self.reference = reference;
        }
        libm::exp2(half_lives(self.reference, at))
    }

    /// The buckets that weigh anything, the first and the last of them.
    fn ends(&self) -> Option<(usize, usize)> {
        let heavy = |weight: &f64| *weight >= EPSILON;
        let (first, last) = (self.weights.iter().position(heavy)?, self.weights.iter().rposition(heavy)?);
        Some((first + usize::from(self.first), last + usize::from(self.first)))
    }

    /// The end of the bucket in which this part of the weight is reached; the start of the last bucket,
    /// which has no end. None while nothing weighs anything.
    pub fn quantile(&self, buckets: Buckets, part: f64) -> Option<f64> {
        let (first, last) = self.ends()?;
        let threshold = part * self.total;
        let mut sum = 0.0;
        let mut bucket = first;
        while bucket < last {
            sum += self.weights[bucket - usize::from(self.first)];
            if sum >= threshold {
                break;
            }
            bucket += 1;
        }
        Some(buckets.start(if bucket + 1 < buckets.count() { bucket + 1 } else { bucket }))
    }

    /// The weights of its buckets as the VerticalPodAutoscaler stores them, by bucket, and their sum.
    pub fn to_whole(&self) -> (Vec<(usize, u32)>, f64) {
        let heaviest = self.weights.iter().copied().fold(0.0, f64::max);
        let whole = |weight: f64| (weight / heaviest * CHECKPOINT_MAX).round() as u32;
        let numbered = self.weights.iter().enumerate();
        let weights = numbered.map(|(place, weight)| (place + usize::from(self.first), whole(*weight)));
        (weights.filter(|(_, weight)| *weight > 0).collect(), self.total)
    }

    /// A histogram from what the VerticalPodAutoscaler has stored.
    pub fn from_whole(reference: Time, whole: &[(usize, u32)], total: f64) -> Self {
        let sum: f64 = whole.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut histogram = Self { reference, ..Self::default() };
        if sum > 0.0 && total.is_finite() {
            for (bucket, weight) in whole {
                *histogram.weight_mut(*bucket) = f64::from(*weight) * (total / sum);
            }
            histogram.total = total;
        }
        histogram
    }
}
