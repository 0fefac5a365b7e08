//! What a worker must know before it starts.

use std::env;
use std::time::Duration;

use qscaler_protocol::environment;
use qscaler_protocol::name::{WorkerId, WorkloadUid};

use crate::queue::Error;

/// A worker's settings. In a worker that the engine started, [`Settings::from_environment`] has them all.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the queues are: `redis://HOST:PORT/DATABASE` or `sqlite:PATH`.
    pub url: String,
    /// The queues to take tasks from, the most urgent first; one at least.
    pub queues: Vec<String>,
    /// How many tasks it works on at a time, 1 or more.
    pub slots: u32,
    /// Who it is to the engine. Without, nobody counts it and it takes no offers.
    pub identity: Option<(WorkloadUid, WorkerId)>,
    /// After this time without a renewal a task is given to another worker. Renewed three times as often.
    pub lease: Duration,
    /// The longest pause between two reports.
    pub report_every: Duration,
    /// How long it may take to end after SIGTERM; what it still holds a little before that is given back.
    pub grace: Duration,
    /// A task that failed this often is put aside as dead.
    pub attempts_max: u32,
}

impl Settings {
    /// Settings for these queues, everything else as usual: one slot, a lease of 30 s, five attempts.
    pub fn new(url: impl Into<String>, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            url: url.into(),
            queues: queues.into_iter().map(Into::into).collect(),
            slots: 1,
            identity: None,
            lease: Duration::from_secs(30),
            report_every: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            attempts_max: 5,
        }
    }

    /// Settings from the variables of [`environment`], as the engine sets them.
    pub fn from_environment() -> Result<Self, Error> {
        let read = |name: &'static str| env::var(name).ok().filter(|value| !value.is_empty());
        let need = |name: &'static str| {
            read(name).ok_or_else(|| Error::Settings(format!("set {name}, for example {}", example(name))))
        };
        let queues = need(environment::QUEUE)?;
        let mut settings = Self::new(need(environment::QUEUE_URL)?, queues.split(',').map(str::trim));
        if let (Some(workload), Some(worker)) = (read(environment::WORKLOAD), read(environment::WORKER)) {
            settings.identity = Some((WorkloadUid::new(workload), WorkerId::new(worker)));
        }
        if let Some(seconds) = read(environment::GRACE_SECONDS) {
            let seconds = seconds.parse().map_err(|_| {
                Error::Settings(format!(
                    "{} is not a number of seconds: {seconds}",
                    environment::GRACE_SECONDS
                ))
            })?;
            settings.grace = Duration::from_secs(seconds);
        }
        Ok(settings)
    }
}

fn example(name: &str) -> &'static str {
    if name == environment::QUEUE_URL {
        "redis://127.0.0.1:6379 or sqlite:queue.db"
    } else {
        "mail or high,low"
    }
}
