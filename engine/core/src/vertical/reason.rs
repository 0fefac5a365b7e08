//! Amounts in words.

use super::{Amounts, Resource};

/// An amount as Kubernetes writes it, with at most two digits behind the point.
pub(crate) fn written(resource: Resource, value: f64) -> String {
    if resource == Resource::Cpu {
        return format!("{}m", short(value * 1000.0));
    }
    let units = [("Gi", 1_073_741_824.0), ("Mi", 1_048_576.0), ("Ki", 1024.0)];
    let fitting = units.into_iter().find(|(_, size)| value >= *size);
    fitting.map_or_else(|| short(value), |(unit, size)| format!("{}{unit}", short(value / size)))
}

fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

/// Request and limit.
pub(super) fn amounts(resource: Resource, amounts: Amounts) -> String {
    let name = resource.name();
    let request = amounts.request.map_or("none".to_owned(), |it| written(resource, it));
    match amounts.limit {
        Some(limit) => format!("{name} {request} of at most {}", written(resource, limit)),
        None => format!("{name} {request}"),
    }
}
