//! Parts of schemas that Kubernetes wants in its own words.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A rule that the API server checks, and what it says when it is broken: what to write instead.
pub(super) fn rule(cel: &str, message: &str) -> Value {
    json!([{ "rule": cel, "message": message }])
}

/// A kind of queue system that this release reads.
pub(super) fn known_type() -> Value {
    json!([{
        "rule": "self == 'redis'",
        "message": "it is no queue system that is known here: write redis",
        "messageExpression": "'`' + self + '` is no queue system that is known here: write redis'",
    }])
}

/// A number of things.
pub(super) fn not_negative() -> Value {
    rule("self >= 0", "it cannot be negative: write 0 or more")
}

/// A pod as a template. Only what every pod has is checked, so that fields of any release of Kubernetes reach
/// the pod; the API server checks the rest when the pod is made.
pub(super) fn pod_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["containers"],
        "properties": {
            "containers": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": { "name": { "type": "string" } },
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
        },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// A text, number or truth by name. The API server cannot say "one of these types"; the bounds keep out
/// filled lists and groups of fields, the engine says the rest.
pub(super) fn params(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "maxItems": 0,
            "maxProperties": 0,
            "x-kubernetes-preserve-unknown-fields": true,
        },
    })
}

/// A number of pods, or a part of all.
pub(super) fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "minimum": 0, "pattern": "^[0-9]+%$", "x-kubernetes-int-or-string": true })
}

/// What containers used at most, each by resource.
pub(super) fn usage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": [],
        "items": { "type": "object", "additionalProperties": { "x-kubernetes-int-or-string": true } },
    })
}

/// What containers should have, each by its name.
pub(super) fn containers(_: &mut SchemaGenerator) -> Schema {
    let amounts = json!({ "type": "object", "additionalProperties": { "x-kubernetes-int-or-string": true } });
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": { "type": "string" },
                "requests": amounts,
                "limits": amounts,
            },
        },
    })
}

/// An object of the engine's own.
pub(super) fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Conditions as all of Kubernetes has them.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
            },
        },
    })
}
