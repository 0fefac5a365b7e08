//! What the peers compute, put to our rules: `testdata/vectors.yaml`, or the file that
//! `QSCALER_VECTORS` names. Vectors of operations that no rule can say yet are listed, not passed over
//! in silence.

mod vpa;

use std::path::PathBuf;

use qscaler_core::decide::behavior::{Change, History, Recommendation};
use qscaler_core::decide::{Decision, Question, decide};
use qscaler_core::memory::{Done, Memory};
use qscaler_core::time::Time;
use serde_json::{Value, json};

use crate::world::{policy_with, question};

const NOW: Time = Time(1_000_000);

#[test]
fn vectors_of_the_peers_have_their_results() {
    let text = std::fs::read_to_string(path()).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut passed, mut cannot, mut wrong) = (0, vec![], vec![]);
    for vector in file["vectors"].as_array().unwrap() {
        let (id, expected) = (vector["id"].as_str().unwrap(), &vector["expect"]);
        match compute(vector["op"].as_str().unwrap(), &vector["input"]) {
            None => cannot.push(id.to_owned()),
            Some(result) if vpa::same(&result, expected) => passed += 1,
            Some(result) => wrong.push(format!("{id}: {result} and not {expected}")),
        }
    }
    println!("{passed} vectors hold; no rule can say yet: {}", cannot.join(", "));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(passed >= 27, "only {passed} vectors were put to a rule");
}

fn path() -> PathBuf {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/vectors.yaml");
    std::env::var_os("QSCALER_VECTORS").map_or_else(|| shipped.into(), PathBuf::from)
}

/// The result of a vector; none where no rule can say it.
fn compute(operation: &str, input: &Value) -> Option<Value> {
    match operation {
        "hpa_stabilize" => Some(stabilize(input)),
        "hpa_rate" => Some(limit_rate(input)),
        "hpa_external_average" => Some(external_average(input)),
        "hpa_external_value" => Some(external_value(input)),
        "kpa_delay" => Some(delay(input)),
        operation if operation.starts_with("vpa_") => Some(vpa::compute(operation, input)),
        _ => None,
    }
}

fn number(input: &Value, name: &str) -> f64 {
    input[name].as_f64().unwrap_or_else(|| panic!("{name} is a number"))
}

fn whole(input: &Value, name: &str) -> u32 {
    number(input, name) as u32
}

fn replicas(decision: &Decision) -> Value {
    json!(decision.replicas)
}

fn ago(seconds: &Value) -> Time {
    Time(NOW.0 - (seconds.as_f64().unwrap() * 1000.0) as i64)
}

fn stabilize(input: &Value) -> Value {
    let (up, down) = (number(input, "up_window"), number(input, "down_window"));
    let spec = format!(
        "params: {{desired: 0}}
replicas: {{desired: params.desired, max: 100000}}
behavior: {{scaleUp: {{stabilizationWindow: {up}s}}, scaleDown: {{stabilizationWindow: {down}s}}}}"
    );
    let policy = policy_with(&spec, &[("desired", input["desired"].clone())]);
    let mut recommendations: Vec<_> = input["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| Recommendation { to: ago(&entry[0]), replicas: entry[1].as_f64().unwrap() as u32 })
        .collect();
    recommendations.sort_by_key(|entry| entry.to);
    let history = History { recommendations: recommendations.into(), ..History::default() };
    replicas(&decide(&policy, &Question { history, ..question(whole(input, "current"), &[]) }))
}

fn limit_rate(input: &Value) -> Value {
    let policies = |direction: &str| {
        let policy = |one: &Value| {
            format!("{{type: {}, value: {}, period: {}s}}", one[0].as_str().unwrap(), one[1], one[2])
        };
        let list: Vec<_> = input[direction].as_array().unwrap().iter().map(policy).collect();
        let select = input["select"].as_str().unwrap_or("Max");
        format!("{{stabilizationWindow: 0s, selectPolicy: {select}, policies: [{}]}}", list.join(", "))
    };
    let spec = format!(
        "params: {{desired: 0}}
replicas: {{desired: params.desired, min: {}, max: {}}}
behavior: {{scaleUp: {}, scaleDown: {}}}",
        input["min"],
        input["max"],
        policies("up"),
        policies("down")
    );
    let policy = policy_with(&spec, &[("desired", input["desired"].clone())]);
    let changes = |name: &str| -> Vec<(Time, u32)> {
        let entries = input[name].as_array().into_iter().flatten();
        entries.map(|entry| (ago(&entry[0]), entry[1].as_f64().unwrap() as u32)).collect()
    };
    let added = changes("added").into_iter().map(|(at, added)| Change { at, added, removed: 0 });
    let removed = changes("removed").into_iter().map(|(at, removed)| Change { at, added: 0, removed });
    let mut changes: Vec<_> = added.chain(removed).collect();
    changes.sort_by_key(|change| change.at);
    let history = History { changes: changes.into(), ..History::default() };
    replicas(&decide(&policy, &Question { history, ..question(whole(input, "current"), &[]) }))
}

fn external_average(input: &Value) -> Value {
    let spec = "params: {target: 1}
replicas: {desired: queue.length / params.target, max: 100000}
behavior: {scaleUp: {tolerance: 0.1}, scaleDown: {tolerance: 0.1, stabilizationWindow: 0s}}";
    let policy = policy_with(spec, &[("target", input["target"].clone())]);
    let current = whole(input, "current");
    replicas(&decide(&policy, &question(current, &[("queue.length", number(input, "metric"))])))
}

/// The ratio goes by the target alone and the result by the workers that are ready, so the tolerance
/// stands in the rule.
fn external_value(input: &Value) -> Value {
    let spec = "params: {target: 1}
let:
  ratio: queue.length / params.target
  within: ratio >= 1 - 0.1 && ratio <= 1 + 0.1
replicas:
  desired: 'workers.current == 0 ? ratio : (within ? workers.current : ratio * workers.ready)'
  max: 100000
behavior: {scaleDown: {stabilizationWindow: 0s}}";
    let policy = policy_with(spec, &[("target", input["target"].clone())]);
    let (current, ready) = (whole(input, "current"), input["ready"].as_f64().unwrap_or(0.0));
    let signals = [("queue.length", number(input, "metric")), ("workers.ready", ready)];
    replicas(&decide(&policy, &question(current, &signals)))
}

/// Knative's delay of the way down is a stabilization window.
fn delay(input: &Value) -> Value {
    let spec = format!(
        "replicas: {{desired: queue.length, max: 100000}}
behavior: {{scaleDown: {{stabilizationWindow: {}s}}}}",
        number(input, "delay_s")
    );
    let policy = policy_with(&spec, &[]);
    let mut memory = Memory::default();
    let mut current = 0;
    let mut results = vec![];
    for step in input["series"].as_array().unwrap() {
        let at = Time((step[0].as_f64().unwrap() * 60_000.0) as i64);
        let asked = question(current, &[("queue.length", step[1].as_f64().unwrap())]);
        let decision = decide(&policy, &Question { at, history: memory.history.clone(), ..asked });
        memory.remember(&policy, &decision, Done::default(), at);
        current = decision.replicas;
        results.push(json!(current));
    }
    Value::Array(results)
}
