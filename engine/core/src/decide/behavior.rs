//! Stabilization and rate policies, as the HorizontalPodAutoscaler computes them
//! (kubernetes/kubernetes, `pkg/controller/podautoscaler/horizontal.go`).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::rule::SelectPolicy;
use crate::rule::{By, Direction, Limit, Rule};
use crate::time::Time;

/// What was asked for and done lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// What the rule recommended, before stabilization; oldest first, equal neighbours as one.
    pub recommendations: VecDeque<Recommendation>,
    /// By how much the number of workers was changed; oldest first.
    pub changes: VecDeque<Change>,
}

/// A number that was recommended for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// When it was recommended last.
    pub to: Time,
    /// The number.
    pub replicas: u32,
}

/// Workers that were started or asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// When.
    pub at: Time,
    /// Started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added: u32,
    /// Asked to leave, or removed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl History {
    /// Notes what the rule recommends now, and forgets what no window reaches.
    pub fn recommend(&mut self, at: Time, replicas: u32, keep: Duration) {
        match self.recommendations.back_mut() {
            Some(last) if last.replicas == replicas => last.to = at,
            _ => self.recommendations.push_back(Recommendation { to: at, replicas }),
        }
        while self.recommendations.front().is_some_and(|oldest| at.since(oldest.to) > keep) {
            self.recommendations.pop_front();
        }
        self.forget_dominated();
    }

    /// Forgets recommendations that no window can show any more: later ones, which stay in every window
    /// for longer, are both as large and as small. What is left is short, however the number wavers.
    fn forget_dominated(&mut self) {
        let (mut smallest, mut largest) = (u32::MAX, 0);
        let mut kept = VecDeque::new();
        for entry in self.recommendations.iter().rev() {
            if entry.replicas < smallest || entry.replicas > largest {
                kept.push_front(*entry);
            }
            smallest = smallest.min(entry.replicas);
            largest = largest.max(entry.replicas);
        }
        if kept.len() < self.recommendations.len() {
            self.recommendations = kept;
        }
    }

    /// Notes what was done, and forgets what no policy reaches.
    pub fn change(&mut self, at: Time, added: u32, removed: u32, keep: Duration) {
        if added > 0 || removed > 0 {
            self.changes.push_back(Change { at, added, removed });
        }
        while self.changes.front().is_some_and(|oldest| at.since(oldest.at) > keep) {
            self.changes.pop_front();
        }
    }
}

/// Brings `desired` into what was recommended during the windows (for up and for down), as far as
/// that lies between it and `current`.
pub fn stabilize(
    history: &History,
    now: Time,
    current: u32,
    desired: u32,
    (up, down): (Duration, Duration),
) -> u32 {
    let within = |window: Duration| {
        let recent = history.recommendations.iter().filter(move |it| now.since(it.to) < window);
        recent.map(|it| it.replicas).chain([desired])
    };
    let smallest = within(up).min().unwrap_or(desired);
    let largest = within(down).max().unwrap_or(desired);
    current.max(smallest).min(largest)
}

/// Until when a recommendation of this number stays in a window.
pub(super) fn until(history: &History, now: Time, window: Duration, replicas: u32) -> Option<Time> {
    let holding = history
        .recommendations
        .iter()
        .rev()
        .find(|it| it.replicas == replicas && now.since(it.to) < window)?;
    Some(holding.to + window)
}

/// Brings `desired` within what the rate policies allow. Says which one was met.
pub fn limit_rate(rule: &Rule, history: &History, now: Time, current: u32, desired: u32) -> (u32, String) {
    if desired > current {
        let limit = limit_of(&rule.up, history, now, current, true).max(current);
        let note = format!("the policies of scaleUp allow {limit} now");
        return (desired.min(limit), note);
    }
    if desired < current {
        let limit = limit_of(&rule.down, history, now, current, false).min(current);
        let note = format!("the policies of scaleDown allow {limit} now");
        return (desired.max(limit), note);
    }
    (desired, String::new())
}

/// The number that the policies of one direction allow.
fn limit_of(direction: &Direction, history: &History, now: Time, current: u32, up: bool) -> u32 {
    let unlimited = if up { u32::MAX } else { 0 };
    if direction.select == SelectPolicy::Disabled {
        return current;
    }
    let proposals = direction.limits.iter().map(|limit| proposal(*limit, history, now, current, up));
    // The largest change is the largest number on the way up and the smallest on the way down.
    let widest = (direction.select == SelectPolicy::Max) == up;
    if widest { proposals.max() } else { proposals.min() }.unwrap_or(unlimited)
}

fn proposal(limit: Limit, history: &History, now: Time, current: u32, up: bool) -> u32 {
    let recent = || history.changes.iter().filter(|change| now.since(change.at) < limit.period);
    let added: u32 = recent().map(|change| change.added).sum();
    let removed: u32 = recent().map(|change| change.removed).sum();
    let begin = (i64::from(current) - i64::from(added) + i64::from(removed)).max(0);
    let proposed = match (limit.by, up) {
        (By::Workers(count), true) => begin + i64::from(count),
        (By::Workers(count), false) => begin - i64::from(count),
        // In the HPA's own arithmetic, of doubles, so that both round alike.
        (By::Percent(percent), true) => (begin as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64,
        (By::Percent(percent), false) => (begin as f64 * (1.0 - f64::from(percent) / 100.0)) as i64,
    };
    u32::try_from(proposed.max(0)).unwrap_or(u32::MAX)
}
