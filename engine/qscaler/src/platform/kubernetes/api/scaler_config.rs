//! `ScalerConfig`: where queues are, and how to log in there.

#![expect(clippy::duplicated_attributes, reason = "several columns have one type")]

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Where queues are.
#[derive(Clone, Debug, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quickube.com",
    version = "v1alpha1",
    kind = "ScalerConfig",
    plural = "scalerconfigs",
    namespaced,
    doc = "Where queues are, and how to log in there.",
    status = "ScalerConfigStatus",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.config.host"),
    printcolumn(name = "Healthy", type_ = "boolean", json_path = ".status.healthy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ScalerConfigSpec {
    /// The kind of queue system: `redis`.
    #[serde(rename = "type")]
    #[schemars(extend("x-kubernetes-validations" = schema::known_type()))]
    pub of: String,
    /// Where it is.
    pub config: RedisConfig,
}

/// A Redis server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedisConfig {
    /// Its name or address.
    #[schemars(extend("x-kubernetes-validations" = schema::rule(
        "size(self) > 0",
        "it is empty: write the name of the server, such as redis.shop.svc",
    )))]
    pub host: String,
    /// Its port, as a text: `"6379"`.
    #[schemars(extend("x-kubernetes-validations" = schema::rule(
        "self.matches('^[0-9]{1,5}$') && int(self) > 0 && int(self) < 65536",
        "it is no port: write a number from 1 to 65535 in quotes, such as \"6379\"",
    )))]
    pub port: String,
    /// The password; `{}` where there is none.
    pub password: Password,
    /// The user; Redis' default user without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The database; 0 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = schema::not_negative()))]
    pub database: Option<i64>,
    /// Speak TLS, and trust the authorities that the engine's machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
}

/// A password, or where it is; none where neither stands. `secret` counts where both do.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Password {
    /// The password itself, to be read by everybody who reads this object: write `secret` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// One value of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKey {
    /// The Secret's name.
    #[serde(default)]
    #[schemars(extend("default" = ""))]
    pub name: String,
    /// The key in it.
    pub key: String,
    /// No password where the Secret or the key is missing, instead of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A password is never shown.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map(|_| "(hidden)");
        f.debug_struct("Password").field("value", &value).field("secret", &self.secret).finish()
    }
}

/// Whether it could be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalerConfigStatus {
    /// It answered.
    #[serde(default)]
    pub healthy: bool,
    /// The generation that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
