//! The plain manifest on the real API server, in a namespace of the test's own.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ValidationDirective;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};

use super::{Cluster, PATIENCE, crds};
use crate::deploy::manifest;

/// The engine's account as the API server calls it.
pub(super) fn account(cluster: &Cluster, name: &str) -> String {
    format!("system:serviceaccount:{}:{name}", cluster.namespace)
}

impl Cluster {
    /// The manifest's documents with this test's namespace; names of what has no namespace are its own, too.
    pub(super) fn documents(&self) -> Vec<Value> {
        let mut documents = manifest();
        for document in &mut documents {
            let kind = document["kind"].as_str().unwrap().to_owned();
            if document["metadata"].get("namespace").is_some() {
                document["metadata"]["namespace"] = json!(self.namespace);
            }
            if kind == "ClusterRole" || kind == "ClusterRoleBinding" {
                document["metadata"]["name"] = json!(self.namespace);
            }
            if kind == "ClusterRoleBinding" {
                document["roleRef"]["name"] = json!(self.namespace);
            }
            for subject in document.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                subject["namespace"] = json!(self.namespace);
            }
        }
        documents
    }

    /// The API of a document's kind.
    pub(super) fn api_of(&self, document: &Value) -> Api<DynamicObject> {
        let version = document["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, document["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&kind);
        match document["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub(super) async fn apply_document(&self, document: &Value, params: PatchParams) {
        let name = document["metadata"]["name"].as_str().unwrap();
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..params };
        let applied = self.api_of(document).patch(name, &params, &Patch::Apply(document)).await;
        applied.unwrap_or_else(|error| panic!("{}: {error}", document["kind"]));
    }

    async fn is_allowed(
        &self,
        account: &str,
        (namespace, group, resource, verb): (&str, &str, &str, &str),
    ) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
            "user": account,
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            },
        }}))
        .unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    }
}

#[tokio::test]
async fn the_api_server_takes_the_whole_manifest() {
    let cluster = Cluster::here().await;
    for document in cluster.documents() {
        let trial = PatchParams { dry_run: true, ..PatchParams::apply("qscaler-tests").force() };
        cluster.apply_document(&document, trial).await;
    }
    cluster.end().await;
}

/// Pods of the engine satisfy the strictest of the standards that Kubernetes has for them.
#[tokio::test]
async fn the_engine_may_run_where_pods_are_restricted() {
    let cluster = Cluster::here().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.patch(&cluster.namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let documents = cluster.documents();
    for account in documents.iter().filter(|document| document["kind"] == "ServiceAccount") {
        cluster.apply_document(account, PatchParams::apply("qscaler-tests")).await;
    }
    let deployment = documents.iter().find(|document| document["kind"] == "Deployment").unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod"});
    pod["metadata"] = deployment["spec"]["template"]["metadata"].clone();
    pod["metadata"]["name"] = json!("engine");
    pod["metadata"]["namespace"] = json!(cluster.namespace);
    pod["spec"] = deployment["spec"]["template"]["spec"].clone();
    let trial = PatchParams { dry_run: true, ..PatchParams::apply("qscaler-tests") };
    // The namespace refuses others, a moment after it was told to ...
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let api = cluster.api_of(&pod);
    let refused = async {
        loop {
            if let Err(error) = api.patch("engine", &trial, &Patch::Apply(&pod)).await {
                return error.to_string();
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(refused.contains("violates PodSecurity"), "{refused}");
    // ... and takes this one.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(false);
    api.patch("engine", &trial, &Patch::Apply(&pod)).await.unwrap();
    cluster.end().await;
}

#[tokio::test]
async fn the_engine_reads_no_secret_and_workers_nothing_at_all() {
    let cluster = Cluster::here().await;
    crds::install(&cluster.client).await;
    let documents = cluster.documents();
    let is_right = |document: &&Value| {
        let kind = document["kind"].as_str().unwrap();
        kind == "ServiceAccount" || kind.contains("Role")
    };
    for document in documents.iter().filter(is_right) {
        cluster.apply_document(document, PatchParams::apply("qscaler-tests").force()).await;
    }
    let (engine, worker) = (account(&cluster, "qscaler"), account(&cluster, "qscaler-worker"));
    let own = cluster.namespace.as_str();
    let granted = [
        ("default", "", "pods", "create"),
        ("default", "quickube.com", "qworkers/status", "patch"),
        (own, "coordination.k8s.io", "leases", "patch"),
    ];
    for right in granted {
        // The API server hears of a new right a moment later.
        let is_told = async { while !cluster.is_allowed(&engine, right).await {} };
        tokio::time::timeout(PATIENCE, is_told).await.unwrap_or_else(|_| panic!("{right:?}"));
        assert!(!cluster.is_allowed(&worker, right).await, "{right:?}");
    }
    let refused = [
        ("default", "", "secrets", "get"),
        ("default", "", "secrets", "list"),
        (own, "", "secrets", "get"),
        (own, "", "secrets", "list"),
        ("default", "apps", "deployments", "patch"),
        ("default", "", "pods/exec", "create"),
        ("default", "coordination.k8s.io", "leases", "patch"),
        ("default", "", "pods", "deletecollection"),
    ];
    for right in refused {
        assert!(!cluster.is_allowed(&engine, right).await, "{right:?}");
    }
    for right in [
        ("default", "", "pods", "get"),
        (own, "quickube.com", "qworkers", "get"),
        (own, "", "secrets", "get"),
    ] {
        assert!(!cluster.is_allowed(&worker, right).await, "{right:?}");
    }
    for document in
        documents.iter().filter(|document| document["kind"].as_str().unwrap().starts_with("Cluster"))
    {
        let name = document["metadata"]["name"].as_str().unwrap();
        cluster.api_of(document).delete(name, &DeleteParams::default()).await.unwrap();
    }
    cluster.end().await;
}
