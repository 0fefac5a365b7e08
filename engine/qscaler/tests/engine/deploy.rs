//! What is installed on Kubernetes: made from the types, committed, and small enough for `kubectl apply`.

use qscaler::platform::kubernetes::crd;
use qscaler_core::schema::Kind;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Client-side apply keeps the whole object in an annotation of at most 262,144 bytes; and it is read by people.
const BYTES_MAX: usize = 30_000;

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    for definition in crd::all() {
        let name = definition.metadata.name.as_deref().unwrap();
        let path = format!("{ROOT}/deploy/crds/{name}.yaml");
        let made = crd::yaml(&definition);
        assert!(made.len() < BYTES_MAX, "{name} has {} bytes", made.len());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == made, "{path} differs: UPDATE=1 cargo test -p qscaler deploy");
    }
}

/// A workload says the same in a file and on Kubernetes, but for what is of one machine.
#[test]
fn a_workload_has_the_same_fields_in_a_file_and_on_kubernetes() {
    let definition = crd::all().into_iter().find(|it| it.spec.names.kind == "Workload").unwrap();
    let schema = serde_json::to_value(definition.spec.versions[0].schema.as_ref()).unwrap();
    let on_kubernetes = fields(&schema["openAPIV3Schema"]["properties"]["spec"], "");
    let in_file = fields(&Kind::Workload.schema()["properties"]["spec"], "");
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|field| !those.contains(field)).cloned().collect()
    };
    let of_one_machine =
        ["source.auth.passwordEnv", "target.command", "target.directory", "target.env", "target.gracePeriod"];
    assert_eq!(only(&in_file, &on_kubernetes), of_one_machine);
    let of_kubernetes = ["source.auth.secretRef", "source.auth.secretRef.key", "source.auth.secretRef.name"];
    assert_eq!(only(&on_kubernetes, &in_file), of_kubernetes);
}

/// All fields of a schema, as paths, in order.
fn fields(schema: &Value, path: &str) -> Vec<String> {
    let below = schema.get("items").unwrap_or(schema);
    let named = below.get("properties").and_then(Value::as_object).into_iter().flatten();
    let with_inner = named.flat_map(|(name, inner)| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let inner = fields(inner, &path);
        [path].into_iter().chain(inner)
    });
    with_inner.collect()
}
