//! The endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Front, RECORD, Stage};
use crate::explain::recorded::{Ask, Silent, ask};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until the program ends. Fails at once when the address cannot be had.
pub async fn serve(address: SocketAddr, front: Arc<Front>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(front)).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

/// What is served.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route(RECORD, get(record))
        .with_state(front)
}

async fn metrics(State(front): State<Arc<Front>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], front.metrics().text())
}

async fn readiness(State(front): State<Arc<Front>>) -> impl IntoResponse {
    match front.stage() {
        Stage::Runs => (StatusCode::OK, "runs\n".to_owned()),
        Stage::Leads => (StatusCode::OK, "leads\n".to_owned()),
        Stage::StandsBy => (StatusCode::OK, "stands by\n".to_owned()),
        Stage::Lacks(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {what}\n")),
    }
}

/// One decision of the record, by `workload` and `at`, as `explain` asks for it.
async fn record(State(front): State<Arc<Front>>, RawQuery(query): RawQuery) -> Response {
    let tell = |status: StatusCode, text: String| (status, format!("{text}\n")).into_response();
    let Some(store) = front.record() else {
        return tell(StatusCode::SERVICE_UNAVAILABLE, "the record is not open yet".into());
    };
    let asked = match Ask::from_query(&query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => return tell(StatusCode::BAD_REQUEST, why),
    };
    match ask(store, &asked).await {
        Ok(recorded) => match serde_json::to_string(&recorded) {
            Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => tell(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Err(Silent::Unknown(why)) if front.stage() == Stage::StandsBy => {
            tell(StatusCode::NOT_FOUND, format!("{why}; this engine stands by: ask the one that leads"))
        }
        Err(Silent::Unknown(why)) => tell(StatusCode::NOT_FOUND, why),
        // So that who asks can tell it from a workload that there is not.
        Err(Silent::Earlier(why)) => tell(StatusCode::GONE, why),
        Err(Silent::Failed(why)) => tell(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}
