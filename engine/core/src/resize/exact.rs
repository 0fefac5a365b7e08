//! Amounts as an API server takes them: whole thousandths of a core, whole bytes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vertical::reason::written;
use crate::vertical::{Amounts, Resource, Resources};

/// Requests and limits of a container in whole numbers; none where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exact {
    /// Processor, in thousandths of a core.
    #[serde(default)]
    pub cpu: Whole,
    /// Memory, in bytes.
    #[serde(default)]
    pub memory: Whole,
}

/// Request and limit of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole {
    /// What is kept free for the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// What it never gets more of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Thousandths in one.
const MILLI: f64 = 1000.0;

impl Exact {
    /// The amounts of one resource.
    pub fn of(&self, resource: Resource) -> Whole {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }

    /// Whether it is hardly another size: a change of less than a twentieth is not worth one.
    pub fn is_near(&self, other: &Self) -> bool {
        let near = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => {
                one.abs_diff(other).saturating_mul(20) < one.max(other) || one == other
            }
            (one, other) => one == other,
        };
        let both =
            |one: Whole, other: Whole| near(one.request, other.request) && near(one.limit, other.limit);
        both(self.cpu, other.cpu) && both(self.memory, other.memory)
    }

    /// With what `before` has where this says nothing: amounts can be changed in place, and not taken away. A
    /// limit that somebody else gave rises with the request.
    pub fn over(self, before: Self) -> Self {
        let over = |it: Whole, before: Whole| {
            let request = it.request.or(before.request);
            let limit = it.limit.or(before.limit.map(|limit| limit.max(request.unwrap_or_default())));
            Whole { request, limit }
        };
        Self { cpu: over(self.cpu, before.cpu), memory: over(self.memory, before.memory) }
    }
}

/// `cpu 250m, memory 64Mi to 128Mi`.
impl fmt::Display for Exact {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amounts = |resource: Resource, unit: f64| {
            let name = resource.name();
            let text = |amount: u64| written(resource, amount as f64 / unit);
            match (self.of(resource).request, self.of(resource).limit) {
                (None, None) => None,
                (Some(request), Some(limit)) => Some(format!("{name} {} to {}", text(request), text(limit))),
                (Some(request), None) => Some(format!("{name} {}", text(request))),
                (None, Some(limit)) => Some(format!("{name} up to {}", text(limit))),
            }
        };
        let both = [amounts(Resource::Cpu, MILLI), amounts(Resource::Memory, 1.0)];
        to.write_str(&both.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// `worker: memory 64Mi; side: cpu 5m`.
pub fn in_words(containers: &BTreeMap<String, Exact>) -> String {
    let words = containers.iter().map(|(name, size)| format!("{name}: {size}"));
    words.collect::<Vec<_>>().join("; ")
}

impl From<Resources> for Exact {
    fn from(of: Resources) -> Self {
        let whole = |amounts: Amounts, factor: f64| {
            // What is a hair above a whole number is that number in the text that it was read from.
            let up = |amount: f64| (amount * factor - 1e-6).ceil().max(0.0) as u64;
            Whole { request: amounts.request.map(up), limit: amounts.limit.map(up) }
        };
        Self { cpu: whole(of.cpu, MILLI), memory: whole(of.memory, 1.0) }
    }
}
