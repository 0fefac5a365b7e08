//! The definitions of our objects, as an API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use super::api::{QWorker, ScalerConfig, Workload};

/// Stands above each definition in its file.
const HEAD: &str =
    "# Made from the engine's types; `UPDATE=1 cargo test -p qscaler deploy` writes it anew.\n";

/// All definitions.
pub fn all() -> [CustomResourceDefinition; 3] {
    [QWorker::crd(), ScalerConfig::crd(), Workload::crd()].map(structural)
}

/// A definition as its file holds it.
pub fn yaml(definition: &CustomResourceDefinition) -> String {
    let text = serde_saphyr::to_string(definition).expect("a definition is plain data");
    format!("{HEAD}{text}")
}

fn structural(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(definition).expect("a definition is plain data");
    forbid_null(&mut value);
    serde_json::from_value(value).expect("a definition with fewer words is one")
}

/// A field that may be left out is left out, not left empty; as in the definitions of the first QScaler.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            drop_null(object);
            object.values_mut().for_each(forbid_null);
        }
        Value::Array(elements) => elements.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

fn drop_null(object: &mut Map<String, Value>) {
    // A field may be called `nullable`: then a group stands there.
    if object.get("nullable").is_some_and(Value::is_boolean) {
        object.remove("nullable");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
}
