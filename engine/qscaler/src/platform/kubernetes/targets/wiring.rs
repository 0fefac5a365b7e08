//! What the pods of a target must be made of so that their workers can be asked, and can leave.

use std::time::Duration;

use serde_json::Value;

use qscaler_core::plan::Victims;
use qscaler_protocol::environment;

/// How long a pod may take to end where it does not say.
const GRACE_SECONDS: u64 = 30;

/// What is missing in a pod template for workers that are asked by offers, and what to type. `key` is
/// what its workers must know their workload by.
pub(super) fn lacks(pod_spec: &Value, key: &str, victims: Victims) -> Option<String> {
    let containers = pod_spec["containers"].as_array()?;
    let Some(worker) = containers.iter().find(|it| variable(it, environment::WORKER).is_some()) else {
        return Some(format!(
            "its workers do not say who they are: add `{{name: {}, valueFrom: {{fieldRef: {{fieldPath: \
             metadata.uid}}}}}}`, `{{name: {}, value: {key}}}` and `{{name: {}, value: \"1\"}}` to `env` in the pod \
             template, or write `leave: signal` here for programs without the SDK",
            environment::WORKER,
            environment::WORKLOAD,
            environment::PARK,
        ));
    };
    let workload = variable(worker, environment::WORKLOAD).and_then(|it| it["value"].as_str());
    if let Some(other) = workload.filter(|workload| *workload != key) {
        return Some(format!(
            "its workers report to the workload `{other}`: write `{{name: {}, value: {key}}}` in the pod template",
            environment::WORKLOAD
        ));
    }
    if variable(worker, environment::PARK).is_none() {
        return Some(format!(
            "a worker that has left would be started again: write `{{name: {}, value: \"1\"}}` in the pod template",
            environment::PARK
        ));
    }
    (victims == Victims::Marked && worker["readinessProbe"].is_null()).then(|| {
        format!(
            "without a readiness probe only the cost of deletion tells a worker that has left from the others: set \
             {} to a port and add `readinessProbe: {{httpGet: {{port: <that port>}}}}` in the pod template",
            environment::PROBE_PORT
        )
    })
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container["env"].as_array()?.iter().find(|it| it["name"] == *name)
}

/// How long such pods may take to end after SIGTERM.
pub(super) fn grace(pod_spec: &Value) -> Duration {
    Duration::from_secs(pod_spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(GRACE_SECONDS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_missing_line_of_a_pod_template_is_named() {
        let field = json!({"fieldRef": {"fieldPath": "metadata.uid"}});
        let mut variables = vec![];
        let mut probe = Value::Null;
        let told = |variables: &[Value], probe: &Value| {
            let container = json!({"env": variables, "readinessProbe": probe});
            lacks(&json!({"containers": [container]}), "shop/mailer", Victims::Marked).unwrap_or_default()
        };
        assert!(told(&variables, &probe).contains("`{name: QSCALER_WORKLOAD, value: shop/mailer}`"));
        variables.push(json!({"name": "QSCALER_WORKER", "valueFrom": field}));
        variables.push(json!({"name": "QSCALER_WORKLOAD", "value": "shop/other"}));
        assert!(told(&variables, &probe).contains("the workload `shop/other`"));
        variables[1]["value"] = json!("shop/mailer");
        assert!(told(&variables, &probe).contains("`{name: QSCALER_PARK, value: \"1\"}`"));
        variables.push(json!({"name": "QSCALER_PARK", "value": "1"}));
        assert!(told(&variables, &probe).contains("readinessProbe"));
        probe = json!({"httpGet": {"port": 8080}});
        assert_eq!(told(&variables, &probe), "");
    }
}
