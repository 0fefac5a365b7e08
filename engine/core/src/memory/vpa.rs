//! Goes on with what a VerticalPodAutoscaler has gathered: the status of its VerticalPodAutoscalerCheckpoint.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Memory;
use super::containers::{Remembered, Samples};
use crate::histogram::{Buckets, Histogram};
use crate::rule::WindowKey;
use crate::time::Time;

/// The version of its format that is understood.
const VERSION: &str = "v3";
/// Its half-life, and the window of its peaks.
const DAY_MS: u64 = 86_400_000;

/// The status of a VerticalPodAutoscalerCheckpoint. What is not named here is not needed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpaCheckpoint {
    /// The version of its format.
    pub version: String,
    /// Samples of processor.
    pub cpu_histogram: VpaHistogram,
    /// Peaks of memory.
    pub memory_histogram: VpaHistogram,
    /// When the first sample of processor came.
    pub first_sample_start: Option<String>,
    /// When the last one came.
    pub last_sample_start: Option<String>,
    /// How many came.
    pub total_samples_count: u64,
}

/// A histogram in such a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpaHistogram {
    /// At which time a sample weighs what it weighs.
    pub reference_timestamp: Option<String>,
    /// Weights by bucket; the largest is 10000.
    pub bucket_weights: BTreeMap<String, u32>,
    /// What all weigh together.
    pub total_weight: f64,
}

/// Why a checkpoint is not gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdopted {
    /// Another version wrote it.
    #[error("its version is `{0}`; `{VERSION}` is understood")]
    Version(String),
    /// It is not what such a checkpoint looks like.
    #[error("`{0}` is not what it should be")]
    Damaged(&'static str),
}

impl Memory {
    /// Puts what a VerticalPodAutoscaler knows of a container in the place of what is known of it here.
    pub fn adopt_vpa(&mut self, container: &str, checkpoint: &VpaCheckpoint) -> Result<(), NotAdopted> {
        if checkpoint.version != VERSION {
            return Err(NotAdopted::Version(checkpoint.version.clone()));
        }
        let time = |text: &Option<String>, name| time(text.as_deref()).ok_or(NotAdopted::Damaged(name));
        let mut cpu = samples(&checkpoint.cpu_histogram, Buckets::cores(), "cpuHistogram")?;
        cpu.count = checkpoint.total_samples_count;
        if cpu.count > 0 {
            cpu.first = Some(time(&checkpoint.first_sample_start, "firstSampleStart")?);
            cpu.newest = Some(time(&checkpoint.last_sample_start, "lastSampleStart")?);
        }
        let mut memory = samples(&checkpoint.memory_histogram, Buckets::bytes(), "memoryHistogram")?;
        (memory.count, memory.first, memory.newest) = (cpu.count, cpu.first, cpu.newest);
        let key = |signal: &str, function: &str| WindowKey {
            signal: signal.to_owned(),
            function: function.to_owned(),
            length_ms: DAY_MS,
        };
        if self.containers.get(container).is_none() {
            self.containers.insert(container.to_owned(), Remembered::default());
        }
        if let Some(remembered) = self.containers.get_mut(container) {
            remembered.histograms.insert(key("usage.cpu", "decaying"), cpu);
            remembered.histograms.insert(key("usage.memory", "decayingpeak"), memory);
        }
        Ok(())
    }
}

fn samples(written: &VpaHistogram, buckets: Buckets, name: &'static str) -> Result<Samples, NotAdopted> {
    let damaged = NotAdopted::Damaged(name);
    let reference = match (&written.reference_timestamp, written.bucket_weights.is_empty()) {
        (None, true) => Time(0),
        (text, _) => time(text.as_deref()).ok_or(damaged.clone())?,
    };
    let mut weights = vec![];
    for (bucket, weight) in &written.bucket_weights {
        let bucket: usize = bucket.parse().map_err(|_| damaged.clone())?;
        if bucket >= buckets.count() {
            return Err(damaged);
        }
        weights.push((bucket, *weight));
    }
    if !written.total_weight.is_finite() || written.total_weight < 0.0 {
        return Err(damaged);
    }
    let histogram = Histogram::from_whole(reference, &weights, written.total_weight);
    Ok(Samples::of(histogram))
}

fn time(text: Option<&str>) -> Option<Time> {
    let timestamp = text?.parse::<jiff::Timestamp>().ok()?;
    Some(Time(timestamp.as_millisecond()))
}
