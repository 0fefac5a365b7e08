//! `resources` of a rule: how large the containers of a worker are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Duration, Expression};
use crate::vertical::ContainerKind;

/// How large a container is. The first entry that fits a container holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sizing {
    /// The container's name, or `*` for every one.
    #[schemars(example = &"*", example = &"worker")]
    pub container: String,
    /// Only containers of these kinds. Without, a named container fits whatever its kind, and `*` fits main containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ContainerKind>,
    /// Named values of the container, each evaluated once; they may use each other, and `explain` shows them.
    #[serde(rename = "let", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lets: BTreeMap<String, Expression>,
    /// Its memory; left to the template without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySizing>,
    /// Its processor; left to the template without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuSizing>,
    /// When a running worker gets new amounts, asked for each by itself; at once without. New workers
    /// get them always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
}

/// How much memory a container gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemorySizing {
    /// The request.
    pub request: Expression,
    /// The limit; `request` is the request that was just computed. Without, the template's ratio of
    /// limit to request is kept, and no limit stays none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Expression>,
    /// What the container gets at least after it was killed for want of memory: at once, then fading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_oom: Option<Expression>,
    /// In this time half of what `onOom` adds to the request fades; 24h without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_half_life: Option<Duration>,
    /// Neither request nor limit under this: an amount such as `64Mi`, or an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Expression>,
    /// Neither request nor limit over this: an amount such as `2Gi`, or an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Expression>,
}

/// How much processor a container gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuSizing {
    /// The request.
    pub request: Expression,
    /// The limit; `request` is the request that was just computed. Without, the template's ratio of
    /// limit to request is kept, and no limit stays none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Expression>,
    /// Neither request nor limit under this: an amount such as `50m`, or an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Expression>,
    /// Neither request nor limit over this: an amount such as `2`, or an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Expression>,
}

impl Sizing {
    /// All that it computes.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let memory = self.memory.iter();
        let memory = memory.flat_map(|it| {
            [Some(&it.request), it.limit.as_ref(), it.on_oom.as_ref(), it.min.as_ref(), it.max.as_ref()]
        });
        let cpu = self.cpu.iter();
        let cpu = cpu.flat_map(|it| [Some(&it.request), it.limit.as_ref(), it.min.as_ref(), it.max.as_ref()]);
        self.lets.values().chain(memory.flatten()).chain(cpu.flatten()).chain(&self.when)
    }
}
