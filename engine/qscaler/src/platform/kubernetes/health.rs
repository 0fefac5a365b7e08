//! What a ScalerConfig's status tells: whether its queue system answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use qscaler_core::workload::Source;

use super::api::ScalerConfig;
use super::status::Condition;
use super::translate::source;
use crate::event::Event;
use crate::ports::Listen;

/// Statuses are brought up to date this often.
const EVERY: Duration = Duration::from_secs(2);

/// Whether queue systems answer; a ScalerConfig that no QWorker uses is not asked for.
#[derive(Clone)]
pub struct Health {
    client: Client,
    configs: Store<ScalerConfig>,
    /// Whether sources answer, and why not.
    answers: Arc<Mutex<BTreeMap<Source, Result<(), String>>>>,
}

impl Health {
    /// Of these.
    pub fn new(client: Client, configs: Store<ScalerConfig>) -> Self {
        Self { client, configs, answers: Arc::default() }
    }

    /// Writes what has changed, until it is dropped.
    pub async fn run(self) {
        let mut written: BTreeMap<String, Result<(), String>> = BTreeMap::new();
        loop {
            for config in self.configs.state() {
                let Some(uid) = config.uid() else { continue };
                let Some(answer) = self.answer(&config) else { continue };
                if written.get(&uid) == Some(&answer) {
                    continue;
                }
                match self.write(&config, &answer).await {
                    Ok(()) => {
                        written.insert(uid, answer);
                    }
                    Err(error) => {
                        tracing::warn!(config = config.name_any(), %error, "the status cannot be written");
                    }
                }
            }
            sleep(EVERY).await;
        }
    }

    /// Whether a config's source answers; nothing before it was asked.
    fn answer(&self, config: &ScalerConfig) -> Option<Result<(), String>> {
        let source = source(&config.namespace()?, config).ok()?;
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&source).cloned()
    }

    async fn write(&self, config: &ScalerConfig, answer: &Result<(), String>) -> Result<(), kube::Error> {
        let condition = match answer {
            Ok(()) => Condition::ready("Answers", "the queue system answers"),
            Err(failure) => Condition::not_ready("DoesNotAnswer", failure),
        };
        let status = json!({
            "metadata": {"uid": config.uid()},
            "status": {
                "healthy": answer.is_ok(),
                "observedGeneration": config.metadata.generation,
                "conditions": [condition.written(Timestamp::now())],
            },
        });
        let api: Api<ScalerConfig> =
            Api::namespaced(self.client.clone(), &config.namespace().unwrap_or_default());
        let patch = Patch::Merge(status);
        api.patch_status(&config.name_any(), &PatchParams::default(), &patch).await.map(|_| ())
    }
}

impl Listen for Health {
    fn hear(&self, event: &Event) {
        if let Event::Source { source, failure } = event {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.insert(source.clone(), failure.clone().map_or(Ok(()), Err));
        }
    }
}
