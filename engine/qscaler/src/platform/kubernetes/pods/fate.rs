//! What became of a pod, by its status.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use qscaler_core::interrupted::{End, Fate, Going, How};
use qscaler_core::time::Time;
use qscaler_protocol::name::WorkerId;

/// What is known of its end; nothing while nothing of it has ended and it may stay.
pub(super) fn of(pod: &Pod) -> Option<Fate> {
    let (end, going) = (end(pod), going(pod));
    let worker = WorkerId::new(pod.metadata.uid.clone()?);
    (end.is_some() || going.is_some()).then_some(Fate { worker, end, going })
}

/// How its container ended last. Of several nobody knows which is the worker.
fn end(pod: &Pod) -> Option<End> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let states = containers.iter().flat_map(|container| [&container.state, &container.last_state]);
    let ended = states.filter_map(|state| state.as_ref()?.terminated.as_ref());
    let at = |ended: &ContainerStateTerminated| {
        Time(ended.finished_at.as_ref().map_or(0, |at| at.0.as_millisecond()))
    };
    let last = ended.max_by_key(|ended| at(ended))?;
    let is_oom = last.reason.as_deref() == Some("OOMKilled");
    let how = if is_oom { How::OutOfMemory } else { How::Code(last.exit_code) };
    Some(End { how, at: at(last) })
}

/// Why it has to go.
fn going(pod: &Pod) -> Option<Going> {
    let status = pod.status.as_ref();
    let by_node = match status.and_then(|status| status.reason.as_deref()) {
        Some("Evicted") => Some(Going::Evicted),
        Some("Preempting") => Some(Going::Preempted),
        Some("NodeShutdown" | "NodeLost" | "Terminated") => Some(Going::Node),
        _ => None,
    };
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_told = |it: &&k8s_openapi::api::core::v1::PodCondition| {
        it.type_ == "DisruptionTarget" && it.status == "True"
    };
    let by_condition = conditions.iter().find(is_told).map(|it| match it.reason.as_deref() {
        Some("PreemptionByScheduler") => Going::Preempted,
        Some("DeletionByTaintManager" | "DeletionByPodGC") => Going::Node,
        _ => Going::Evicted,
    });
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|_| Going::Deleted);
    by_node.or(by_condition).or(deleted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fate(deleted: bool, status: Value) -> Option<(Option<How>, Option<Going>)> {
        let mut metadata = json!({"uid": "uid"});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
        of(&pod).map(|fate| (fate.end.map(|end| end.how), fate.going))
    }

    #[test]
    fn a_pod_says_how_its_containers_ended_and_why_it_goes() {
        let container = |of: &[(&str, &str, i32, u32)]| {
            let states = of.iter().map(|(state, reason, code, second)| {
                let at = format!("2026-01-01T00:00:{second:02}Z");
                let ended = json!({"reason": reason, "exitCode": code, "finishedAt": at});
                ((*state).to_owned(), json!({"terminated": ended}))
            });
            let mut container =
                json!({"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0});
            container.as_object_mut().unwrap().extend(states);
            container
        };
        let ended = |of: &[(&str, &str, i32, u32)]| json!({"containerStatuses": [container(of)]});
        let target = |reason: &str| json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]});
        let oom = Some(How::OutOfMemory);
        for (deleted, status, expected) in [
            (false, json!({}), None),
            (false, json!({"containerStatuses": [container(&[])]}), None),
            (false, ended(&[("lastState", "OOMKilled", 137, 1)]), Some((oom, None))),
            (false, ended(&[("state", "Error", 137, 1)]), Some((Some(How::Code(137)), None))),
            (
                false,
                ended(&[("lastState", "OOMKilled", 137, 1), ("state", "Error", 1, 2)]),
                Some((Some(How::Code(1)), None)),
            ),
            (
                false,
                json!({"containerStatuses": [container(&[("state", "Completed", 0, 1)]), container(&[("state", "OOMKilled", 137, 2)])]}),
                Some((oom, None)),
            ),
            (true, json!({}), Some((None, Some(Going::Deleted)))),
            (false, json!({"reason": "Evicted"}), Some((None, Some(Going::Evicted)))),
            (false, json!({"reason": "NodeShutdown"}), Some((None, Some(Going::Node)))),
            (true, json!({"reason": "Preempting"}), Some((None, Some(Going::Preempted)))),
            (true, target("EvictionByEvictionAPI"), Some((None, Some(Going::Evicted)))),
            (true, target("TerminationByKubelet"), Some((None, Some(Going::Evicted)))),
            (true, target("PreemptionByScheduler"), Some((None, Some(Going::Preempted)))),
            (true, target("DeletionByTaintManager"), Some((None, Some(Going::Node)))),
            (true, target("DeletionByPodGC"), Some((None, Some(Going::Node)))),
        ] {
            assert_eq!(fate(deleted, status.clone()), expected, "{status}");
        }
    }
}
