//! Queue systems of a cluster: their passwords are in Secrets of the workload's own namespace.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;

use qscaler_core::workload::{Hidden, Password, Source};

use super::failed;
use crate::ports::{Asked, Connect, PortError, QueueSystem};
use crate::queue::ByUrl;

/// Connects with what Secrets hold at that moment.
pub struct InCluster {
    client: Client,
}

impl InCluster {
    /// With the Secrets that this client may read.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn read(&self, namespace: &str, name: &str, key: &str) -> Asked<Hidden> {
        let what = format!("the Secret {namespace}/{name}");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get(name).await.map_err(|error| failed(&what, &error))?;
        let value = secret.data.unwrap_or_default().remove(key);
        let value = value.ok_or_else(|| PortError::new(&what, format!("it has no key `{key}`")))?;
        String::from_utf8(value.0)
            .map(Hidden)
            .map_err(|_| PortError::new(&what, format!("`{key}` is no text in UTF-8")))
    }
}

#[async_trait]
impl Connect for InCluster {
    async fn connect(&self, source: &Source) -> Asked<QueueSystem> {
        let password = match &source.password {
            Some(Password::Secret { namespace, name, key }) => {
                Some(Password::Written(self.read(namespace, name, key).await?))
            }
            other => other.clone(),
        };
        ByUrl.connect(&Source { password, ..source.clone() }).await
    }
}
