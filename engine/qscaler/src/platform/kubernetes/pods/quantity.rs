//! Amounts of processor and memory as Kubernetes writes them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use qscaler_cel::unit;
use qscaler_core::resize::{Exact, Whole};
use qscaler_core::vertical::Resource;
use serde_json::{Map, Value, json};

/// Reads an amount in cores or bytes; none where it cannot be read.
pub(super) fn read(resource: Resource, text: &str) -> Option<f64> {
    let thousandths = |text: &str| Some(text.strip_suffix('m')?.parse::<f64>().ok()? / 1000.0);
    let known = match resource {
        Resource::Cpu => unit::cores(text),
        Resource::Memory => unit::bytes(text),
    };
    let finer = |suffix: char, part: f64| text.strip_suffix(suffix)?.parse::<f64>().ok().map(|it| it * part);
    let finer = || thousandths(text).or_else(|| finer('u', 1e-6)).or_else(|| finer('n', 1e-9));
    // Exponents, such as `1e3`.
    let plain = || text.parse::<f64>().ok().filter(|it| it.is_finite() && *it >= 0.0);
    known.or_else(finer).or_else(plain)
}

/// The amount of a resource among those that are written; none where it is not there or cannot be read.
pub(super) fn of(resource: Resource, written: Option<&BTreeMap<String, Quantity>>) -> Option<f64> {
    read(resource, &written?.get(resource.name())?.0)
}

/// Amounts as `resources` of a container; what is none is left out.
pub(in super::super) fn resources(of: Exact) -> Value {
    let amounts = |pick: fn(Whole) -> Option<u64>| {
        let one = |resource| {
            let amount = pick(of.of(resource))?;
            Some((resource.name().to_owned(), json!(written(resource, amount))))
        };
        [Resource::Cpu, Resource::Memory].into_iter().filter_map(one).collect::<Map<_, _>>()
    };
    json!({"requests": amounts(|it| it.request), "limits": amounts(|it| it.limit)})
}

fn written(resource: Resource, amount: u64) -> String {
    const MI: u64 = 1 << 20;
    match resource {
        Resource::Cpu => format!("{amount}m"),
        Resource::Memory if amount > 0 && amount.is_multiple_of(MI) => format!("{}Mi", amount / MI),
        Resource::Memory => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        for (resource, text, expected) in [
            (Resource::Cpu, "250m", Some(0.25)),
            (Resource::Cpu, "2", Some(2.0)),
            (Resource::Cpu, "5000n", Some(0.000_005)),
            (Resource::Cpu, "5u", Some(0.000_005)),
            (Resource::Memory, "64Mi", Some(67_108_864.0)),
            (Resource::Memory, "288Ki", Some(294_912.0)),
            (Resource::Memory, "128000m", Some(128.0)),
            (Resource::Memory, "1e3", Some(1000.0)),
            (Resource::Memory, "null", None),
            (Resource::Memory, "much", None),
        ] {
            let read = read(resource, text);
            let is_it = match (read, expected) {
                (Some(read), Some(expected)) => (read - expected).abs() < 1e-9,
                (read, expected) => read == expected,
            };
            assert!(is_it, "{text}: {read:?}");
        }
    }

    #[test]
    fn what_is_none_is_left_out() {
        let memory = Whole { request: Some(64 << 20), limit: None };
        let cpu = Whole { request: Some(5), limit: Some(10) };
        let expected = json!({"requests": {"cpu": "5m", "memory": "64Mi"}, "limits": {"cpu": "10m"}});
        assert_eq!(resources(Exact { cpu, memory }), expected);
    }
}
