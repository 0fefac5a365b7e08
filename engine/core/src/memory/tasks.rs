//! How long tasks take, from what workers report: a decayed histogram, blended with the rule's guess
//! until enough tasks were measured. The last measurement never goes stale while nothing runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{BootId, WorkerId};
use qscaler_protocol::report::{Durations, Received};

/// Until this many tasks were measured the guess is blended in.
const TRUSTED: f64 = 20.0;
/// A task counts half after this many further tasks have been measured.
const HALF_LIFE_TASKS: f64 = 200.0;

/// How long tasks take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskTimes {
    /// Tasks measured, decayed.
    weight: f64,
    /// Their seconds, decayed.
    seconds: f64,
    /// Decayed counts by bucket of [`Durations`].
    buckets: BTreeMap<u8, f64>,
    /// What each worker had reported when it was last looked at.
    seen: BTreeMap<WorkerId, Seen>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    boot: BootId,
    busy_ms: u64,
    durations: Durations,
}

impl TaskTimes {
    /// Takes in what workers have done since they were last looked at.
    pub fn observe<'a>(&mut self, reports: impl Iterator<Item = &'a Received>) {
        let mut seen = BTreeMap::new();
        for received in reports {
            let report = &received.report;
            let before = self.seen.get(&report.worker).filter(|before| before.boot == report.boot);
            let earlier: BTreeMap<u8, u64> =
                before.map(|before| before.durations.counts().collect()).unwrap_or_default();
            let seconds =
                report.busy_ms.saturating_sub(before.map_or(0, |before| before.busy_ms)) as f64 / 1000.0;
            let fresh: Vec<_> = report
                .durations
                .counts()
                .map(|(bucket, count)| {
                    (bucket, count.saturating_sub(earlier.get(&bucket).copied().unwrap_or(0)) as f64)
                })
                .filter(|(_, count)| *count > 0.0)
                .collect();
            self.add(&fresh, seconds);
            let now = Seen {
                boot: report.boot.clone(),
                busy_ms: report.busy_ms,
                durations: report.durations.clone(),
            };
            seen.insert(report.worker.clone(), now);
        }
        self.seen = seen;
    }

    fn add(&mut self, fresh: &[(u8, f64)], seconds: f64) {
        let count: f64 = fresh.iter().map(|(_, count)| count).sum();
        if count <= 0.0 {
            return;
        }
        let keep = libm::exp2(-count / HALF_LIFE_TASKS);
        self.weight = self.weight * keep + count;
        self.seconds = self.seconds * keep + seconds;
        self.buckets.values_mut().for_each(|held| *held *= keep);
        for (bucket, count) in fresh {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        // What has all but decayed would only take space.
        self.buckets.retain(|_, held| *held > 1e-3);
    }

    /// Mean duration in seconds.
    pub fn mean(&self, guess: f64) -> f64 {
        self.blend(if self.weight > 0.0 { self.seconds / self.weight } else { guess }, guess)
    }

    /// The duration that this part of the tasks does not exceed, in seconds.
    pub fn quantile(&self, part: f64, guess: f64) -> f64 {
        let total: f64 = self.buckets.values().sum();
        let mut left = total * part;
        for (bucket, count) in &self.buckets {
            left -= count;
            if left <= 0.0 {
                return self.blend(Durations::middle_seconds(*bucket), guess);
            }
        }
        guess
    }

    fn blend(&self, measured: f64, guess: f64) -> f64 {
        let trust = (self.weight / TRUSTED).min(1.0);
        measured * trust + guess * (1.0 - trust)
    }
}
