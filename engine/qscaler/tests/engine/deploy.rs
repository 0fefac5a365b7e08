//! What is installed on Kubernetes: made from the types, committed, and small enough for `kubectl apply`.

use std::collections::BTreeMap;
use std::process::Command;

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

/// The documents of the plain manifest.
pub(crate) fn manifest() -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{ROOT}/deploy/manifests/install.yaml")).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn named<'a>(manifest: &'a [Value], kind: &str) -> Vec<&'a Value> {
    manifest.iter().filter(|document| document["kind"] == kind).collect()
}

#[test]
fn the_manifest_is_what_the_chart_says() {
    let made = Command::new(format!("{ROOT}/deploy/manifests/make")).arg("--check").output().unwrap();
    let told = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
    assert!(made.status.success(), "{told}");
    let definitions: Vec<Value> =
        crd::all().iter().map(|definition| serde_json::to_value(definition).unwrap()).collect();
    let manifest = manifest();
    let installed: Vec<Value> = named(&manifest, "CustomResourceDefinition").into_iter().cloned().collect();
    // Numbers are written with a point or without.
    let text = |all: Vec<Value>| Value::Array(all).to_string().replace(".0,", ",").replace(".0}", "}");
    assert_eq!(text(installed), text(definitions));
}

#[test]
fn the_rules_that_ship_are_mounted() {
    let manifest = manifest();
    let [rules] = named(&manifest, "ConfigMap")[..] else { panic!("one ConfigMap") };
    let mounted = rules["data"].as_object().unwrap();
    let shipped = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name()?.to_str()?.to_owned();
        let stem = name.strip_suffix(".yaml")?;
        (!stem.contains('.')).then(|| (name, std::fs::read_to_string(path).unwrap()))
    };
    let files: BTreeMap<String, String> =
        std::fs::read_dir(format!("{ROOT}/rules")).unwrap().filter_map(shipped).collect();
    assert_eq!(mounted.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    for (name, text) in files {
        assert_eq!(mounted[&name].as_str().unwrap().trim(), text.trim(), "{name}");
    }
}

/// Its file system is not written to but there.
#[test]
fn the_engine_has_a_folder_for_its_state() {
    let manifest = manifest();
    let [deployment] = named(&manifest, "Deployment")[..] else { panic!("one Deployment") };
    let pod = &deployment["spec"]["template"]["spec"];
    let engine = &pod["containers"][0];
    assert_eq!(engine["securityContext"]["readOnlyRootFilesystem"], true);
    let arguments = engine["args"].as_array().unwrap();
    let folder =
        arguments.iter().find_map(|it| it.as_str()?.strip_prefix("--state=")).expect("--state=FOLDER");
    let mounts = engine["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|it| it["mountPath"] == folder).expect("a mount");
    assert!(mount.get("readOnly").is_none());
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|it| it["name"] == mount["name"]).expect("a volume");
    assert!(volume.get("emptyDir").is_some());
}

#[test]
fn nobody_gets_a_right_that_is_everything_or_a_secret() {
    let manifest = manifest();
    let roles = [named(&manifest, "ClusterRole"), named(&manifest, "Role")].concat();
    assert_eq!(roles.len(), 2);
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        let text = rule.to_string();
        for word in ["*", "secrets", "escalate", "impersonate", "bind", "deletecollection"] {
            assert!(!text.contains(&format!("\"{word}\"")), "{text} grants {word}");
        }
    }
    let bindings = [named(&manifest, "ClusterRoleBinding"), named(&manifest, "RoleBinding")].concat();
    for subject in bindings.iter().flat_map(|binding| binding["subjects"].as_array().unwrap()) {
        assert_eq!(subject["name"], "qscaler", "workers have no rights");
    }
}
