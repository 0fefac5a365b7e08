//! What the VerticalPodAutoscaler computes: by our histograms, and by the rule `rules/vpa.yaml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use qscaler_core::document::scalar::Scalar;
use qscaler_core::histogram::{Buckets, Histogram};
use qscaler_core::memory::Memory;
use qscaler_core::rule::Policy;
use qscaler_core::time::Time;
use qscaler_core::vertical::{Amounts, Container, Resources, Target};
use serde_json::{Value, json};

use super::number;
use crate::vertical::{Life, container, killed, shown};

const START: Time = Time(1_767_571_200_000);

/// Equal, with numbers as numbers: 1 is 1.0.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => {
            (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 5e-3
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

pub(super) fn compute(operation: &str, input: &Value) -> Value {
    match operation {
        "vpa_exp_buckets" => buckets(input),
        "vpa_percentile_linear" => percentiles(input),
        "vpa_checkpoint" => checkpoint(input),
        "vpa_confidence" => confidence(input),
        "vpa_bounds" => bounds(input),
        "vpa_target_memory" => memory(input),
        "vpa_min_split" => min_split(input),
        "vpa_oom" => oom(input),
        "vpa_update" => update(input),
        _ => panic!("{operation} is not known"),
    }
}

fn buckets(input: &Value) -> Value {
    let buckets = Buckets::growing(number(input, "max"), number(input, "first"), number(input, "ratio"));
    let mut result = json!({ "buckets": buckets.count() });
    let values: &[f64] = match buckets.count() {
        6 => &[-1.0, 39.99, 40.0, 100.0, 900.0],
        _ if number(input, "first") < 1.0 => &[0.005, 1.0, 2.0],
        _ => &[1e6, 134_217_728.0, 1_073_741_824.0],
    };
    result["find"] = values.iter().map(|value| json!([value, buckets.find(*value)])).collect();
    if buckets.count() == 6 {
        result["starts"] = (0..6).map(|bucket| json!(buckets.start(bucket))).collect();
    }
    result
}

fn percentiles(input: &Value) -> Value {
    let (buckets, mut histogram) = (Buckets::equal(10.0, 1.0), Histogram::default());
    let half_life = (number(input, "half_life_s") * 1000.0) as u64;
    for sample in input["samples"].as_array().unwrap() {
        let at = |place: usize| sample[place].as_f64().unwrap();
        histogram.add(buckets, (at(0), at(1)), Time(START.0 + (at(2) * 1000.0) as i64), half_life);
    }
    let parts: &[f64] = if input["samples"].as_array().unwrap().len() == 4 {
        &[0.02, 0.10, 0.34, 0.35]
    } else {
        &[0.999, 1.0]
    };
    parts.iter().map(|part| json!([part, histogram.quantile(buckets, *part).unwrap()])).collect()
}

fn checkpoint(input: &Value) -> Value {
    let (buckets, mut histogram) = (Buckets::equal(10.0, 1.0), Histogram::default());
    for (place, weight) in input["weights"].as_array().unwrap().iter().enumerate() {
        histogram.add(buckets, (place as f64, weight.as_f64().unwrap()), Time(0), 86_400_000);
    }
    let (whole, total) = histogram.to_whole();
    let back = Histogram::from_whole(Time(0), &whole, total);
    assert_eq!(back.to_whole(), (whole.clone(), total), "what was stored is read back");
    json!({ "total": total, "ints": whole.iter().map(|(_, weight)| *weight).collect::<Vec<_>>() })
}

/// A multiplier of its own with its own exponent, so in a rule of its own.
fn confidence(input: &Value) -> Value {
    let spec = "params: {base: 0, m: 0, e: 0, lifespan: 0, samples: 0, interval: 0}
resources:
  - container: '*'
    let: {confidence: 'min(params.lifespan / params.interval, params.samples / params.interval)'}
    cpu: {request: 'cores(floor(params.base * pow(1 + params.m / confidence, params.e) * 1000) / 1000)'}";
    let names = [
        ("base", "base_cores"),
        ("m", "m"),
        ("e", "e"),
        ("lifespan", "lifespan_min"),
        ("samples", "samples"),
        ("interval", "interval_min"),
    ];
    let params: Vec<_> = names.iter().map(|(name, field)| (*name, input[*field].clone())).collect();
    let policy = crate::world::policy_with(spec, &params);
    let mut life = Life::new(policy, vec![container("main", Resources::default())]);
    let target = life.look(START)["main"].clone();
    json!(target.cpu.unwrap().amounts.request.unwrap())
}

fn vpa(change: impl Fn(&mut Value), params: &[(&str, Value)]) -> Policy {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/vpa.yaml");
    let mut document: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut document);
    let update = crate::world::load(vec![crate::world::file("vpa.yaml", &document.to_string())]);
    let rule = update.catalog.rules().next().map(Arc::clone);
    let rule = rule.unwrap_or_else(|| panic!("{:?}", update.problems));
    let params: BTreeMap<_, _> =
        params.iter().map(|(name, value)| ((*name).to_owned(), Scalar(value.clone()))).collect();
    Policy::bind(rule, &params).unwrap()
}

fn steady(cores: f64, bytes: f64, minutes: i64) -> Target {
    let mut life = Life::new(vpa(|_| {}, &[]), vec![container("main", Resources::default())]);
    for minute in 0..minutes {
        life.uses("main", (cores, bytes), Time(START.0 + minute * 60_000));
    }
    life.look(Time(START.0 + (minutes - 1) * 60_000))["main"].clone()
}

fn bounds(input: &Value) -> Value {
    let target = steady(number(input, "cores"), 1e8, (number(input, "days") * 1440.0) as i64);
    let millis = target.cpu.as_ref().unwrap().amounts.request.unwrap() * 1000.0;
    json!([shown(&target, "cpuLower"), millis.round(), shown(&target, "cpuUpper")])
}

fn memory(input: &Value) -> Value {
    let of =
        |bytes: &Value| steady(0.1, bytes.as_f64().unwrap(), 20).memory.unwrap().amounts.request.unwrap();
    input["bytes"].as_array().unwrap().iter().map(|bytes| json!(of(bytes))).collect()
}

fn min_split(input: &Value) -> Value {
    let names: Vec<String> =
        (0..number(input, "containers") as u32).map(|number| format!("c{number}")).collect();
    let containers = names.iter().map(|name| container(name, Resources::default())).collect();
    let mut life = Life::new(vpa(|_| {}, &[]), containers);
    for name in &names {
        life.uses(name, (0.001, 1e6), START);
    }
    let target = life.look(START)[&names[0]].clone();
    let millis = target.cpu.unwrap().amounts.request.unwrap() * 1000.0;
    json!({ "cpu_m": millis.round(), "mem": target.memory.unwrap().amounts.request.unwrap() })
}

/// Without the pod's minimum, under which such amounts would vanish.
fn oom(input: &Value) -> Value {
    const MEBI: f64 = 1_048_576.0;
    let request = number(input, "request_mi") * MEBI;
    let memory = Amounts { request: Some(request), limit: Some(request) };
    let template = Resources { memory, ..Resources::default() };
    let policy = vpa(|_| {}, &[("podMemory", json!("1Ki"))]);
    let mut of = container("main", template);
    of.kills = vec![killed(START, request, number(input, "peak_mi") * MEBI)];
    let mut life = Life::new(policy, vec![of]);
    let raised = life.look(START)["main"].memory.clone().unwrap().amounts.request.unwrap();
    json!(raised / MEBI)
}

/// The rule's own `when`, over what the vectors say of a pod.
fn update(input: &Value) -> Value {
    let one = |case: &Value| {
        let change = |document: &mut Value| {
            let lets = &mut document["spec"]["resources"][0]["let"];
            lets["outside"] = case[0].clone();
            lets["difference"] = case[1].clone();
            lets["killed"] = case[3].clone();
        };
        let policy = vpa(change, &[("minChange", json!(0.5))]);
        let amounts = |request| Amounts { request: Some(request), limit: None };
        let template = Resources { cpu: amounts(1.0), memory: amounts(1e8) };
        let mut life = Life::new(policy, vec![container("main", template)]);
        let age = case[2].as_f64().unwrap() * 3_600_000.0;
        life.uses("main", (1.0, 1e8), START);
        let run = |container: &mut Container| container.runs[0].since = Time(START.0 - age as i64);
        life.containers.iter_mut().for_each(run);
        let sized = life.look(START);
        json!(!sized["main"].resize.is_empty())
    };
    input.as_array().unwrap().iter().map(one).collect()
}

/// What a VerticalPodAutoscaler has gathered is gone on with, and of another version it is refused.
#[test]
fn a_checkpoint_of_a_vertical_pod_autoscaler_is_adopted() {
    let text = r#"{"lastUpdateTime": "2026-01-05T00:00:00Z", "version": "v3",
        "cpuHistogram": {"referenceTimestamp": "2026-01-05T00:00:00Z", "bucketWeights": {"36": 10000}, "totalWeight": 500.5},
        "memoryHistogram": {"referenceTimestamp": "2026-01-06T00:00:00Z", "bucketWeights": {"17": 10000}, "totalWeight": 3.2},
        "firstSampleStart": "2025-12-29T00:01:00Z", "lastSampleStart": "2026-01-05T00:00:00Z", "totalSamplesCount": 10080}"#;
    let mut checkpoint: qscaler_core::memory::VpaCheckpoint = serde_json::from_str(text).unwrap();
    let mut memory = Memory::default();
    memory.adopt_vpa("main", &checkpoint).unwrap();
    let memory = qscaler_core::memory::load(&qscaler_core::memory::store(&memory, "a test")).unwrap();
    let mut life = Life::new(vpa(|_| {}, &[]), vec![container("main", Resources::default())]);
    life.memory = memory;
    let target = life.look(START)["main"].clone();
    let millis = (target.cpu.as_ref().unwrap().amounts.request.unwrap() * 1000.0).round();
    let found = json!([shown(&target, "cpuLower"), millis, shown(&target, "cpuUpper")]);
    assert!(same(&found, &json!([1167, 1168, 1334])), "{found}");
    assert_eq!(target.memory.unwrap().amounts.request, Some(323_522_422.0));
    checkpoint.version = "v4".into();
    assert!(Memory::default().adopt_vpa("main", &checkpoint).is_err());
}
