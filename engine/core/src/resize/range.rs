//! What the LimitRanges of a namespace allow a container: a target is moved into that, and it is told.

use super::{Hindrance, Why};
use crate::vertical::reason::written;
use crate::vertical::{Amounts, Resource, Sizes};

/// What one LimitRange says of one resource of a container, in its base unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Its name.
    pub name: String,
    /// Of what.
    pub resource: Resource,
    /// The least request.
    pub min: Option<f64>,
    /// The largest limit.
    pub max: Option<f64>,
    /// The limit of a container that has none.
    pub default: Option<f64>,
}

/// Moves targets into what these allow. Returns what was moved for which.
pub fn hold_to_ranges(ranges: &[Range], sizes: &mut Sizes) -> Vec<Hindrance> {
    let mut hindrances = vec![];
    for (container, target) in &mut sizes.containers {
        for range in ranges {
            let sized = match range.resource {
                Resource::Cpu => &mut target.cpu,
                Resource::Memory => &mut target.memory,
            };
            let Some(sized) = sized else { continue };
            let wanted = sized.amounts;
            sized.amounts = range.amounts(wanted);
            let is_moved = sized.amounts.request != wanted.request
                || wanted.limit.is_some_and(|limit| sized.amounts.limit != Some(limit));
            if is_moved {
                hindrances.push(range.hindrance(container, wanted, sized.amounts));
            }
        }
    }
    hindrances
}

impl Range {
    fn amounts(&self, wanted: Amounts) -> Amounts {
        let within = |amount: f64| {
            let raised = self.min.map_or(amount, |min| amount.max(min));
            self.max.map_or(raised, |max| raised.min(max))
        };
        let request = wanted.request.map(within);
        // The request may be above what a container without a limit is given.
        let default = || Some(self.default?.max(request.unwrap_or_default()));
        Amounts { request, limit: wanted.limit.or_else(default).map(within) }
    }

    fn hindrance(&self, container: &str, wanted: Amounts, given: Amounts) -> Hindrance {
        let is_less = |given: Option<f64>, wanted: Option<f64>| given < wanted && given.is_some();
        let is_max = is_less(given.request, wanted.request) || is_less(given.limit, wanted.limit);
        let (field, bound) = if is_max { ("max", self.max) } else { ("min", self.min) };
        let (least, change) = if is_max { ("at most", "raise") } else { ("at least", "lower") };
        let bound = written(self.resource, bound.unwrap_or_default());
        let (resource, name) = (self.resource.name(), &self.name);
        let message = format!(
            "the LimitRange `{name}` gives a container {least} {bound} of {resource}, and the rule asks for something \
             else for {container}: {change} it there, or write `{field}: {bound}` for {resource} in the rule's `resources`"
        );
        Hindrance { why: Why::LimitRange, message }
    }
}
