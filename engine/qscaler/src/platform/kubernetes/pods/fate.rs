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
