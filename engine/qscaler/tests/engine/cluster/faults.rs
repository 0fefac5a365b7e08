//! An API server that fails, and engines that are killed meanwhile: no worker notices.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::{StreamExt, stream};
use kube::Client;
use serde_json::json;

use super::failover::Engines;
use super::qworkers::workers_max;
use super::shop::{MadeBy, Shop, staying};
use crate::fixture::seed;

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It is refused: too many requests.
    TooMany,
    /// It fails.
    Fails,
    /// It is carried out, and the answer is that it took too long.
    Late,
    /// It is carried out, and the answer is cut off.
    Lost,
    /// A watch ends in the middle.
    Cut,
}

/// Stands between engines and the API server.
struct Proxy {
    client: Client,
    random: Mutex<u64>,
    /// Whether it does anything to requests.
    is_at_it: AtomicBool,
    /// How often, for requests that read and for those that write.
    done: Mutex<BTreeMap<(Fault, bool), usize>>,
}

impl Proxy {
    /// Returns it with where it listens.
    async fn start(client: Client) -> (Arc<Self>, String) {
        let proxy = Arc::new(Self {
            client,
            random: Mutex::new(seed() | 1),
            is_at_it: AtomicBool::new(true),
            done: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(any(answer)).with_state(Arc::clone(&proxy));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (proxy, address)
    }

    /// Xorshift, at most `max` less one.
    fn random(&self, max: u64) -> u64 {
        let mut state = self.random.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % max
    }

    /// One of four requests meets a fault, two of three watches are cut. What would be done twice if somebody
    /// asked again as if it were new, a pod or another number of them, is done more often than not without a
    /// full answer.
    fn fault(&self, request: &Request) -> Option<Fault> {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let path = request.uri().path();
        let makes_pods = match *request.method() {
            Method::POST => path.ends_with("/pods"),
            Method::PATCH => path.ends_with("/scale"),
            _ => false,
        };
        let fault = match (is_watch, self.random(48)) {
            (false, 0..24) if makes_pods => Fault::Lost,
            (true, 0..32) => Fault::Cut,
            (false, 0..3) => Fault::TooMany,
            (false, 3..6) => Fault::Fails,
            (false, 6..9) => Fault::Late,
            (false, 9..12) => Fault::Lost,
            _ => return None,
        };
        let fault = self.is_at_it.load(Ordering::Relaxed).then_some(fault)?;
        let writes = request.method() != Method::GET;
        *self.done.lock().unwrap().entry((fault, writes)).or_default() += 1;
        Some(fault)
    }

    async fn forward(&self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        // The client knows the server's name itself, and says who asks.
        parts.headers.remove(HOST);
        parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
        match self.client.send(Request::from_parts(parts, body.into())).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

/// A request carried out, or not, as chance wants it.
async fn answer(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    match proxy.fault(&request) {
        None => proxy.forward(request).await,
        Some(Fault::TooMany) => {
            let mut answer = status(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
            answer.headers_mut().insert(RETRY_AFTER, "1".parse().unwrap());
            answer
        }
        Some(Fault::Fails) => status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::Late) => {
            proxy.forward(request).await;
            status(StatusCode::GATEWAY_TIMEOUT, "Timeout")
        }
        Some(Fault::Lost) => proxy.forward(request).await.map(|_| Body::from_stream(stream::iter([cut()]))),
        Some(Fault::Cut) => {
            let wait = Duration::from_millis(proxy.random(8_000));
            let until_then = |body: Body| body.into_data_stream().take_until(tokio::time::sleep(wait));
            let of = |part: Result<Bytes, axum::Error>| part.map_err(io::Error::other);
            let answer = proxy.forward(request).await;
            answer.map(|body| Body::from_stream(until_then(body).map(of).chain(stream::iter([cut()]))))
        }
    }
}

/// With it a body ends before its end.
fn cut() -> io::Result<Bytes> {
    Err(io::ErrorKind::ConnectionReset.into())
}

/// A failure as the API server tells of one.
fn status(code: StatusCode, reason: &str) -> Response {
    let told = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a fault of the test", "reason": reason, "code": code.as_u16(),
    });
    (code, [(CONTENT_TYPE, "application/json")], told.to_string()).into_response()
}

/// Every look at the target of a Workload is six requests, and as a rule one of them meets a fault: it is
/// looked again and again.
const PATIENCE: Duration = Duration::from_secs(300);

/// One load after the other.
struct Load<'a> {
    shop: &'a Shop,
    by: MadeBy,
    engines: Engines<'a>,
    killed: usize,
    max: usize,
    /// So many more pods may be there while a Deployment replaces them.
    surge: usize,
    pushed: usize,
}

/// When an engine is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// While workers come.
    Early,
    /// While all are there and stay.
    Between,
    /// While they go.
    Late,
    /// While their Deployment replaces them.
    Rolling,
}

impl Load<'_> {
    /// From zero to all and back to zero.
    async fn wave(&mut self, kill: Kill) {
        let tasks = 5 * self.max;
        // Another engine takes over within 15 seconds: there is to be work for longer.
        let is_long = matches!(kill, Kill::Between | Kill::Rolling);
        let lengths = if is_long { 4_000..8_000 } else { 1_000..4_000 };
        self.shop.push("mail", tasks, lengths);
        self.pushed += tasks;
        if kill == Kill::Early {
            self.kill_leader().await;
            self.until_one_leads().await;
        }
        self.until("all are there", async |load| {
            let offers = load.shop.offers("mail").await;
            load.shop.unclaimed().await.len() == load.max && !offers.iter().any(|it| it.starts_with("open"))
        })
        .await;
        if kill == Kill::Between {
            self.kill_leader().await;
        }
        if kill == Kill::Rolling {
            self.surge = self.max.div_ceil(4);
            self.shop.roll("mail").await;
            self.kill_leader().await;
            self.until_one_leads().await;
        } else {
            self.nobody_leaves_before_the_last_tasks().await;
        }
        if kill == Kill::Late {
            self.kill_leader().await;
            self.until_one_leads().await;
        }
        let pushed = self.pushed;
        self.until("the tasks are done", async |load| load.shop.ended() == pushed).await;
        self.until("the pods are gone", async |load| load.shop.pods().await.is_empty()).await;
        self.surge = 0;
        self.shop.every_task_was_done_once(pushed);
        assert_eq!(self.shop.interrupted("mail"), 0);
    }

    async fn kill_leader(&mut self) {
        self.until_one_leads().await;
        self.engines.kill_leader();
        self.killed += 1;
    }

    async fn until_one_leads(&mut self) {
        self.until("an engine leads", async |load| load.engines.do_lead()).await;
    }

    /// While there are as many tasks as workers, the number wanted is the largest: whoever is there stays.
    async fn nobody_leaves_before_the_last_tasks(&mut self) {
        let before = self.shop.unclaimed().await;
        loop {
            self.engines.do_lead();
            let now = self.shop.unclaimed().await;
            // Read last: there were no fewer before.
            if self.pushed - self.shop.ended() < self.max {
                break;
            }
            assert_eq!(now, before);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until(&mut self, what: &str, mut so: impl AsyncFnMut(&mut Self) -> bool) {
        let shop = self.shop;
        shop.until_within(PATIENCE, what, async |shop| {
            self.engines.do_lead();
            let there = shop.unclaimed().await;
            assert!(there.len() <= self.max + self.surge, "{there:?}");
            if self.by == MadeBy::Deployment {
                // Who has left is among those that are asked for, too.
                let pods = staying(&shop.pods().await);
                assert!(pods.len() <= self.max + self.surge, "{pods:?}");
                assert_eq!(shop.restarts().await, 0);
            }
            so(self).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_costs_no_task_and_no_worker_too_many() {
    println!("{}", meet_faults(MadeBy::QWorker, &[Kill::Early, Kill::Between, Kill::Late]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_costs_a_deployment_no_task_and_no_worker_too_many() {
    let kills = [Kill::Rolling, Kill::Late, Kill::Early, Kill::Between];
    // Under faults the number of a Deployment takes its time: half of them in the gate.
    let kills = if is_full() { &kills } else { &kills[..2] };
    println!("{}", meet_faults(MadeBy::Deployment, kills).await);
}

fn is_full() -> bool {
    std::env::var_os("QSCALER_FULL").is_some()
}

/// One load after the other, with an engine killed in each; three times as many of them in a full run.
/// Returns what was met.
async fn meet_faults(by: MadeBy, kills: &[Kill]) -> String {
    let shop = Shop::open().await;
    let (proxy, address) = Proxy::start(shop.cluster.client.clone()).await;
    let kubeconfig = shop.path("through-the-proxy");
    shop.write_kubeconfig(&kubeconfig, |cluster| *cluster = json!({"server": address})).await;
    let engines = Engines::start(&shop, kubeconfig).await;
    shop.create_mail(by, workers_max()).await;
    let max = workers_max() as usize;
    let mut load = Load { shop: &shop, by, engines, killed: 0, max, surge: 0, pushed: 0 };
    for kill in kills.repeat(if is_full() { 3 } else { 1 }) {
        load.wave(kill).await;
    }
    load.until("the ledger is empty", async |load| load.shop.has_no_offers(by).await).await;
    proxy.is_at_it.store(false, Ordering::Relaxed);
    let done = proxy.done.lock().unwrap().clone();
    // Two were started at first, one for each that was killed, and one for each that ended by itself.
    let (killed, started) = (load.killed, load.engines.started());
    let met = format!("seed {}: {done:?}; killed {killed} of {started} engines", seed());
    let kinds = [Fault::TooMany, Fault::Fails, Fault::Late, Fault::Lost];
    let wanted = kinds.iter().flat_map(|kind| [(*kind, false), (*kind, true)]).chain([(Fault::Cut, false)]);
    wanted.for_each(|met| assert!(done.contains_key(&met), "{met:?} is not among {done:?}"));
    let last = load.engines.last();
    shop.close_workloads(last).await;
    met
}
