//! The loop around the lifecycle machine: it alone owns the worker's state and handles one event at
//! a time; whatever takes time runs beside it and comes back as an event.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{BootId, OfferId};
use qscaler_protocol::report::{Answer, State};

use super::tally::Tally;
use super::{Ended, Hook, random_name};
use crate::queue::{Error, Queue};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::task::{Lease, Leased, Task};

pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Worked = Arc<dyn Fn(Task) -> Work + Send + Sync>;

/// A fetch waits this long for a task before the worker looks around again.
const FETCH_WAIT: Duration = Duration::from_secs(5);
/// Two reports are at least this far apart, unless the worker is leaving.
const REPORT_GAP: Duration = Duration::from_millis(100);
/// A worker that is done tries this long to say so before it leaves without.
const LAST_REPORT_MAX: Duration = Duration::from_secs(10);
/// Pauses between attempts to reach a queue system that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A task that failed waits this long, doubled for each attempt, up to the second figure.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

enum Event {
    Fetched(Result<Option<Leased>, Error>),
    Finished { key: u64, took: Duration, outcome: Outcome },
    Answered { said: State, answer: Result<Answer, Error> },
    Claimed(Option<OfferId>),
    HookEnded,
}

/// What became of a task.
enum Outcome {
    Done,
    Failed,
    GivenBack,
    /// The lease was lost before the queue system knew.
    Late,
}

struct Held {
    lease: Lease,
    give_back: CancellationToken,
}

pub(super) struct Run {
    queue: Arc<dyn Queue>,
    settings: Settings,
    work: Worked,
    life: Lifecycle,
    tally: Tally,
    held: BTreeMap<u64, Held>,
    keys: u64,
    events: (UnboundedSender<Event>, UnboundedReceiver<Event>),
    stop_fetching: CancellationToken,
    fetch_pause: Duration,
    report_due: bool,
    reporting: bool,
    reported_at: Instant,
    ending_since: Option<Instant>,
    gone: bool,
}

impl Run {
    pub(super) fn new(queue: Arc<dyn Queue>, settings: Settings, work: Worked) -> Self {
        Self {
            life: Lifecycle::new(settings.slots),
            tally: Tally::new(BootId::new(random_name())),
            queue,
            settings,
            work,
            held: BTreeMap::new(),
            keys: 0,
            events: mpsc::unbounded_channel(),
            stop_fetching: CancellationToken::new(),
            fetch_pause: Duration::ZERO,
            report_due: true,
            reporting: false,
            reported_at: Instant::now(),
            ending_since: None,
            gone: false,
        }
    }

    pub(super) async fn until_gone(mut self, hook: Option<Hook>) -> Result<Ended, Error> {
        let mut hook = hook;
        let mut signals = Signals::listen()?;
        let mut report_tick = ticker(self.settings.report_every);
        let mut lease_tick = ticker(self.settings.lease / 3);
        if self.settings.identity.is_none() {
            self.step(Input::Answered(Answer::default()), &mut hook);
        }
        while !self.gone {
            self.fetch_if_free();
            self.report_if_due();
            let next_report = self.reported_at + REPORT_GAP;
            let deadline = signals.deadline(self.settings.grace);
            tokio::select! {
                Some(event) = self.events.1.recv() => self.handle(event, &mut hook),
                () = signals.next() => self.step(Input::Told, &mut hook),
                () = sleep_until(deadline.unwrap_or(next_report)), if deadline.is_some() => {
                    signals.deadline_is_over();
                    self.step(Input::Told, &mut hook);
                }
                () = sleep_until(next_report), if self.report_due && !self.reporting => {}
                _ = report_tick.tick() => self.report_due = true,
                _ = lease_tick.tick() => self.keep_leases(),
            }
        }
        if let Err(error) = self.queue.leave().await {
            tracing::debug!(%error, "cannot say goodbye");
        }
        let Tally { done, failed, late_acks, .. } = self.tally;
        Ok(Ended { claim: self.life.claim(), done, failed, late_acks })
    }

    fn handle(&mut self, event: Event, hook: &mut Option<Hook>) {
        match event {
            Event::Fetched(Ok(leased)) => {
                self.fetch_pause = Duration::ZERO;
                let task = leased.is_some();
                if let Some(leased) = leased {
                    self.begin(leased);
                }
                self.step(Input::FetchEnded { task }, hook);
            }
            Event::Fetched(Err(error)) => {
                tracing::warn!(%error, "cannot fetch; trying again");
                self.fetch_pause = (self.fetch_pause * 2).clamp(RETRY.0, RETRY.1);
                self.step(Input::FetchEnded { task: false }, hook);
            }
            Event::Finished { key, took, outcome } => {
                self.held.remove(&key);
                self.tally.add_task(took);
                match outcome {
                    Outcome::Done => self.tally.done += 1,
                    Outcome::Failed => self.tally.failed += 1,
                    Outcome::Late => self.tally.late_acks += 1,
                    Outcome::GivenBack => {}
                }
                self.step(Input::TaskEnded, hook);
            }
            Event::Answered { said, answer } => self.answered(said, answer, hook),
            Event::Claimed(offer) => self.step(Input::Claimed(offer), hook),
            Event::HookEnded => self.step(Input::HookEnded, hook),
        }
    }

    fn step(&mut self, input: Input, hook: &mut Option<Hook>) {
        for action in self.life.step(input) {
            match action {
                Action::StopFetching => self.stop_fetching.cancel(),
                Action::Claim => self.claim(),
                Action::Report => self.report_due = true,
                Action::GiveBack => self.held.values().for_each(|held| held.give_back.cancel()),
                Action::RunHook => self.run_hook(hook.take()),
                Action::Leave => self.gone = true,
            }
        }
        if self.life.state() == State::Drained {
            self.ending_since.get_or_insert_with(Instant::now);
            if self.settings.identity.is_none() && !self.gone {
                self.step(Input::Reported, hook);
            }
        }
    }

    fn fetch_if_free(&mut self) {
        if !self.life.may_fetch() {
            return;
        }
        self.life.step(Input::FetchStarted);
        if self.stop_fetching.is_cancelled() {
            self.stop_fetching = CancellationToken::new();
        }
        let (queue, stop, pause) = (Arc::clone(&self.queue), self.stop_fetching.clone(), self.fetch_pause);
        let events = self.events.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled(), if !pause.is_zero() => {}
                () = sleep(pause) => {}
            }
            let _ = events.send(Event::Fetched(queue.fetch(FETCH_WAIT, &stop).await));
        });
    }

    fn begin(&mut self, leased: Leased) {
        self.keys += 1;
        let key = self.keys;
        let give_back = CancellationToken::new();
        self.held.insert(key, Held { lease: leased.lease.clone(), give_back: give_back.clone() });
        let queue = Arc::clone(&self.queue);
        let (work, events, attempts_max) =
            (Arc::clone(&self.work), self.events.0.clone(), self.settings.attempts_max);
        tokio::spawn(async move {
            let begin = Instant::now();
            let attempt = leased.task.attempt;
            let mut working = tokio::spawn(work(leased.task));
            let result = tokio::select! {
                result = &mut working => Some(result.unwrap_or_else(|error| Err(error.to_string()))),
                () = give_back.cancelled() => None,
            };
            working.abort();
            let took = begin.elapsed();
            let outcome = settle(&*queue, &leased.lease, result, attempt, attempts_max).await;
            let _ = events.send(Event::Finished { key, took, outcome });
        });
    }

    fn claim(&self) {
        let (queue, events) = (Arc::clone(&self.queue), self.events.0.clone());
        let epoch = self.life.epoch().cloned();
        tokio::spawn(async move {
            let Some(epoch) = epoch else {
                let _ = events.send(Event::Claimed(None));
                return;
            };
            // Until it is answered: the claim may have been taken although the answer was lost, and
            // then no task may be fetched.
            let offer = until_answered(|| queue.claim(&epoch)).await;
            let _ = events.send(Event::Claimed(offer));
        });
    }

    fn run_hook(&self, hook: Option<Hook>) {
        let events = self.events.0.clone();
        tokio::spawn(async move {
            if let Some(hook) = hook
                && let Err(error) = tokio::spawn(hook()).await
            {
                tracing::error!(%error, "the shutdown hook failed");
            }
            let _ = events.send(Event::HookEnded);
        });
    }

    fn report_if_due(&mut self) {
        let Some((_, worker)) = &self.settings.identity else { return };
        let soon = !self.life.is_leaving() && self.reported_at.elapsed() < REPORT_GAP;
        if !self.report_due || self.reporting || soon {
            return;
        }
        let report = self.tally.report(worker, &self.life);
        (self.report_due, self.reporting, self.reported_at) = (false, true, Instant::now());
        let (queue, events) = (Arc::clone(&self.queue), self.events.0.clone());
        tokio::spawn(async move {
            let answer = queue.report(&report).await;
            let _ = events.send(Event::Answered { said: report.state, answer });
        });
    }

    fn answered(&mut self, said: State, answer: Result<Answer, Error>, hook: &mut Option<Hook>) {
        self.reporting = false;
        match answer {
            Ok(answer) => {
                self.step(Input::Answered(answer), hook);
                if said == State::Drained {
                    self.step(Input::Reported, hook);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot report; working on");
                let too_long = self.ending_since.is_some_and(|since| since.elapsed() > LAST_REPORT_MAX);
                if too_long {
                    self.step(Input::Reported, hook);
                } else if self.life.is_leaving() {
                    self.report_due = true;
                    self.reported_at = Instant::now() + RETRY.1 / 4;
                }
            }
        }
    }

    fn keep_leases(&self) {
        let leases: Vec<_> = self.held.values().map(|held| held.lease.clone()).collect();
        let queue = Arc::clone(&self.queue);
        tokio::spawn(async move {
            for lease in leases {
                match queue.renew(&lease).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!(task = lease.task, "the lease was lost; the task may run twice");
                    }
                    Err(error) => tracing::warn!(%error, "cannot renew a lease; trying again"),
                }
            }
            if let Err(error) = queue.reap().await {
                tracing::debug!(%error, "cannot look for lost leases");
            }
        });
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period.max(Duration::from_millis(1)));
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Tells the queue system how a task ended, until it answers.
async fn settle(
    queue: &dyn Queue,
    lease: &Lease,
    result: Option<Result<(), String>>,
    attempt: u32,
    attempts_max: u32,
) -> Outcome {
    let (kept, outcome) = match result {
        None => (until_answered(|| queue.give_back(lease, Duration::ZERO, false)).await, Outcome::GivenBack),
        Some(Ok(())) => (until_answered(|| queue.ack(lease)).await, Outcome::Done),
        Some(Err(error)) if attempt >= attempts_max => {
            tracing::error!(task = lease.task, attempt, error, "the task failed for good and is put aside");
            (until_answered(|| queue.bury(lease, &error)).await, Outcome::Failed)
        }
        Some(Err(error)) => {
            let delay = FAILED.0 * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64);
            tracing::warn!(task = lease.task, attempt, error, "the task failed and is tried again");
            (until_answered(|| queue.give_back(lease, delay.min(FAILED.1), true)).await, Outcome::Failed)
        }
    };
    if kept { outcome } else { Outcome::Late }
}

async fn until_answered<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
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
