//! What a worker must know before it starts.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use qscaler_protocol::environment;
use qscaler_protocol::name::{WorkerId, WorkloadUid};

use crate::queue::Error;

/// A worker's settings: where its queues are, and whatever differs from the usual.
///
/// ```
/// # use qscaler_worker::Settings;
/// let settings = Settings::new("redis://127.0.0.1:6379", ["mail"]).slots(8);
/// ```
///
/// In a worker that the engine started, [`Settings::from_environment`] has them all.
#[derive(Clone)]
pub struct Settings {
    /// May hold a password: never shown.
    pub(crate) url: String,
    pub(crate) queues: Vec<String>,
    /// For a server with access control, where the URL does not say it.
    pub(crate) username: Option<String>,
    /// The same. Never shown.
    pub(crate) password: Option<String>,
    pub(crate) slots: u32,
    pub(crate) identity: Option<(WorkloadUid, WorkerId)>,
    pub(crate) lease: Duration,
    pub(crate) grace: Duration,
    pub(crate) attempts_max: u32,
    pub(crate) park: bool,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) probe_file: Option<PathBuf>,
    pub(crate) probe_port: Option<u16>,
}

impl Settings {
    /// Settings for these queues, the most urgent first, and everything else as usual. The URL is
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, the same with `rediss://` for TLS, or `sqlite:PATH`.
    pub fn new(url: impl Into<String>, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            url: url.into(),
            queues: queues.into_iter().map(Into::into).filter(|queue: &String| !queue.is_empty()).collect(),
            username: None,
            password: None,
            slots: 1,
            identity: None,
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            attempts_max: 5,
            park: false,
            authorities: None,
            probe_file: None,
            probe_port: None,
        }
    }

    /// Settings from the variables of [`environment`], as the engine sets them. A worker that runs
    /// without the engine needs `QSCALER_QUEUE_URL` and `QSCALER_QUEUE`.
    pub fn from_environment() -> Result<Self, Error> {
        let url = read(environment::QUEUE_URL).ok_or_else(|| {
            let name = environment::QUEUE_URL;
            Error::Settings(format!("set {name}, for example redis://127.0.0.1:6379 or sqlite:queue.db"))
        })?;
        let queues = read(environment::QUEUE).unwrap_or_default();
        let mut settings = Self::new(url, queues.split(',').map(str::trim));
        settings.username = read(environment::QUEUE_USERNAME);
        settings.password = read(environment::QUEUE_PASSWORD);
        if let (Some(workload), Some(worker)) = (read(environment::WORKLOAD), read(environment::WORKER)) {
            settings = settings.identity(WorkloadUid::new(workload), WorkerId::new(worker));
        }
        if let Some(seconds) = number(environment::GRACE_SECONDS)? {
            settings = settings.grace(Duration::from_secs(seconds));
        }
        if let Some(slots) = number(environment::SLOTS)? {
            settings = settings.slots(slots);
        }
        settings.park = read(environment::PARK).is_some_and(|value| value != "0" && value != "false");
        settings.authorities = read(environment::QUEUE_CA).map(PathBuf::from);
        settings.probe_file = read(environment::PROBE_FILE).map(PathBuf::from);
        settings.probe_port = number(environment::PROBE_PORT)?;
        Ok(settings)
    }

    /// The user at a Redis server with access control. A user in the URL comes first.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password at a Redis server. A password in the URL comes first.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// How many tasks it works on at a time: 1 unless set, and 1 at least.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// Who it is to the engine. Without, nobody counts it and it takes no offers.
    pub fn identity(mut self, workload: WorkloadUid, worker: WorkerId) -> Self {
        self.identity = Some((workload, worker));
        self
    }

    /// After this time without a sign of life its tasks are given to other workers: 30 s unless set,
    /// 100 ms at least. The worker gives one three times as often.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// How long it may take to end after SIGTERM: 30 s unless set. What it still holds a little
    /// before that is given back.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// A task that failed this often is put aside as dead: 5 unless set, and 1 at least.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// When it has drained it stays, unready, takes nothing, and ends on SIGTERM only. For workers that
    /// something else than the engine would start again, as a Deployment does.
    pub fn park(mut self) -> Self {
        self.park = true;
        self
    }

    /// A file with the certificate authorities, in PEM, that are trusted instead of the system's.
    /// `?ssl_ca_certs=PATH` at the end of the URL does the same.
    pub fn authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// A file that is there while the worker is ready, for a readiness probe that looks for it.
    pub fn probe_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.probe_file = Some(file.into());
        self
    }

    /// A port, on all addresses, on which the worker answers HTTP with 200 while it is ready, else with 503.
    pub fn probe_port(mut self, port: u16) -> Self {
        self.probe_port = Some(port);
        self
    }
}

fn read(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: FromStr>(name: &str) -> Result<Option<T>, Error> {
    let Some(text) = read(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::Settings(format!("{name} is not a number in range: {text}")))
}
