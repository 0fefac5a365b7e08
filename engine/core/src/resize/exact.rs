//! Amounts as an API server takes them: whole thousandths of a core, whole bytes.

use serde::{Deserialize, Serialize};

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
