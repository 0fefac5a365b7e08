//! Tasks, and the hold that a worker has on one.

use serde::de::DeserializeOwned;

/// What the user's function gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number or key in the queue system; with `attempt` it makes work idempotent.
    pub id: String,
    /// The queue that it came from.
    pub queue: String,
    /// The bytes that the producer put there.
    pub payload: Vec<u8>,
    /// 1 for the first try.
    pub attempt: u32,
}

impl Task {
    /// The payload, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.payload)
    }

    /// The payload, read as msgpack.
    #[cfg(feature = "msgpack")]
    pub fn msgpack<T: DeserializeOwned>(&self) -> Result<T, rmp_serde::decode::Error> {
        rmp_serde::from_slice(&self.payload)
    }
}

/// A worker's hold on one task. Only the holder of the token may acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The task's queue.
    pub queue: String,
    /// The task, as the queue system finds it again.
    pub task: String,
    /// Random, and another one for each hold.
    pub token: String,
}

/// A task with the hold on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The task.
    pub task: Task,
    /// The hold.
    pub lease: Lease,
}
