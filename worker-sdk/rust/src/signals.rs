//! SIGTERM and SIGINT, and the time that the first of them leaves.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::queue::Error;

/// What a worker still holds is given back this long before its grace period ends, or a quarter of
/// the period where that is shorter.
const MARGIN_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    told_at: Option<Instant>,
    deadline_over: bool,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::Settings(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            told_at: None,
            deadline_over: false,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.told_at.get_or_insert_with(Instant::now);
    }

    /// When a worker that was told once must give back what it holds.
    pub(crate) fn deadline(&self, grace: Duration) -> Option<Instant> {
        let told_at = self.told_at.filter(|_| !self.deadline_over)?;
        Some(told_at + grace.saturating_sub(MARGIN_MAX.min(grace / 4)))
    }

    pub(crate) fn deadline_is_over(&mut self) {
        self.deadline_over = true;
    }
}
