//! Puts tasks into the queue the way any program would, without the SDK, and remembers when.

use std::collections::BTreeMap;

use qscaler_core::time::Time;
use qscaler_protocol::name::WorkloadUid;
#[cfg(feature = "redis")]
use qscaler_protocol::redis::{PathKeys, QueueKeys};
use qscaler_worker::sqlite::{Database, path_of};

use super::load::LoadTask;
use crate::clock::wall_clock;
use crate::store::value;

/// A producer of tasks.
pub(super) struct Producer {
    to: To,
    queue: String,
    enqueued: BTreeMap<String, Time>,
}

enum To {
    Sqlite(Database),
    #[cfg(feature = "redis")]
    Redis(redis::aio::MultiplexedConnection),
}

impl Producer {
    pub(super) async fn connect(url: &str, queue: &str) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let to =
            match url.split(':').next() {
                #[cfg(feature = "redis")]
                Some("redis" | "rediss") => {
                    let client = redis::Client::open(url).map_err(|error| failed(&error))?;
                    let connection = client.get_multiplexed_async_connection().await;
                    To::Redis(connection.map_err(|error| {
                        format!("{url}: {error}; start a server there, or leave out --queue")
                    })?)
                }
                _ => To::Sqlite(Database::open(path_of(url)).await.map_err(|error| failed(&error))?),
            };
        Ok(Self { to, queue: queue.to_owned(), enqueued: BTreeMap::new() })
    }

    /// When each task was put into the queue.
    pub(super) fn enqueued(&self) -> &BTreeMap<String, Time> {
        &self.enqueued
    }

    pub(super) async fn enqueue(&mut self, task: &LoadTask) -> Result<(), String> {
        let id = format!("t{}", self.enqueued.len() + 1);
        let payload = format!("{id} {}", task.seconds);
        match &mut self.to {
            To::Sqlite(database) => {
                let text = "INSERT INTO qscaler_tasks (queue, payload) VALUES (:queue, :payload);";
                let parameters = vec![("queue", value(&self.queue)), ("payload", value(payload))];
                database.run(text, parameters).await.map_err(|error| error.to_string())?;
            }
            #[cfg(feature = "redis")]
            To::Redis(connection) => {
                let pushed: Result<(), _> =
                    redis::cmd("LPUSH").arg(&self.queue).arg(payload).query_async(connection).await;
                pushed.map_err(|error| error.to_string())?;
            }
        }
        self.enqueued.insert(id, wall_clock());
        Ok(())
    }

    /// Removes what the demo has left on a server that others use, too: the workers' counts and offers.
    pub(super) async fn tidy(&mut self, uid: &WorkloadUid) -> Result<(), String> {
        match &mut self.to {
            // The file goes with the demo's folder, or is the user's to keep.
            To::Sqlite(_) => Ok(()),
            #[cfg(feature = "redis")]
            To::Redis(connection) => {
                let (queue, path) = (QueueKeys::of(&self.queue), PathKeys::of(uid));
                let mut command = redis::cmd("DEL");
                command.arg(&[queue.leases, queue.delayed, queue.attempts, queue.counters]);
                command.arg(&[path.offers, path.reports, path.released]);
                command.query_async(connection).await.map_err(|error| error.to_string())
            }
        }
    }
}
