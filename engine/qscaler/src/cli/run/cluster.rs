//! The engine of a cluster: of several, the one that holds the Lease acts.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

use qscaler_core::catalog::{Catalog, Found};

use super::{Run, Stops, read};
use crate::clock::{SystemClock, SystemRandomness, TokioTasks};
use crate::engine::{Engine, Mode};
use crate::event::{All, Event, Log};
use crate::metrics::Metrics;
use crate::platform::kubernetes::{
    Health, InCluster, KubernetesStore, Objects, Pods, Reporter, Watched, connect,
};
use crate::ports::{Listen, Ports};
use crate::reload::Watcher;
use crate::store::SqliteStore;
use crate::web::{Front, Stage};

/// The Lease, in the engine's own namespace.
pub(in crate::cli) const LEASE: &str = "qscaler";
/// Another engine takes over this many seconds after the last sign of life.
const LEASE_SECONDS: u64 = 15;
/// The sign of life is given this many seconds before.
const LEASE_GRACE: u64 = 10;
/// Keepers end their step and store their memory; who comes after them can do without.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Why an engine does not lead any more.
#[derive(PartialEq)]
enum Ended {
    Stopped,
    Lost,
}

/// What ends an engine's lead.
struct Ends {
    leads: watch::Receiver<bool>,
    stops: Stops,
}

impl Ends {
    async fn next(&mut self) -> Ended {
        tokio::select! {
            // The error says that nobody looks after the Lease any more, which comes to the same.
            _ = self.leads.wait_for(|leads| !*leads) => Ended::Lost,
            () = self.stops.next() => Ended::Stopped,
        }
    }
}

/// Tells which workloads were let go.
struct Releases(UnboundedSender<String>);

impl Listen for Releases {
    fn hear(&self, event: &Event) {
        if let Event::Released { workload } = event {
            // Nobody listens any more while the engine stops.
            let _ = self.0.send(workload.clone());
        }
    }
}

/// Everything that an engine needs to lead.
struct Leading {
    client: Client,
    watched: Watched,
    objects: Objects,
    record: SqliteStore,
    metrics: Arc<Metrics>,
    files: watch::Receiver<Vec<Found>>,
    front: Arc<Front>,
}

impl Run {
    pub(super) async fn in_cluster(self) -> Result<(), String> {
        let mut stops = Stops::listen().map_err(|error| error.to_string())?;
        let files = Watcher::start(vec![self.rules.clone()])
            .map_err(|error| format!("{error}; name the folder with --rules"))?
            .share();
        let metrics = Metrics::new();
        let front = Front::new(metrics.clone());
        self.serve(&front).await?;
        let client = connect().await.map_err(|error| error.to_string())?;
        let record = SqliteStore::open(&self.state)
            .await
            .map_err(|error| format!("{error}; name a folder that can be written with --state"))?;
        front.set_record(record.clone());
        front.is_at(Stage::Lacks(
            "QWorkers, Workloads, ScalerConfigs and pods were not read yet; the log says why",
        ));
        let objects = Objects::default();
        let watched = tokio::select! {
            watched = Watched::start(client.clone(), self.namespace.as_deref(), objects.clone()) => {
                watched.map_err(|error| error.to_string())?
            }
            () = stops.next() => return Ok(()),
        };
        front.is_at(Stage::StandsBy);
        let lease = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(client.default_namespace())
            .with_identity(identity())
            .with_duration(LEASE_SECONDS)
            .with_grace(LEASE_GRACE)
            .build()
            .await
            .map_err(|error| format!("the Lease {LEASE}: {error}"))?;
        let (mut leads, lease) = lease.watch().await;
        tracing::info!("wait for the Lease {LEASE}");
        let is_leader = tokio::select! {
            is_leader = leads.wait_for(|leads| *leads) => is_leader.is_ok(),
            () = stops.next() => false,
        };
        let mut leading = Leading { client, watched, objects, record, metrics, files, front };
        let mut ends = Ends { leads, stops };
        let ended = if is_leader { leading.lead(&mut ends).await } else { Ended::Stopped };
        // The Lease is given back.
        drop(ends);
        let _ = timeout(LEAVE_MAX, lease).await;
        match ended {
            Ended::Stopped => Ok(()),
            Ended::Lost => Err("another engine has the Lease; this one starts anew and waits for it".into()),
        }
    }
}

impl Leading {
    async fn lead(&mut self, ends: &mut Ends) -> Ended {
        tracing::info!("this engine acts");
        self.front.is_at(Stage::Leads);
        let (releases, mut released) = unbounded_channel();
        let reporter = Reporter::new(self.client.clone(), self.objects.clone());
        let health = Health::new(self.client.clone(), self.watched.stores().configs);
        let writers = [tokio::spawn(reporter.clone().run()), tokio::spawn(health.clone().run())];
        let listen: Arc<dyn Listen> = Arc::new(All(vec![
            Arc::new(Log),
            self.metrics.clone(),
            Arc::new(reporter.clone()),
            Arc::new(health),
            Arc::new(Releases(releases)),
        ]));
        let mut engine = Engine::new(self.ports(Arc::clone(&listen)));
        let ended = self.look_after(&mut engine, (&reporter, &*listen), &mut released, ends).await;
        self.front.is_at(Stage::Lacks("it stops"));
        engine.turn(Mode::Leave);
        if timeout(LEAVE_MAX, engine.all_let_go()).await.is_err() {
            tracing::warn!("not everything could be stored; who comes next does without");
        }
        writers.iter().for_each(tokio::task::JoinHandle::abort);
        ended
    }

    async fn look_after(
        &mut self,
        engine: &mut Engine,
        (reporter, listen): (&Reporter, &dyn Listen),
        released: &mut UnboundedReceiver<String>,
        ends: &mut Ends,
    ) -> Ended {
        let mut catalog = read(&Catalog::default(), self.files.borrow_and_update().clone(), listen);
        loop {
            let assignments = self.watched.assignments(&catalog, reporter).await;
            // What is not there, or cannot be read, is left alone: its workers work on.
            engine.set(assignments, Mode::Leave);
            tokio::select! {
                Ok(()) = self.files.changed() => {
                    let files = self.files.borrow_and_update().clone();
                    catalog = read(&catalog, files, listen);
                }
                () = self.watched.changed() => {}
                Some(key) = released.recv() => {
                    if let Err(error) = self.watched.let_go(&key).await {
                        tracing::warn!(workload = key, %error, "it is let go later");
                    }
                }
                ended = ends.next() => return ended,
            }
        }
    }

    fn ports(&self, listen: Arc<dyn Listen>) -> Ports {
        let (client, objects) = (self.client.clone(), self.objects.clone());
        Ports {
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(SystemRandomness),
            spawn: Arc::new(TokioTasks),
            listen,
            store: Arc::new(KubernetesStore::new(
                client.clone(),
                objects.clone(),
                self.watched.stores(),
                self.record.clone(),
            )),
            connect: Arc::new(InCluster::new(client.clone())),
            platform: Arc::new(Pods::new(client, objects, self.watched.stores())),
        }
    }
}

/// This engine among others: the pod's name, for people, and something that no other has.
fn identity() -> String {
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "qscaler".into());
    format!("{name}_{:016x}", crate::ports::Randomness::bits(&SystemRandomness))
}

/// The pod of an engine with this identity.
pub(in crate::cli) fn pod_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(name, _)| name)
}
