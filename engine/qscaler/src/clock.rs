//! The ports that the operating system answers: time, randomness, tasks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::Instant;

use qscaler_core::time::Time;

use crate::ports::{Clock, Job, Randomness, Spawn};

/// The machine's clocks.
pub struct SystemClock {
    began: Time,
    instant: Instant,
}

impl SystemClock {
    /// A timeline that begins now.
    pub fn start() -> Self {
        Self { began: wall_clock(), instant: Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Time {
        self.began + self.instant.elapsed()
    }

    fn wall(&self) -> Time {
        wall_clock()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What the clock on the wall says.
pub fn wall_clock() -> Time {
    Time(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The operating system's randomness.
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn bits(&self) -> u64 {
        getrandom::u64().expect("the operating system has randomness")
    }
}

/// Tasks of the tokio runtime.
pub struct TokioTasks;

impl Spawn for TokioTasks {
    fn spawn(&self, job: Job) {
        tokio::spawn(job);
    }
}
