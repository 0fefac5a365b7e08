//! A QWorker and its ScalerConfig, read as one workload; and a Workload.

mod target;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use qscaler_core::document::rule::SelectorKind;
use qscaler_core::document::scalar::{self, Scalar};
use qscaler_core::document::workload::Mode;
use qscaler_core::hash::sha256;
use qscaler_core::plan::Leave;
use qscaler_core::rule::By;
use qscaler_core::workload::{
    Deadline, GRACE, Hidden, Made, Password, PodTemplate, Queue, Source, System, Target, Workload,
};
use qscaler_protocol::name::WorkloadUid;

use super::api::{QWorker, ScalerConfig};

pub use target::of_target;

/// Why an object cannot be looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// In one word, for the condition.
    pub reason: &'static str,
    /// In a sentence, with what to type.
    pub message: String,
}

impl Unfit {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Reads a QWorker as a workload. `find` gives a ScalerConfig of the same namespace by its name.
pub fn workload(qworker: &QWorker, find: impl Fn(&str) -> Option<ScalerConfig>) -> Result<Workload, Unfit> {
    let spec = &qworker.spec;
    let metadata = &qworker.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let Some(scale) = &spec.scale_config else {
        return Err(Unfit::new(
            "NoScaleConfig",
            "spec.scaleConfig is missing: it names the queue and the ScalerConfig",
        ));
    };
    let wanted = &scale.scaler_config_ref;
    let Some(config) = find(wanted) else {
        let message = format!(
            "there is no ScalerConfig `{wanted}` in the namespace `{namespace}`: create it, or name another in spec.scaleConfig.scalerConfigRef"
        );
        return Err(Unfit::new("NoScalerConfig", message));
    };
    let source = source(&namespace, &config)?;
    let template = PodTemplate {
        owner: WorkloadUid::new(metadata.uid.clone().unwrap_or_default()),
        spec: json!(spec.pod_spec),
        hash: String::new(),
        labels: spec.pod_metadata.as_ref().map(|it| it.labels.clone()).unwrap_or_default(),
        annotations: spec.pod_metadata.as_ref().map(|it| it.annotations.clone()).unwrap_or_default(),
        surge: by(spec.rollout.as_ref().and_then(|rollout| rollout.max_surge.as_ref())),
        unavailable: by(spec.rollout.as_ref().and_then(|rollout| rollout.max_unavailable.as_ref())),
    };
    let template = PodTemplate { hash: hash(&template, &source, &scale.queue), ..template };
    let grace = template.spec["terminationGracePeriodSeconds"].as_u64().map_or(GRACE, Duration::from_secs);
    let deadline = spec.drain.as_ref().and_then(|drain| drain.deadline.clone());
    let deadline = deadline.map_or(Deadline::OfRule, |text| match text.as_str() {
        "never" => Deadline::Never,
        _ => Deadline::After(scalar::Duration(text).std()),
    });
    Ok(Workload {
        kind: SelectorKind::QWorker,
        namespace,
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        target: Target { made: Made::Pod(Box::new(template)), leave: Leave::Offer, grace, deadline },
        source,
        queues: vec![Queue { name: scale.queue.clone(), share: 1.0 }],
        rule: spec.rule.clone(),
        params: spec.params.iter().map(|(name, value)| (name.clone(), Scalar(value.clone()))).collect(),
        offered: offered(scale.scaling_factor, scale.min_replicas, scale.max_replicas),
        // Whoever writes a QWorker wants its pods.
        mode: Mode::Act,
        pause: spec.pause.as_ref().and_then(|pause| serde_json::from_value(json!(pause)).ok()),
        sized: scale.activate_vpa,
    })
}

/// What the original's fields are called in rules: those of `rules/scaling-factor.yaml`, and those of
/// the rules that count workers.
fn offered(factor: i64, min: i64, max: i64) -> BTreeMap<String, Scalar> {
    let number = |name: &str, value: i64| (name.to_owned(), Scalar(json!(value)));
    // In the original the maximum wins.
    let min = min.min(max);
    BTreeMap::from([
        number("scalingFactor", factor),
        number("minReplicas", min),
        number("maxReplicas", max),
        number("workersMin", min),
        number("workersMax", max),
    ])
}

pub(super) fn source(namespace: &str, config: &ScalerConfig) -> Result<Source, Unfit> {
    let spec = &config.spec;
    let name = config.metadata.name.as_deref().unwrap_or_default();
    if spec.of != "redis" {
        let message =
            format!("ScalerConfig `{name}`: the type `{}` is not known; write `type: redis`", spec.of);
        return Err(Unfit::new("ScalerConfigType", message));
    }
    let Ok(port) = spec.config.port.parse::<u16>() else {
        let message =
            format!("ScalerConfig `{name}`: `{}` is no port; write `port: \"6379\"`", spec.config.port);
        return Err(Unfit::new("ScalerConfigPort", message));
    };
    let host = match spec.config.host.as_str() {
        // An IPv6 address stands in brackets.
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let scheme = if spec.config.tls == Some(true) { "rediss" } else { "redis" };
    let database = spec.config.database.map(|number| format!("/{number}")).unwrap_or_default();
    let password = &spec.config.password;
    let password = match (&password.secret, &password.value) {
        (Some(secret), _) => Some(Password::Secret {
            namespace: namespace.to_owned(),
            name: secret.name.clone(),
            key: secret.key.clone(),
        }),
        (None, Some(value)) if !value.is_empty() => Some(Password::Written(Hidden(value.clone()))),
        (None, _) => None,
    };
    Ok(Source {
        of: System::Redis,
        url: format!("{scheme}://{host}:{port}{database}"),
        username: spec.config.username.clone(),
        password,
    })
}

/// Names everything that a pod is made of. Pods of another hash are replaced.
fn hash(template: &PodTemplate, source: &Source, queue: &str) -> String {
    let password = match &source.password {
        Some(Password::Secret { name, key, .. }) => json!({"name": name, "key": key}),
        Some(Password::Written(Hidden(text))) => json!(text),
        Some(Password::Environment(_)) | None => Value::Null,
    };
    let parts = json!([
        template.spec,
        template.labels,
        template.annotations,
        source.url,
        source.username,
        password,
        queue,
    ]);
    sha256(parts.to_string().as_bytes())
}

/// As Deployments have it: a quarter where nothing is said.
fn by(written: Option<&IntOrString>) -> By {
    written.and_then(|written| By::read(&json!(written))).unwrap_or(By::Percent(25))
}
