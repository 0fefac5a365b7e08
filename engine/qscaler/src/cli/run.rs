//! `qscaler run`: the engine, on this machine or for a cluster.

#[cfg(feature = "kubernetes")]
pub(super) mod cluster;
mod log;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use qscaler_core::catalog::{Catalog, Found};
use qscaler_core::problem::{self, Severity, render};

use super::{Format, complain};
use crate::clock::{SystemClock, SystemRandomness, TokioTasks};
use crate::engine::{Engine, Mode};
use crate::event::{All, Event, Log};
use crate::exit::Exit;
use crate::metrics::Metrics;
use crate::platform::local::Local;
use crate::ports::{Listen, Ports};
use crate::queue::ByUrl;
use crate::reload::Watcher;
use crate::store::SqliteStore;
use crate::web::{Front, Stage};

#[derive(Args)]
pub(super) struct Run {
    /// The folder with rules; read again whenever it changes.
    #[arg(long, value_name = "FOLDER", default_value = "rules")]
    rules: PathBuf,
    /// The folder with workloads; read again whenever it changes.
    #[arg(long, value_name = "FOLDER", default_value = "workloads")]
    workloads: PathBuf,
    /// Look after the QWorkers of a Kubernetes cluster instead of workloads in files: of the one that this
    /// runs in, else of the one that KUBECONFIG names.
    #[cfg(feature = "kubernetes")]
    #[arg(long, conflicts_with = "workloads")]
    kubernetes: bool,
    /// On Kubernetes: only of this namespace.
    #[cfg(feature = "kubernetes")]
    #[arg(long, requires = "kubernetes")]
    namespace: Option<String>,
    /// Where the engine keeps its memory, its record and the workers' output.
    #[arg(long, value_name = "FOLDER", default_value = ".qscaler")]
    state: PathBuf,
    /// Serve /metrics, /healthz, /readyz, and the record for `qscaler explain` here.
    #[cfg(feature = "http")]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    listen: Option<std::net::SocketAddr>,
    /// What becomes of the workers when the engine is told to stop; `drain` without, and on Kubernetes
    /// always `leave`.
    #[arg(long, value_enum)]
    on_stop: Option<OnStop>,
    /// How log lines are written to standard error; QSCALER_LOG=debug says more.
    #[arg(long, value_enum, default_value_t)]
    log: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OnStop {
    /// They finish what they hold and leave; the engine waits. A second signal ends them by SIGTERM.
    #[default]
    Drain,
    /// They work on; an engine that is started later takes them over.
    Leave,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Run {
    pub(super) fn run(self) -> Exit {
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&format!("cannot start: {error}"));
                return Exit::Failed;
            }
        };
        let stopped = runtime.block_on(async {
            let tracing = log::start(self.log)?;
            #[cfg(feature = "kubernetes")]
            let stopped = if self.kubernetes { self.in_cluster().await } else { self.until_stopped().await };
            #[cfg(not(feature = "kubernetes"))]
            let stopped = self.until_stopped().await;
            tracing.end().await;
            stopped
        });
        match stopped {
            Ok(()) => Exit::Good,
            Err(error) => {
                complain(&error);
                Exit::Failed
            }
        }
    }

    async fn until_stopped(self) -> Result<(), String> {
        let mut stops = Stops::listen().map_err(|error| error.to_string())?;
        let watcher = Watcher::start(vec![self.rules.clone(), self.workloads.clone()]);
        let mut watcher = watcher.map_err(|error| {
            format!("{error}; name the folders with --rules and --workloads, or write both with `qscaler new NAME`")
        })?;
        let metrics = Metrics::new();
        let front = Front::new(metrics.clone());
        self.serve(&front).await?;
        let listen: Arc<dyn Listen> = Arc::new(All(vec![Arc::new(Log), metrics]));
        let store = SqliteStore::open(&self.state).await;
        let store =
            store.map_err(|error| format!("{error}; name a folder that can be written with --state"))?;
        front.set_record(store.clone());
        front.is_at(Stage::Lacks("the files were not read yet"));
        let random = Arc::new(SystemRandomness);
        let ports = Ports {
            clock: Arc::new(SystemClock::start()),
            random: random.clone(),
            spawn: Arc::new(TokioTasks),
            listen: Arc::clone(&listen),
            platform: Arc::new(Local::new(store.clone(), &self.state, random)),
            store: Arc::new(store),
            connect: Arc::new(ByUrl),
        };
        let mut engine = Engine::new(ports);
        let mut catalog = take_in(&Catalog::default(), watcher.files(), &mut engine, &*listen);
        front.is_at(Stage::Runs);
        loop {
            tokio::select! {
                files = watcher.changed() => catalog = take_in(&catalog, files, &mut engine, &*listen),
                () = stops.next() => break,
            }
        }
        self.stop(&engine, &mut stops).await;
        Ok(())
    }

    /// Tells over HTTP what is going on, where that was asked for.
    #[cfg(feature = "http")]
    async fn serve(&self, front: &Arc<Front>) -> Result<(), String> {
        let Some(address) = self.listen else { return Ok(()) };
        let served = crate::web::serve(address, Arc::clone(front)).await;
        served.map_err(|error| format!("cannot listen at {address}: {error}"))
    }

    #[cfg(not(feature = "http"))]
    #[expect(clippy::unused_async, reason = "it is one with the other")]
    async fn serve(&self, _front: &Arc<Front>) -> Result<(), String> {
        Ok(())
    }

    async fn stop(&self, engine: &Engine, stops: &mut Stops) {
        match self.on_stop.unwrap_or_default() {
            OnStop::Leave => engine.turn(Mode::Leave),
            OnStop::Drain => {
                tracing::info!(
                    "stopping: workers finish what they hold and leave; another signal ends them by SIGTERM"
                );
                engine.turn(Mode::Drain);
            }
        }
        loop {
            tokio::select! {
                () = engine.all_let_go() => return,
                () = stops.next() => {
                    tracing::warn!("stopping: workers are ended by SIGTERM, and killed after their grace period");
                    engine.turn(Mode::Terminate);
                }
            }
        }
    }
}

/// Takes in the files as they are now: tells what is wrong with them and looks after what is good.
fn take_in(before: &Catalog, files: Vec<Found>, engine: &mut Engine, listen: &dyn Listen) -> Catalog {
    let catalog = read(before, files, listen);
    let assignments = catalog.assignments().into_iter().map(|assignment| (assignment, Mode::Keep));
    engine.set(assignments.collect(), Mode::Drain);
    catalog
}

/// Reads the files as they are now and tells what is wrong with them.
fn read(before: &Catalog, files: Vec<Found>, listen: &dyn Listen) -> Catalog {
    let update = before.update(files);
    if !update.problems.is_empty() {
        complain(render(&update.problems, &update.files, Format::Human.of_problems()).trim_end());
    }
    let is_error = |problem: &&problem::Problem| problem.severity == Severity::Error;
    listen.hear(&Event::Reloaded {
        rules: update.catalog.rules().count(),
        workloads: update.catalog.workloads().count(),
        errors: update.problems.iter().filter(is_error).count(),
        kept: update.catalog.kept().into_iter().map(str::to_owned).collect(),
        refused: update.refused,
    });
    update.catalog
}

#[cfg(feature = "http")]
fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| "write something like `127.0.0.1:9090`".into())
}

/// SIGTERM and SIGINT.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
