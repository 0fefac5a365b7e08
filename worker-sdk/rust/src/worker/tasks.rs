//! Tasks for a program that keeps a loop of its own.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::execute::{Ending, Worked, Working};
use super::run::{Event, Run, Source};
use super::{Ended, Worker};
use crate::queue::Error;
use crate::task::Task;

type Settled = (Ending, oneshot::Sender<bool>);

/// A worker's tasks, one at a time as they are asked for. Dropping it ends the worker as SIGTERM does.
///
/// ```no_run
/// # async fn example(settings: qscaler_worker::Settings) -> Result<(), qscaler_worker::Error> {
/// use qscaler_worker::Worker;
///
/// let mut tasks = Worker::connect(settings).await?.tasks();
/// while let Some(task) = tasks.next_task().await {
///     println!("{}", String::from_utf8_lossy(&task.payload));
///     task.done().await;
/// }
/// tasks.ended().await?;
/// # Ok(())
/// # }
/// ```
pub struct Tasks {
    events: UnboundedSender<Event>,
    taken: UnboundedReceiver<HeldTask>,
    ended: Option<JoinHandle<Result<Ended, Error>>>,
    asked: bool,
}

/// A task that this program holds. Its lease is renewed until it is done, failed or dropped; dropping
/// it gives the task back.
pub struct HeldTask {
    task: Task,
    settle: oneshot::Sender<Settled>,
}

impl Tasks {
    pub(super) fn start(worker: Worker) -> Self {
        let (give, taken) = unbounded_channel();
        let work = move |task: Task| -> Working {
            let give = give.clone();
            Box::pin(async move {
                let (settle, settled) = oneshot::channel();
                // Where nobody takes it, the task is dropped here and given back.
                let _ = give.send(HeldTask { task, settle });
                match settled.await {
                    Ok((ending, told)) => Worked { ending, settled: Some(told) },
                    Err(_) => Worked { ending: Ending::GivenBack, settled: None },
                }
            })
        };
        let source = Source::Tasks { work: Arc::new(work), wanted: Some(0) };
        let run = Run::new(worker.queue, worker.settings, source);
        let events = run.events();
        let ended = tokio::spawn(run.until_gone(worker.hook));
        Self { events, taken, ended: Some(ended), asked: false }
    }

    /// The next task, or none when the worker leaves. Nothing is taken from the queue before somebody
    /// asks here. A wait that is given up loses nothing: the task comes with the next call.
    pub async fn next_task(&mut self) -> Option<HeldTask> {
        if !self.asked {
            let _ = self.events.send(Event::Wanted);
            self.asked = true;
        }
        let task = self.taken.recv().await;
        self.asked = false;
        task
    }

    /// Waits until the worker has left, which it does not do while tasks are held. Fails when it could
    /// not begin.
    pub async fn ended(mut self) -> Result<Ended, Error> {
        let Some(ended) = self.ended.take() else { return Err(Error::Settings("it has ended".into())) };
        // What came and was never asked for goes back.
        self.taken.close();
        while self.taken.recv().await.is_some() {}
        ended.await.unwrap_or_else(|error| Err(Error::Settings(error.to_string())))
    }

    /// Leaves as on SIGTERM.
    pub fn leave(&self) {
        let _ = self.events.send(Event::Told);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if self.ended.is_some() {
            self.leave();
        }
    }
}

impl HeldTask {
    /// The task is done. `false`: the lease was lost before, and it may run twice.
    pub async fn done(self) -> bool {
        self.settle(Ending::Done).await
    }

    /// The task failed: it comes again later, or is put aside as dead after too many attempts.
    /// `false` as for [`HeldTask::done`].
    pub async fn failed(self, error: impl ToString) -> bool {
        self.settle(Ending::Failed(error.to_string())).await
    }

    /// Whether the task was given back by a second SIGTERM or the end of the grace period: stop.
    pub fn is_given_back(&self) -> bool {
        self.settle.is_closed()
    }

    async fn settle(self, ending: Ending) -> bool {
        let (told, answer) = oneshot::channel();
        self.settle.send((ending, told)).is_ok() && answer.await.unwrap_or(false)
    }
}

impl Deref for HeldTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}
