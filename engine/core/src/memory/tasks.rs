//! How long tasks take, from what workers report: a decayed histogram, blended with the rule's guess
//! until enough tasks were measured. The last measurement never goes stale while nothing runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use qscaler_protocol::name::{BootId, WorkerId};
use qscaler_protocol::report::{Durations, Received};

use super::few::Few;

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
    seen: Few<WorkerId, Seen>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    boot: BootId,
    busy_ms: u64,
    /// Counts by bucket of [`Durations`], in rising order; a list of exactly its size, as there is one per worker.
    counts: Box<[(u8, u32)]>,
}

impl TaskTimes {
    /// Takes in what workers have done since they were last looked at.
    pub fn observe<'a>(&mut self, reports: impl Iterator<Item = &'a Received>) {
        let mut seen = Few::default();
        for received in reports {
            let report = &received.report;
            let before = self.seen.get(&report.worker).filter(|before| before.boot == report.boot);
            let earlier = |bucket: u8| {
                let counts = before.map_or(&[][..], |before| &before.counts);
                counts.iter().find(|(it, _)| *it == bucket).map_or(0, |(_, count)| *count)
            };
            let seconds =
                report.busy_ms.saturating_sub(before.map_or(0, |before| before.busy_ms)) as f64 / 1000.0;
            let narrow = |count| u32::try_from(count).unwrap_or(u32::MAX);
            let counts: Box<[_]> =
                report.durations.counts().map(|(bucket, count)| (bucket, narrow(count))).collect();
            let fresh: Vec<_> = counts
                .iter()
                .map(|(bucket, count)| (*bucket, f64::from(count.saturating_sub(earlier(*bucket)))))
                .filter(|(_, count)| *count > 0.0)
                .collect();
            self.add(&fresh, seconds);
            let now = Seen { boot: report.boot.clone(), busy_ms: report.busy_ms, counts };
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
