//! Schemas: made from the types, committed, and true of every document that ships.

use qscaler_core::schema::{Kind, Read, read, text};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for kind in Kind::ALL {
        let path = format!("{ROOT}/schemas/{}", kind.file());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text(kind)).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text(kind), "{path} differs: UPDATE=1 cargo test -p qscaler-core schemas");
    }
}

#[test]
fn no_schema_says_what_a_crd_cannot() {
    for kind in Kind::ALL {
        let schema = kind.schema().to_string();
        for word in ["oneOf", "anyOf", "$ref", "\"null\""] {
            assert!(!schema.contains(word), "{} says {word}", kind.file());
        }
    }
}

/// `testdata/documents` holds one document of each kind in which every field stands.
#[test]
fn a_document_with_every_field_is_valid_and_is_written_back_as_it_was() {
    for (kind, name) in [(Kind::Rule, "rule"), (Kind::Test, "rule.test"), (Kind::Workload, "workload")] {
        let path = format!("{ROOT}/testdata/documents/{name}.yaml");
        let (file, problems) = qscaler_core::yaml::read(&path, std::fs::read_to_string(&path).unwrap());
        assert_eq!(problems, []);
        let json = file.documents[0].json();
        let back = match read(0, &json) {
            Ok(Read::Rule(document)) => serde_json::to_value(document),
            Ok(Read::Test(document)) => serde_json::to_value(document),
            Ok(Read::Workload(document)) => serde_json::to_value(document),
            Err(refusal) => panic!("{path}: {:?}", refusal.findings),
        };
        assert_eq!(back.unwrap(), json, "{path}");
        let mut missing = vec![];
        find_unused(&kind.schema(), &json, String::new(), &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "fields that {path} does not have");
    }
}

fn find_unused(schema: &Value, document: &Value, path: String, missing: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, schema) in properties {
            let path = format!("{path}/{name}");
            match document.get(name) {
                Some(value) => find_unused(schema, value, path, missing),
                // What a target is on Kubernetes excludes what it is here.
                None if path.starts_with("/spec/target/") => {}
                None => missing.push(path),
            }
        }
    }
    if let (Some(schema), Some(first)) = (schema.get("items"), document.get(0)) {
        find_unused(schema, first, format!("{path}/0"), missing);
    }
}
