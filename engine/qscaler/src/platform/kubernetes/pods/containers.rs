//! The containers of a pod: what each asks for, what it has, and how a change of that goes.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, Pod, PodCondition, ResourceRequirements,
};
use serde_json::Value;

use qscaler_core::fleet::{Inside, Part, Resizing, Restarts};
use qscaler_core::time::Time;
use qscaler_core::vertical::{Amounts, ContainerKind, OutOfMemory, Resource, Resources};

use super::quantity;

/// The containers of a pod template, as they are written.
pub(in super::super) fn parts(pod_spec: &Value) -> Vec<Part> {
    let of = |field: &str| pod_spec[field].as_array().into_iter().flatten();
    let part = |container: &Value, kind| {
        let amount = |of: &str, resource: Resource| {
            let written = &container["resources"][of][resource.name()];
            let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
            quantity::read(resource, &text)
        };
        let amounts =
            |resource| Amounts { request: amount("requests", resource), limit: amount("limits", resource) };
        let template = Resources { cpu: amounts(Resource::Cpu), memory: amounts(Resource::Memory) };
        Some(Part { name: container["name"].as_str()?.to_owned(), kind, template: complete(template) })
    };
    let before = of("initContainers").filter_map(|it| part(it, kind(it["restartPolicy"].as_str())));
    let main = of("containers").filter_map(|it| part(it, ContainerKind::Main));
    before.chain(main).collect()
}

/// The containers of a pod.
pub(super) fn inside(pod: &Pod) -> Vec<Inside> {
    let Some(spec) = &pod.spec else { return vec![] };
    let status = pod.status.as_ref();
    let before = status.and_then(|it| it.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|it| it.container_statuses.as_deref()).unwrap_or_default();
    let one = |container: &Container| {
        let status = before.iter().chain(main).find(|it| it.name == container.name);
        let asked = container.resources.as_ref().map(resources).unwrap_or_default();
        let applied = status.and_then(|it| it.resources.as_ref()).map(resources);
        let since = status.and_then(since);
        Inside {
            name: container.name.clone(),
            asked,
            applied,
            since,
            down: spec.node_name.is_some() && since.is_none(),
            restarts: restarts(container),
            kill: status.and_then(|status| kill(status, applied.unwrap_or(asked))),
        }
    };
    spec.init_containers.iter().flatten().chain(&spec.containers).map(one).collect()
}

/// A change of a pod's amounts that has not been made.
pub(super) fn resizing(pod: &Pod) -> Option<Resizing> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let holds = |of: &str| conditions.iter().find(|it| it.type_ == of && it.status == "True");
    let message = |it: &PodCondition| it.message.clone().unwrap_or_default();
    if let Some(pending) = holds("PodResizePending") {
        if pending.reason.as_deref() == Some("Infeasible") {
            return Some(Resizing::Infeasible { message: message(pending) });
        }
        let since = pending.last_transition_time.as_ref().map_or(0, |at| at.0.as_millisecond());
        return Some(Resizing::Deferred { since: Time(since), message: message(pending) });
    }
    let making = holds("PodResizeInProgress")?;
    let failed = making.reason.as_deref() == Some("Error");
    Some(if failed { Resizing::Failed { message: message(making) } } else { Resizing::InProgress })
}

fn kind(restart_policy: Option<&str>) -> ContainerKind {
    if restart_policy == Some("Always") { ContainerKind::Sidecar } else { ContainerKind::Init }
}

fn resources(of: &ResourceRequirements) -> Resources {
    let amounts = |resource| Amounts {
        request: quantity::of(resource, of.requests.as_ref()),
        limit: quantity::of(resource, of.limits.as_ref()),
    };
    Resources { cpu: amounts(Resource::Cpu), memory: amounts(Resource::Memory) }
}

/// A limit without a request is the request, too, as the API server has it.
fn complete(of: Resources) -> Resources {
    let complete = |it: Amounts| Amounts { request: it.request.or(it.limit), ..it };
    Resources { cpu: complete(of.cpu), memory: complete(of.memory) }
}

fn since(status: &ContainerStatus) -> Option<Time> {
    let at = status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?;
    Some(Time(at.0.as_millisecond()))
}

fn restarts(container: &Container) -> Restarts {
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |resource: Resource| {
        policies
            .iter()
            .any(|it| it.resource_name == resource.name() && it.restart_policy == "RestartContainer")
    };
    Restarts { cpu: restarts(Resource::Cpu), memory: restarts(Resource::Memory) }
}

/// Its last end, where that was for want of memory. `had` is what it has now: the first who sees the end sees
/// what it had then.
fn kill(status: &ContainerStatus, had: Resources) -> Option<OutOfMemory> {
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let ended = ended(&status.state).or_else(|| ended(&status.last_state))?;
    let at = ended.finished_at.as_ref().filter(|_| ended.reason.as_deref() == Some("OOMKilled"))?;
    Some(OutOfMemory {
        at: Time(at.0.as_millisecond()),
        limit: had.memory.limit.or(had.memory.request),
        used: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Pod {
        let amounts = json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}});
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let main = json!({"name": "worker", "resources": amounts, "resizePolicy": policy});
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [main]}, "status": status}))
            .unwrap()
    }

    fn container(states: Value) -> Value {
        let mut of = json!({
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "24Mi"}},
        });
        of.as_object_mut().unwrap().extend(states.as_object().unwrap().clone());
        json!({"containerStatuses": [of]})
    }

    #[test]
    fn a_template_says_kind_and_amounts_of_each_container() {
        let spec = json!({
            "initContainers": [{"name": "first"}, {"name": "side", "restartPolicy": "Always"}],
            "containers": [{"name": "worker", "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}}}],
        });
        let parts = parts(&spec);
        let kinds: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.kind)).collect();
        let expected = [
            ("first", ContainerKind::Init),
            ("side", ContainerKind::Sidecar),
            ("worker", ContainerKind::Main),
        ];
        assert_eq!(kinds, expected);
        let memory = f64::from(1 << 30);
        assert_eq!(parts[2].template.cpu, Amounts { request: Some(1.0), limit: None });
        assert_eq!(parts[2].template.memory, Amounts { request: Some(memory), limit: Some(memory) });
    }

    #[test]
    fn a_kill_is_told_with_the_limit_that_the_container_had() {
        let ended = |reason: &str| {
            let ended = json!({"reason": reason, "exitCode": 137, "finishedAt": "2026-01-01T00:00:01Z"});
            inside(&pod(container(json!({"lastState": {"terminated": ended}, "state": {"waiting": {}}}))))
        };
        let kill = ended("OOMKilled")[0].kill.unwrap();
        assert_eq!(kill.limit, Some(24.0 * 1_048_576.0));
        assert_eq!(ended("Error")[0].kill, None);
    }

    #[test]
    fn what_restarts_a_container_is_known_and_what_it_has_is_not_what_it_asks_for() {
        let inside = inside(&pod(container(json!({}))));
        assert_eq!(inside[0].restarts, Restarts { cpu: false, memory: true });
        assert_eq!(inside[0].asked.memory.limit, Some(32.0 * 1_048_576.0));
        assert_eq!(inside[0].current().memory.limit, Some(24.0 * 1_048_576.0));
    }

    #[test]
    fn conditions_tell_how_a_resize_goes() {
        let told = |of: &str, reason: Option<&str>| {
            let condition = json!({"type": of, "status": "True", "reason": reason, "message": "why",
                "lastTransitionTime": "1970-01-01T00:00:01Z"});
            resizing(&pod(json!({"conditions": [condition]})))
        };
        let message = "why".to_owned();
        let deferred = Resizing::Deferred { since: Time(1000), message: message.clone() };
        assert_eq!(told("PodResizePending", Some("Deferred")), Some(deferred));
        let infeasible = Resizing::Infeasible { message: message.clone() };
        assert_eq!(told("PodResizePending", Some("Infeasible")), Some(infeasible));
        assert_eq!(told("PodResizeInProgress", None), Some(Resizing::InProgress));
        assert_eq!(told("PodResizeInProgress", Some("Error")), Some(Resizing::Failed { message }));
        assert_eq!(told("Ready", None), None);
    }
}
