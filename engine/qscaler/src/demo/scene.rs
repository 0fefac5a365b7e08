//! The demo's folder and its engine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qscaler_core::record::Line;
use qscaler_core::time::Time;
use qscaler_protocol::name::WorkloadUid;

use super::{Settings, diary};
use crate::clock::wall_clock;
use crate::host::{self, End};
use crate::ports::{PortError, Store};
use crate::store::SqliteStore;

const RULE: &str = include_str!("rule.yaml");
const WORKLOAD: &str = include_str!("workload.yaml");
/// The demo's workload, as the record names it.
const WORKLOAD_KEY: &str = "default/demo";
/// The first worker must be there within this time.
const FIRST_WORKER_MAX: Duration = Duration::from_secs(30);
/// After the demo failed or was stopped, the engine gets this long to end its workers.
const CLEAR_MAX: Duration = Duration::from_secs(10);

/// Where the demo plays.
pub(super) struct Scene {
    pub(super) folder: PathBuf,
    pub(super) diary: PathBuf,
    pub(super) url: String,
    pub(super) queue: String,
    engine: Option<Child>,
}

impl Scene {
    /// Makes the folder with a rule and a workload.
    pub(super) fn set(settings: &Settings) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("qscaler-demo-{}", std::process::id()));
        let url =
            settings.queue.clone().unwrap_or_else(|| format!("sqlite:{}", folder.join("queue.db").display()));
        // On a server that others use too the queue is the demo's own.
        let queue = format!("qscaler-demo-{}", std::process::id());
        let scene = Self { diary: folder.join("diary"), folder, url, queue, engine: None };
        scene.write_files().map_err(|error| format!("{}: {error}", scene.folder.display()))?;
        Ok(scene)
    }

    fn write_files(&self) -> io::Result<()> {
        let program = std::env::current_exe()?;
        let of = if self.url.starts_with("redis") { "redis" } else { "sqlite" };
        let workload = WORKLOAD
            .replace("@program", &program.display().to_string())
            .replace("@diary", &self.diary.display().to_string())
            .replace("@type", of)
            .replace("@url", &self.url)
            .replace("@queue", &self.queue);
        for (name, text) in [("rules", RULE), ("workloads", workload.as_str())] {
            fs::create_dir_all(self.folder.join(name))?;
            fs::write(self.folder.join(name).join("demo.yaml"), text)?;
        }
        fs::create_dir_all(self.folder.join("state"))
    }

    /// Starts an engine, in a process group of its own: an interrupt of the terminal is the demo's to handle.
    pub(super) fn start_engine(&mut self) -> Result<(), String> {
        let start = || -> io::Result<Child> {
            let log = File::options().create(true).append(true).open(self.engine_log())?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("run");
            for name in ["rules", "workloads", "state"] {
                command.arg(format!("--{name}")).arg(self.folder.join(name));
            }
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            host::own_session(&mut command);
            command.spawn()
        };
        self.engine = Some(start().map_err(|error| format!("cannot start the engine: {error}"))?);
        Ok(())
    }

    /// Kills the engine with SIGKILL: nothing of it can tidy up.
    pub(super) fn kill_engine(&mut self) -> Result<(), String> {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        engine
            .kill()
            .and_then(|()| engine.wait())
            .map(|_| ())
            .map_err(|error| format!("cannot kill the engine: {error}"))
    }

    /// Waits until so many workers have written their first line.
    pub(super) async fn wait_for_workers(&mut self, count: usize) -> Result<(), String> {
        let begin = Instant::now();
        while diary::read(&self.diary)?.len() < count {
            let ended = self.engine.as_mut().and_then(|engine| engine.try_wait().ok().flatten());
            if ended.is_some() || begin.elapsed() > FIRST_WORKER_MAX {
                let log = fs::read_to_string(self.engine_log()).unwrap_or_default();
                return Err(format!("the engine starts no worker; it says:\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Tells the engine to stop and waits until it has: then all of its workers are gone.
    pub(super) async fn stop_engine(&mut self, within: Duration) -> Result<(), String> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        host::signal_child(engine.id(), End::Ask);
        let begin = Instant::now();
        while begin.elapsed() < within {
            if engine.try_wait().map_err(|error| error.to_string())?.is_some() {
                self.engine = None;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("the engine has not stopped within {within:?}"))
    }

    /// Ends whatever is left, however the demo ended.
    pub(super) async fn clear(&mut self) {
        if self.stop_engine(Duration::from_millis(500)).await.is_err() {
            // The second signal ends the workers by SIGTERM.
            let _ = self.stop_engine(CLEAR_MAX).await;
        }
        if let Some(engine) = &self.engine {
            host::signal_child(engine.id(), End::Kill);
        }
    }

    /// The last decision.
    pub(super) async fn latest_decision(&self) -> Option<Line> {
        let store = SqliteStore::open(&self.folder.join("state")).await.ok()?;
        store.recorded(WORKLOAD_KEY, wall_clock(), 1).await.ok()?.into_iter().next()
    }

    /// The whole record, the oldest line first.
    pub(super) async fn record(&self) -> Result<Vec<Line>, String> {
        let store = SqliteStore::open(&self.folder.join("state")).await.map_err(|error| error.to_string())?;
        store.recorded_after(WORKLOAD_KEY, Time(0)).await.map_err(|error| error.to_string())
    }

    /// The workload's uid, which is in the names of what its workers wrote.
    pub(super) async fn uid(&self) -> Result<WorkloadUid, String> {
        let failed = |error: PortError| error.to_string();
        let store = SqliteStore::open(&self.folder.join("state")).await.map_err(failed)?;
        store.uid(WORKLOAD_KEY, WorkloadUid::new("none")).await.map_err(failed)
    }

    /// Removes the folder.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            crate::cli::complain(&format!("{}: {error}", self.folder.display()));
        }
    }

    /// After a failure: keeps the folder when an engine has left something in it to look at. Returns
    /// the error with where that is.
    pub(super) fn give_up(&self, error: &str) -> String {
        if self.engine_log().exists() {
            return format!("{error}\neverything is kept in {}", self.folder.display());
        }
        self.remove();
        error.to_owned()
    }

    fn engine_log(&self) -> PathBuf {
        self.folder.join("engine.log")
    }

    /// A folder beside the others.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(name)
    }
}
