//! One task: the user's work on it, and telling the queue system how it ended.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::queue::{Error, Queue};
use crate::task::{Lease, Leased, Task};

/// Pauses between attempts to reach a queue system that does not answer.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A task that failed waits this long, doubled for each attempt, up to the second figure.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

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

/// What working on tasks needs, one after the other in one slot.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) work: Work,
    pub(super) give_back: CancellationToken,
    pub(super) attempts_max: u32,
    /// Whether the next task may be taken in the step that acknowledges one. Read without waiting for the
    /// loop: it does not claim before it has heard that the slot is free.
    pub(super) goes_on: Arc<AtomicBool>,
}

/// A task is over.
pub(crate) struct Over {
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
    /// The lease on the task that came in its place.
    pub(super) next: Option<Lease>,
}

impl Slot {
    /// Works on a task, and on those that take its place, until none does. Each that is over is told.
    pub(super) async fn work_off(self, mut leased: Leased, tell: impl Fn(Over)) {
        loop {
            let begin = Instant::now();
            let attempt = leased.task.attempt;
            let worked = self.execute(leased.task).await;
            let took = begin.elapsed();
            let (kept, outcome, next) = self.settle(&leased.lease, worked.ending, attempt).await;
            if let Some(settled) = worked.settled {
                let _ = settled.send(kept);
            }
            let outcome = if kept { outcome } else { Outcome::Late };
            tell(Over { took, outcome, next: next.as_ref().map(|next| next.lease.clone()) });
            match next {
                Some(next) => leased = next,
                None => return,
            }
        }
    }

    /// Works on one task until it is done, or until it must be given back: then it goes no further.
    async fn execute(&self, task: Task) -> Worked {
        let mut working = (self.work)(task);
        let unsettled = |ending| Worked { ending, settled: None };
        // A panic is the task's failure and not the worker's end.
        let ended =
            poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| working.as_mut().poll(context))) {
                Ok(polled) => polled,
                Err(panic) => Poll::Ready(unsettled(Ending::Failed(said_in(&*panic)))),
            });
        tokio::select! {
            // It may have ended in this very moment.
            biased;
            worked = ended => worked,
            () = self.give_back.cancelled() => unsettled(Ending::GivenBack),
        }
    }

    /// Tells the queue system how a task ended, until it answers. The task that came in its place, too.
    async fn settle(&self, lease: &Lease, ending: Ending, attempt: u32) -> (bool, Outcome, Option<Leased>) {
        let queue = &*self.queue;
        let (kept, outcome) = match ending {
            Ending::Done => {
                if self.goes_on.load(Ordering::Relaxed) {
                    match queue.ack_and_take(lease).await {
                        Ok((kept, next)) => return (kept, Outcome::Done, next),
                        Err(error) => tracing::warn!(%error, "no answer; trying again"),
                    }
                }
                (until_answered(|| queue.ack(lease)).await, Outcome::Done)
            }
            Ending::GivenBack => {
                (until_answered(|| queue.give_back(lease, Duration::ZERO, false)).await, Outcome::GivenBack)
            }
            Ending::Failed(error) if attempt >= self.attempts_max => {
                tracing::error!(
                    task = lease.task,
                    attempt,
                    error,
                    "the task failed for good and is put aside"
                );
                (until_answered(|| queue.bury(lease, &error)).await, Outcome::Failed)
            }
            Ending::Failed(error) => {
                let delay = FAILED.0 * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64);
                tracing::warn!(task = lease.task, attempt, error, "the task failed and is tried again");
                let delay = delay.min(FAILED.1);
                (until_answered(|| queue.give_back(lease, delay, true)).await, Outcome::Failed)
            }
        };
        (kept, outcome, None)
    }
}

/// What a panic says.
fn said_in(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the task panicked: {}", said.unwrap_or("without a word"))
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
