//! A decaying histogram of one container's use, and the peaks that are still running.

use serde::{Deserialize, Serialize};

use qscaler_cel::WindowFunction;
use qscaler_protocol::name::WorkerId;

use crate::histogram::{Buckets, Histogram};
use crate::rule::WindowKey;
use crate::time::Time;
use crate::vertical::Run;

/// Peaks that can still grow; beyond these the one whose window ends first is left as it is.
const PEAKS_MAX: usize = 64;
/// After so many half-lives without a sample a histogram tells nothing any more.
const FADED: u64 = 30;

/// Samples of one signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::memory) struct Samples {
    pub(in crate::memory) histogram: Histogram,
    pub(in crate::memory) count: u64,
    pub(in crate::memory) first: Option<Time>,
    pub(in crate::memory) newest: Option<Time>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peaks: Vec<Peak>,
}

/// The largest sample of a worker in the window that runs. It is in the histogram already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peak {
    worker: WorkerId,
    end: Time,
    value: f64,
}

/// The buckets of a signal, and what one sample of it weighs.
fn scale(signal: &str) -> (Buckets, f64) {
    if signal == "usage.cpu" { (Buckets::cores(), 0.1) } else { (Buckets::bytes(), 1.0) }
}

impl Samples {
    /// What another has gathered, without running peaks.
    pub(in crate::memory) fn of(histogram: Histogram) -> Self {
        Self { histogram, ..Self::default() }
    }

    pub(super) fn feed(&mut self, key: &WindowKey, run: &Run) {
        let Some(usage) = run.usage else { return };
        let value = if key.signal == "usage.cpu" { usage.cpu } else { usage.memory };
        let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) else { return };
        if key.function == "decayingpeak" {
            self.peak(key, (&run.worker, value), usage.at);
        } else {
            let (buckets, weight) = scale(&key.signal);
            self.histogram.add(buckets, (value, weight), usage.at, key.length_ms);
        }
        self.count += 1;
        self.first = Some(self.first.map_or(usage.at, |first| first.min(usage.at)));
        self.newest = self.newest.max(Some(usage.at));
    }

    /// One peak of each worker for each window, stamped at the window's end: a larger one takes the
    /// place of a smaller one.
    fn peak(&mut self, key: &WindowKey, (worker, value): (&WorkerId, f64), at: Time) {
        let (buckets, weight) = scale(&key.signal);
        let interval = i64::try_from(key.length_ms.max(1)).unwrap_or(i64::MAX);
        let place = self.peaks.iter().position(|peak| peak.worker == *worker);
        let mut peak = place.map(|place| self.peaks.swap_remove(place));
        let running = peak.take_if(|peak| at < peak.end);
        let (end, adds) = match (&running, peak) {
            (Some(running), _) => (running.end, value > running.value),
            (None, old) => {
                let end = old.map_or(at, |old| old.end);
                let passed = (at.0 - end.0).div_euclid(interval) + 1;
                (Time(end.0.saturating_add(passed.saturating_mul(interval))), true)
            }
        };
        if adds {
            if let Some(before) = &running {
                self.histogram.subtract(buckets, (before.value, weight), end, key.length_ms);
            }
            self.histogram.add(buckets, (value, weight), end, key.length_ms);
        }
        let value = running.map_or(value, |running| running.value.max(value));
        self.peaks.push(Peak { worker: worker.clone(), end, value });
        self.peaks.sort_by(|one, other| (one.end, &one.worker).cmp(&(other.end, &other.worker)));
        if self.peaks.len() > PEAKS_MAX {
            self.peaks.remove(0);
        }
    }

    pub(super) fn read(
        &self,
        function: WindowFunction,
        key: &WindowKey,
        argument: Option<f64>,
    ) -> Option<f64> {
        match function {
            WindowFunction::DecayingSamples => Some(self.count as f64).filter(|count| *count > 0.0),
            WindowFunction::DecayingLifespan => Some(self.newest?.since(self.first?).as_secs_f64()),
            _ => self.histogram.quantile(scale(&key.signal).0, argument.unwrap_or(0.5)),
        }
    }

    pub(super) fn is_over(&self, half_life_ms: u64, now: Time) -> bool {
        let faded = std::time::Duration::from_millis(half_life_ms.saturating_mul(FADED));
        self.newest.is_none_or(|newest| now.since(newest) > faded)
    }
}
