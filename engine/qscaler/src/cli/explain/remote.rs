//! The record of an engine that is asked over HTTP: directly, or through the API server of its cluster.

use std::error::Error;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use kube::core::Status;
use kube::{Client, Config};

use super::super::run::cluster::{LEASE, pod_of};
use crate::explain::recorded::{Ask, Recorded, Silent};
use crate::web::RECORD;

/// The port of an engine's pod, as it is installed.
const PORT: u16 = 8080;
/// An engine or an API server that says nothing for so long says nothing any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine that is asked.
pub(super) struct Remote {
    client: Client,
    /// Before the path of what is asked.
    prefix: String,
    whom: Whom,
}

/// What messages call it.
enum Whom {
    Url(http::Uri),
    Pod { name: String, namespace: String },
}

/// An engine's URL as it is typed.
pub(super) fn url(text: &str) -> Result<http::Uri, String> {
    let url = text.parse::<http::Uri>().ok();
    let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    url.ok_or_else(|| "write something like `http://127.0.0.1:8080`".into())
}

impl Remote {
    /// The engine that serves this URL.
    pub(super) fn at(url: http::Uri) -> Result<Self, Silent> {
        let client = client(Config::new(url.clone()))?;
        Ok(Self { client, prefix: String::new(), whom: Whom::Url(url) })
    }

    /// The engine that holds the Lease in this namespace.
    pub(super) async fn leader(namespace: &str) -> Result<Self, Silent> {
        let config = Config::infer().await.map_err(|error| {
            Silent::Failed(format!("no cluster: {error}; set KUBECONFIG, or name the engine with --engine"))
        })?;
        let client = client(config)?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let lease = leases.get(LEASE).await.map_err(|error| no_lease(namespace, &error))?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
        let holder = holder.ok_or_else(|| {
            Silent::Failed(format!(
                "no engine leads: nobody holds the Lease `{LEASE}` in the namespace {namespace}; see \
                 `kubectl -n {namespace} get pods`"
            ))
        })?;
        let name = pod_of(&holder).to_owned();
        let prefix = format!("/api/v1/namespaces/{namespace}/pods/{name}:{PORT}/proxy");
        Ok(Self { client, prefix, whom: Whom::Pod { name, namespace: namespace.to_owned() } })
    }

    /// Asks its record.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Recorded, Silent> {
        let path = format!("{}{RECORD}?{}", self.prefix, ask.query());
        let request = Request::get(path).body(vec![]).map_err(|error| self.failed(&error.to_string()))?;
        let answer = self.client.request_text(request).await.map_err(|error| self.refusal(&error))?;
        serde_json::from_str(&answer).map_err(|error| {
            self.failed(&format!(
                "this program does not understand the answer ({error}); use one of the engine's version"
            ))
        })
    }

    fn refusal(&self, error: &kube::Error) -> Silent {
        let kube::Error::Api(status) = error else {
            let help = match self.whom {
                Whom::Url(_) => "; was an engine started with --listen there?",
                Whom::Pod { .. } => "",
            };
            return self.failed(&format!("{}{help}", deepest(error)));
        };
        let said = status.message.trim();
        match (&self.whom, status.code, status.reason.as_str()) {
            (Whom::Pod { name, namespace }, _, "NotFound") => Silent::Failed(format!(
                "the engine that leads calls itself `{name}`, which is no pod of the namespace {namespace}; \
                 name it with --engine http://HOST:PORT"
            )),
            (Whom::Pod { .. }, _, "Forbidden") => {
                self.failed(&format!("you lack the right to `get` `pods/proxy` in its namespace: {said}"))
            }
            (_, 404, _) if said.is_empty() => {
                self.failed("it serves no record: is it an engine, and as new as this program?")
            }
            (_, 404, _) => Silent::Unknown(said.to_owned()),
            (_, 410, _) => Silent::Earlier(said.to_owned()),
            (Whom::Pod { name, namespace }, ..) => self.failed(&format!(
                "{said}; if it runs, the API server does not reach it: `kubectl -n {namespace} port-forward \
                 pod/{name} {PORT}`, and --engine http://127.0.0.1:{PORT}"
            )),
            (Whom::Url(_), ..) => self.failed(said),
        }
    }

    fn failed(&self, why: &str) -> Silent {
        Silent::Failed(match &self.whom {
            Whom::Url(url) => format!("the engine at {}: {why}", url.to_string().trim_end_matches('/')),
            Whom::Pod { name, namespace } => format!("the engine's pod {namespace}/{name}: {why}"),
        })
    }
}

fn client(mut config: Config) -> Result<Client, Silent> {
    // Who waits at a terminal would rather read why than wait for many attempts.
    config.default_retry = false;
    config.read_timeout = Some(PATIENCE);
    Client::try_from(config).map_err(|error| Silent::Failed(format!("no cluster: {}", deepest(&error))))
}

fn no_lease(namespace: &str, error: &kube::Error) -> Silent {
    let lease = format!("the Lease `{LEASE}` in the namespace {namespace}");
    Silent::Failed(match error {
        kube::Error::Api(status) if status.is_not_found() => format!(
            "there is no Lease `{LEASE}` in the namespace {namespace}: is the engine installed? Name its \
             namespace with --engine-namespace, or the engine itself with --engine"
        ),
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("{lease}: you lack the right to `get` `leases` there: {}", status.message)
        }
        kube::Error::Api(status) => format!("{lease}: {}", said(status)),
        other => format!("{lease}: {}", deepest(other)),
    })
}

fn said(status: &Status) -> &str {
    if status.message.is_empty() { &status.reason } else { &status.message }
}

/// What it comes down to: the outer errors only say that there is an inner one.
fn deepest(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
