//! One task: the user's work on it, and telling the queue system how it ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::queue::{Error, Queue};
use crate::task::{Lease, Leased, Task};

/// Pauses between attempts to reach a queue system that does not answer.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A task that failed waits this long, doubled for each attempt, up to the second figure.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Work that is stopped has this long to notice before its task is given back.
const STOP_MAX: Duration = Duration::from_millis(100);

/// How the user's work on a task ended.
pub(crate) enum Ending {
    Done,
    Failed(String),
    /// It was not worked on, or not to its end, and nobody failed.
    GivenBack,
}

impl<E: std::fmt::Display> From<Result<(), E>> for Ending {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// An ending, and who wants to know whether the lease was still held.
pub(crate) struct Worked {
    pub(crate) ending: Ending,
    pub(crate) settled: Option<oneshot::Sender<bool>>,
}

pub(crate) type Working = Pin<Box<dyn Future<Output = Worked> + Send>>;
pub(crate) type Work = Arc<dyn Fn(Task) -> Working + Send + Sync>;

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    GivenBack,
    /// The lease was lost before the queue system knew.
    Late,
}

/// Works on one task until it is done, or until it must be given back, and settles it.
pub(super) async fn execute(
    queue: &dyn Queue,
    leased: Leased,
    work: &Work,
    give_back: &CancellationToken,
    attempts_max: u32,
) -> (Duration, Outcome) {
    let begin = Instant::now();
    let attempt = leased.task.attempt;
    let mut working = tokio::spawn(work(leased.task));
    let ended = tokio::select! {
        ended = &mut working => Some(ended),
        () = give_back.cancelled() => {
            // It may end in this very moment; and nobody else should begin before it has stopped.
            working.abort();
            timeout(STOP_MAX, &mut working).await.ok().filter(|ended| !matches!(ended, Err(it) if it.is_cancelled()))
        }
    };
    let worked = match ended {
        Some(Ok(worked)) => worked,
        Some(Err(panic)) => Worked { ending: Ending::Failed(panic.to_string()), settled: None },
        None => Worked { ending: Ending::GivenBack, settled: None },
    };
    let took = begin.elapsed();
    let (kept, outcome) = settle(queue, &leased.lease, worked.ending, attempt, attempts_max).await;
    if let Some(settled) = worked.settled {
        let _ = settled.send(kept);
    }
    (took, if kept { outcome } else { Outcome::Late })
}

/// Tells the queue system how a task ended, until it answers.
async fn settle(
    queue: &dyn Queue,
    lease: &Lease,
    ending: Ending,
    attempt: u32,
    attempts_max: u32,
) -> (bool, Outcome) {
    match ending {
        Ending::GivenBack => {
            (until_answered(|| queue.give_back(lease, Duration::ZERO, false)).await, Outcome::GivenBack)
        }
        Ending::Done => (until_answered(|| queue.ack(lease)).await, Outcome::Done),
        Ending::Failed(error) if attempt >= attempts_max => {
            tracing::error!(task = lease.task, attempt, error, "the task failed for good and is put aside");
            (until_answered(|| queue.bury(lease, &error)).await, Outcome::Failed)
        }
        Ending::Failed(error) => {
            let delay = FAILED.0 * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64);
            tracing::warn!(task = lease.task, attempt, error, "the task failed and is tried again");
            (until_answered(|| queue.give_back(lease, delay.min(FAILED.1), true)).await, Outcome::Failed)
        }
    }
}

pub(super) async fn until_answered<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
    let mut pause = RETRY.0;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(%error, "no answer; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}
