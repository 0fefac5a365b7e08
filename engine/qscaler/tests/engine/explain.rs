//! `qscaler explain` of an engine that is asked over HTTP, directly and as the one that leads in a cluster,
//! and what an engine says of its readiness.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get as on_get;
use qscaler::metrics::Metrics;
use qscaler::store::SqliteStore;
use qscaler::web::{self, Front, Stage};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::{Engine, PROGRAM, Site, get, until};

/// Standard output, standard error and exit code.
fn explain(site: &Site, arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(PROGRAM);
    command.arg("explain").args(arguments).env("KUBECONFIG", site.path("kubeconfig"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// A site whose engine has decided to start two workers, and when it did.
fn decided_site() -> (Site, Engine, String) {
    let site = Site::new();
    site.write_rule(2);
    site.write_workload();
    let engine = site.start_engine_with(&["--listen", "127.0.0.1:0"]);
    site.wait_for_running(2);
    let wall = "SELECT MIN(wall_ms) FROM records WHERE line LIKE '%\"replicas\":2%'";
    let first: i64 = until("it is recorded", || {
        site.state()?.query_row(wall, [], |row| row.get::<_, Option<i64>>(0)).unwrap()
    });
    let at = jiff::Timestamp::from_millisecond(first).unwrap();
    (site, engine, at.strftime("%FT%T.%3fZ").to_string())
}

/// What is the same wherever the record lies, as arguments and how the command ends.
fn questions(at: &str) -> [(Vec<&str>, i32); 6] {
    [
        (vec!["work", "--at", at], 0),
        (vec!["default/work", "--at", at, "--replay"], 0),
        (vec!["--at", at, "--format", "json"], 0),
        (vec!["work", "--at", "2026-01-05T12:03:20Z"], 1),
        (vec!["w&rk=?"], 3),
        (vec!["shop/work"], 3),
    ]
}

#[test]
fn an_engine_tells_what_its_folder_tells() {
    let (site, engine, at) = decided_site();
    let url = format!("http://{}", site.address().unwrap());
    let state = site.path("state").display().to_string();
    for (question, exit) in questions(&at) {
        let there = explain(&site, &[&question[..], &["--engine", &url]].concat());
        let here = explain(&site, &[&question[..], &["--state", &state]].concat());
        assert_eq!(there, here, "{question:?}");
        assert_eq!(there.2, exit, "{question:?}: {there:?}");
    }
    let (text, ..) = explain(&site, &["-n", "default", "work", "--engine", &url]);
    assert!(text.starts_with("default/work at "), "{text}");
    let (_, error, exit) = explain(&site, &["--engine", &format!("{url}/elsewhere")]);
    assert!(error.contains("it serves no record"), "{error}");
    assert_eq!(exit, 3);
    engine.stop();
    let (_, error, exit) = explain(&site, &["--engine", &url]);
    assert!(error.starts_with(&format!("the engine at {url}: ")) && error.contains("--listen"), "{error}");
    assert_eq!(exit, 3);
}

#[test]
fn the_record_is_one_document_of_json_or_a_text_that_lists_what_there_is() {
    let (site, engine, at) = decided_site();
    let address = site.address().unwrap();
    let milliseconds = at.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let ask = |query: &str| get(&address, &format!("/v1/record?{query}")).unwrap();
    let (status, body) = ask(&format!("workload=default%2Fwork&at={milliseconds}"));
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(told["line"]["decision"]["replicas"], 2);
    assert_eq!(told["rule"]["metadata"]["name"], "fixed");
    assert!(told.get("replaced").is_some(), "{told}");
    let (status, body) = ask("workload=wrok");
    assert_eq!((status, body.as_str()), (404, "nothing is recorded of `wrok`; there are: default/work\n"));
    let (status, body) = ask("workload=work&at=5");
    assert!(status == 410 && body.contains("the record begins at"), "{status} {body}");
    for wrong in ["at=noon", "until=5"] {
        assert_eq!(ask(wrong).0, 400, "{wrong}");
    }
    engine.stop();
}

#[test]
fn an_engine_of_files_is_ready_when_it_has_read_them() {
    let site = Site::new();
    let engine = site.start_engine_with(&["--listen", "127.0.0.1:0"]);
    until("it is ready", || {
        let ready = get(&site.address()?, "/readyz")?;
        // Before it was ready it said why not.
        if ready.0 == 503 {
            assert!(ready.1.starts_with("not ready: "), "{ready:?}");
            return None;
        }
        assert_eq!(ready, (200, "runs\n".into()));
        Some(())
    });
    assert!(site.log().contains("read rules=0 workloads=0"), "{}", site.log());
    engine.stop();
}

#[test]
fn an_engine_that_cannot_read_its_cluster_is_healthy_and_not_ready() {
    let site = Site::new();
    site.write("kubeconfig", &kubeconfig("http://127.0.0.1:1"));
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--kubernetes", "--listen", "127.0.0.1:0"]);
    command.arg("--rules").arg(site.path("rules")).arg("--state").arg(site.path("state"));
    command.env("KUBECONFIG", site.path("kubeconfig"));
    let engine = Engine::start(&mut command, site.path("engine.log"));
    let address = until("it serves", || site.address());
    until("it says what is missing", || {
        let (status, body) = get(&address, "/readyz")?;
        assert_eq!(status, 503);
        body.contains("QWorkers, Workloads, ScalerConfigs and pods were not read yet").then_some(())
    });
    assert_eq!(get(&address, "/healthz"), Some((200, "ok\n".into())));
    let (status, body) = get(&address, "/v1/record?workload=work").unwrap();
    assert_eq!((status, body.as_str()), (404, "nothing is recorded yet\n"));
    engine.stop();
}

/// For `kubectl` and all that is like it.
fn kubeconfig(server: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    })
    .to_string()
}

/// What an API server says when it does not do as it is told.
fn refusal(code: u16, reason: &str) -> (StatusCode, String) {
    let text = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"});
    (StatusCode::from_u16(code).unwrap(), text.to_string())
}

/// Something that answers as an API server does: Leases of four namespaces, and the engine's pod of one.
async fn api_server(engine: Router) -> SocketAddr {
    let lease =
        |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/qscaler");
    let held = |holder: &'static str| {
        on_get(async move || json!({"metadata": {}, "spec": {"holderIdentity": holder}}).to_string())
    };
    let pod = |namespace: &str, name: &str| format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy");
    let router = Router::new()
        .route(&lease("ops"), held("qscaler-7d4f-x2x_0123456789abcdef"))
        .nest(&pod("ops", "qscaler-7d4f-x2x"), engine)
        .route(&lease("idle"), held(""))
        .route(&lease("strict"), on_get(async || refusal(403, "Forbidden")))
        .route(&lease("half"), held("qscaler-1_0"))
        .route(&format!("{}/v1/record", pod("half", "qscaler-1")), on_get(async || refusal(403, "Forbidden")))
        .route(&lease("far"), held("qscaler-2_0"))
        .route(
            &format!("{}/v1/record", pod("far", "qscaler-2")),
            on_get(async || refusal(503, "ServiceUnavailable")),
        )
        .fallback(async || refusal(404, "NotFound"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The record of a folder, served as the engine does.
async fn served(site: &Site, stage: Stage) -> Router {
    let front = Front::new(Metrics::new());
    front.set_record(SqliteStore::open(&site.path("state")).await.unwrap());
    front.is_at(stage);
    web::router(Arc::clone(&front))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_engine_that_leads_is_asked_through_the_api_server() {
    let (site, engine, at) = decided_site();
    engine.stop();
    let server = api_server(served(&site, Stage::Leads).await).await;
    site.write("kubeconfig", &kubeconfig(&format!("http://{server}")));
    let state = site.path("state").display().to_string();
    for (question, exit) in questions(&at) {
        let there = explain(&site, &[&question[..], &["--engine-namespace", "ops"]].concat());
        let here = explain(&site, &[&question[..], &["--state", &state]].concat());
        assert_eq!(there, here, "{question:?}");
        assert_eq!(there.2, exit, "{question:?}: {there:?}");
    }
    let of_namespace =
        |namespace| explain(&site, &["-n", "default", "work", "--engine-namespace", namespace]);
    let (text, ..) = of_namespace("ops");
    assert!(text.starts_with("default/work at "), "{text}");
    for (namespace, says) in [
        ("nowhere", "is the engine installed? Name its namespace with --engine-namespace"),
        ("idle", "no engine leads"),
        ("strict", "you lack the right to `get` `leases`"),
        ("half", "you lack the right to `get` `pods/proxy`"),
        ("far", "kubectl -n far port-forward pod/qscaler-2 8080"),
    ] {
        let (text, error, exit) = of_namespace(namespace);
        assert_eq!((text.as_str(), exit), ("", 3));
        assert!(error.contains(says), "{namespace}: {error}");
    }
    // Nobody said which namespace: it is the one of the manifest, and there is none in it here.
    let (_, error, _) = explain(&site, &["-n", "default", "work"]);
    assert!(error.contains("no Lease `qscaler` in the namespace qscaler"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_stands_by_says_that_another_has_the_record() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = served(&site, Stage::StandsBy).await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    let ask = |path: &'static str| {
        let address = address.clone();
        tokio::task::spawn_blocking(move || get(&address, path))
    };
    assert_eq!(ask("/readyz").await.unwrap(), Some((200, "stands by\n".into())));
    let (status, body) = ask("/v1/record").await.unwrap().unwrap();
    assert!(status == 404 && body.contains("this engine stands by: ask the one that leads"), "{body}");
}
