//! From what a rule asks for to a request and a limit that can be set: whole units, within bounds, and
//! of the quality of service that the template has.

use super::{Amounts, Resource};

/// More than any machine has; what a rule asks for beyond is cut off.
const UNITS_MAX: f64 = 1e15;
/// A number that is a whole one but for the last bits stays what it was meant to be.
const FUZZ: f64 = 1e-6;

impl Resource {
    /// How many of the units in which it is set are in one of its base units.
    fn units(self) -> f64 {
        match self {
            Resource::Cpu => 1000.0,
            Resource::Memory => 1.0,
        }
    }

    /// Rounded up to a whole unit.
    pub(super) fn up(self, value: f64) -> f64 {
        (value * self.units() - FUZZ).ceil().clamp(0.0, UNITS_MAX) / self.units()
    }

    /// Rounded down to a whole unit.
    pub(super) fn down(self, value: f64) -> f64 {
        (value * self.units() + FUZZ).floor().clamp(0.0, UNITS_MAX) / self.units()
    }

    /// The next smaller and the next larger amount.
    fn beside(self, value: f64, by: f64) -> f64 {
        ((value * self.units()).round() + by).max(0.0) / self.units()
    }

    /// Whether two amounts are one as they are set.
    pub(crate) fn same(self, one: Option<f64>, other: Option<f64>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() * self.units() < 0.5,
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// The least and the most, in whole units; the most wins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Bounds {
    pub(super) fn clamp(self, value: f64) -> f64 {
        let raised = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(raised, |max| raised.min(max))
    }
}

/// Request and limit by the template's ratio. The second is what could not be kept.
pub(super) fn in_ratio(
    resource: Resource,
    request: f64,
    template: Amounts,
    bounds: Bounds,
) -> (Amounts, Option<String>) {
    let Some(written) = template.limit else {
        return (Amounts { request: Some(request), limit: None }, None);
    };
    let ratio = match template.request {
        Some(of) if of > 0.0 => written / of,
        // A limit alone is the request, too.
        None => 1.0,
        Some(_) => f64::INFINITY,
    };
    if ratio <= 1.0 {
        return (Amounts { request: Some(request), limit: Some(request) }, None);
    }
    let wanted = if ratio.is_finite() { request * ratio } else { written.max(request) };
    let limit = bounds.clamp(resource.up(wanted)).max(request);
    if limit > request {
        return (Amounts { request: Some(request), limit: Some(limit) }, None);
    }
    // A request that reached its limit would change the pod's quality of service.
    let above = resource.beside(request, 1.0);
    if bounds.max.is_none_or(|max| above <= max) {
        return (Amounts { request: Some(request), limit: Some(above) }, None);
    }
    let below = resource.beside(request, -1.0);
    if below < request && bounds.min.is_none_or(|min| below >= min) {
        return (Amounts { request: Some(below), limit: Some(limit) }, None);
    }
    let problem = "between `min` and `max` is no space for a request under its limit, as the template has it";
    (Amounts { request: Some(request), limit: Some(limit) }, Some(problem.to_owned()))
}
