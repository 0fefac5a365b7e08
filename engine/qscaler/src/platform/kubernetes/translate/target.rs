//! A Workload, read as what the engine looks after.

use std::collections::BTreeMap;

use qscaler_core::document::rule::SelectorKind;
use qscaler_core::document::scalar::Scalar;
use qscaler_core::workload::{
    Deadline, GRACE, Made, Password, Queue, Scaled, Source, System, Target, Workload,
};

use super::Unfit;
use crate::platform::kubernetes::api;

/// Reads a Workload of the API server.
pub fn of_target(workload: &api::Workload) -> Result<Workload, Unfit> {
    let (metadata, spec) = (&workload.metadata, &workload.spec);
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let source = source(&namespace, &spec.source)?;
    for (place, queue) in spec.queues.iter().enumerate() {
        if spec.queues[..place].iter().any(|it| it.name == queue.name) {
            let message = format!("spec.queues lists `{}` twice: remove one of them", queue.name);
            return Err(Unfit::new("Queues", message));
        }
    }
    let target = &spec.target;
    Ok(Workload {
        kind: SelectorKind::Workload,
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        target: Target {
            made: Made::Replica(Scaled {
                api_version: target.api_version.clone(),
                kind: target.kind.clone(),
                name: target.name.clone(),
            }),
            leave: target.leave.into(),
            grace: GRACE,
            deadline: Deadline::OfRule,
        },
        source,
        queues: spec.queues.iter().map(Queue::from).collect(),
        rule: spec.rule.clone(),
        params: spec.params.iter().map(|(name, value)| (name.clone(), Scalar(value.clone()))).collect(),
        offered: BTreeMap::new(),
        mode: spec.mode,
        pause: spec.pause,
        sized: spec.vertical,
        namespace,
    })
}

fn source(namespace: &str, source: &api::workload::Source) -> Result<Source, Unfit> {
    if source.of != "redis" {
        let message = format!("spec.source.type: `{}` is not known; write `type: redis`", source.of);
        return Err(Unfit::new("SourceType", message));
    }
    let auth = source.auth.as_ref();
    Ok(Source {
        of: System::Redis,
        url: source.url.clone(),
        username: auth.and_then(|auth| auth.username.clone()),
        password: auth.map(|auth| Password::Secret {
            namespace: namespace.to_owned(),
            name: auth.secret_ref.name.clone(),
            key: auth.secret_ref.key.clone(),
        }),
    })
}
