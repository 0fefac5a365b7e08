//! The loop around the lifecycle machine: it alone owns the worker's state and handles one event at
//! a time; whatever takes time runs beside it and comes back as an event.

mod asking;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{BootId, OfferId};
use qscaler_protocol::report::{Answer, State};

use super::execute::{Outcome, Over, RETRY, Slot, Work};
use super::tally::Tally;
use super::{Ended, Hook, random_name};
use crate::lifecycle::Fetch;
use crate::probe::Probe;
use crate::queue::{Error, Queue};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::task::{Lease, Leased};

/// A fetch waits at most this long for a task before the worker looks around again.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// What the loop is told.
pub(crate) enum Event {
    /// Somebody who keeps a loop of his own wants a task.
    Wanted,
    /// A program with a queue of its own wants to fetch.
    FetchWanted(oneshot::Sender<Fetch>),
    /// It has fetched.
    FetchEnded {
        task: bool,
    },
    /// It has worked on a task.
    Worked {
        took: Duration,
        failed: bool,
    },
    Fetched(Result<Option<Leased>, Error>),
    /// A task is over; its key stays for the one that came in its place.
    Over {
        key: u64,
        over: Over,
    },
    Answered {
        said: State,
        answer: Result<Answer, Error>,
    },
    Woken,
    Claimed(Option<OfferId>),
    /// Leases were renewed and lost ones looked for; `false`: the queue system did not answer.
    Kept(bool),
    HookEnded,
    /// The program itself wants to end.
    Told,
}

/// Who takes the tasks.
pub(crate) enum Source {
    /// The worker, for the user's function; where there is a number, as many as were asked for.
    Tasks { work: Work, wanted: Option<u32> },
    /// The program, from a queue of its own: these wait until they may.
    Program(VecDeque<oneshot::Sender<Fetch>>),
}

pub(crate) struct Run {
    queue: Arc<dyn Queue>,
    settings: Settings,
    source: Source,
    life: Lifecycle,
    tally: Tally,
    probe: Probe,
    hook: Option<Hook>,
    held: BTreeMap<u64, Lease>,
    keys: u64,
    events: (UnboundedSender<Event>, UnboundedReceiver<Event>),
    stop_fetching: CancellationToken,
    give_back: CancellationToken,
    leaving: CancellationToken,
    goes_on: Arc<AtomicBool>,
    fetch_pause: Duration,
    report_due: bool,
    reporting: bool,
    report_from: Instant,
    ending_since: Option<Instant>,
    reap_from: Instant,
    stay: Stay,
}

/// Whether the process goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    On,
    /// It has drained and waits for its end by somebody else.
    Parked,
    Gone,
}

impl Run {
    pub(crate) fn new(queue: Arc<dyn Queue>, settings: Settings, source: Source) -> Self {
        Self {
            life: Lifecycle::new(settings.slots),
            tally: Tally::new(BootId::new(random_name())),
            probe: Probe::default(),
            queue,
            settings,
            source,
            hook: None,
            held: BTreeMap::new(),
            keys: 0,
            events: mpsc::unbounded_channel(),
            stop_fetching: CancellationToken::new(),
            give_back: CancellationToken::new(),
            leaving: CancellationToken::new(),
            goes_on: Arc::default(),
            fetch_pause: Duration::ZERO,
            report_due: true,
            reporting: false,
            report_from: Instant::now(),
            ending_since: None,
            reap_from: Instant::now(),
            stay: Stay::On,
        }
    }

    /// Where to tell it things.
    pub(crate) fn events(&self) -> UnboundedSender<Event> {
        self.events.0.clone()
    }

    /// Cancelled when what is held must be given back at once.
    pub(crate) fn giving_back(&self) -> CancellationToken {
        self.give_back.clone()
    }

    /// Cancelled when nothing more may be fetched, for good.
    pub(crate) fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    pub(crate) async fn until_gone(mut self, hook: Option<Hook>) -> Result<Ended, Error> {
        self.hook = hook;
        self.probe = Probe::open(&self.settings).await?;
        let mut signals = Signals::listen()?;
        let mut report_tick = ticker(self.queue.look_every());
        let mut lease_tick = ticker(self.settings.lease / 3);
        let _listening = self.listen_for_offers();
        if self.settings.identity.is_none() {
            self.step(Input::Answered(Answer::default()));
        }
        while self.stay != Stay::Gone {
            self.fetch_if_free();
            self.report_if_due();
            let next_report = self.report_from;
            let deadline = signals.deadline(self.settings.grace);
            tokio::select! {
                Some(event) = self.events.1.recv() => self.handle(event),
                () = signals.next() => self.told(),
                () = sleep_until(deadline.unwrap_or(next_report)), if deadline.is_some() => {
                    signals.deadline_is_over();
                    self.told();
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

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wanted => {
                if let Source::Tasks { wanted: Some(wanted), .. } = &mut self.source {
                    *wanted += 1;
                }
            }
            Event::FetchWanted(asking) => {
                if let (Source::Program(waiting), false) = (&mut self.source, self.life.is_leaving()) {
                    waiting.push_back(asking);
                }
            }
            Event::FetchEnded { task } => self.step(Input::FetchEnded { task }),
            Event::Worked { took, failed } => {
                self.tally.add_task(took, if failed { Outcome::Failed } else { Outcome::Done });
                self.step(Input::TaskEnded);
            }
            Event::Fetched(fetched) => self.fetched(fetched),
            Event::Over { key, over } => self.over(key, over),
            Event::Answered { said, answer } => self.answered(said, answer),
            Event::Woken => self.report_due = true,
            Event::Claimed(offer) => self.step(Input::Claimed(offer)),
            Event::Kept(true) => {}
            // Others could not say that they live either: they get the time to do so before anybody
            // takes their tasks.
            Event::Kept(false) => self.reap_from = Instant::now() + self.settings.lease,
            Event::HookEnded => self.step(Input::HookEnded),
            Event::Told => self.told(),
        }
    }

    fn over(&mut self, key: u64, Over { took, outcome, next }: Over) {
        self.tally.add_task(took, outcome);
        if let Some(lease) = next {
            self.held.insert(key, lease);
            self.report_due = true;
        } else {
            self.held.remove(&key);
            self.step(Input::TaskEnded);
        }
    }

    fn told(&mut self) {
        if self.stay == Stay::Parked {
            self.stay = Stay::Gone;
        } else {
            // From here on it ends with its process, also where it would have parked.
            self.settings.park = false;
            self.step(Input::Told);
        }
    }

    fn step(&mut self, input: Input) {
        for action in self.life.step(input) {
            match action {
                Action::StopFetching => self.stop_fetching.cancel(),
                Action::Claim => self.claim(),
                Action::Report => {
                    self.report_due = true;
                    if self.life.is_leaving() {
                        self.report_from = Instant::now();
                    }
                }
                Action::GiveBack => self.give_back.cancel(),
                Action::RunHook => self.run_hook(),
                Action::Leave if self.settings.park => self.stay = Stay::Parked,
                Action::Leave => self.stay = Stay::Gone,
            }
        }
        self.goes_on.store(self.goes_on(), Ordering::Relaxed);
        let state = self.life.state();
        self.tally.note(state);
        self.probe.set(!matches!(state, State::Starting | State::Drained));
        if self.life.is_leaving()
            && let Source::Program(waiting) = &mut self.source
        {
            // Who asked and hears no answer leaves, as who asks later; and may ask at once whether it should.
            self.leaving.cancel();
            waiting.clear();
        }
        if state == State::Drained {
            self.ending_since.get_or_insert_with(Instant::now);
            if self.settings.identity.is_none() && self.stay == Stay::On {
                self.step(Input::Reported);
            }
        }
    }

    /// Whether a task that is done may be followed by the next in one step.
    fn goes_on(&self) -> bool {
        let takes_all = matches!(self.source, Source::Tasks { wanted: None, .. });
        takes_all && self.life.may_fetch_on()
    }

    fn fetch_if_free(&mut self) {
        while self.life.may_fetch() {
            let stop = if self.stop_fetching.is_cancelled() {
                CancellationToken::new()
            } else {
                self.stop_fetching.clone()
            };
            match &mut self.source {
                Source::Tasks { wanted: Some(0), .. } => return,
                Source::Tasks { wanted, .. } => {
                    if let Some(wanted) = wanted {
                        *wanted -= 1;
                    }
                    self.fetch(stop.clone());
                }
                Source::Program(waiting) => {
                    let Some(asking) = waiting.pop_front() else { return };
                    let fetch = Fetch::new(self.events.0.clone(), stop.clone());
                    if let Err(fetch) = asking.send(fetch) {
                        fetch.forget();
                        continue;
                    }
                }
            }
            self.stop_fetching = stop;
            self.life.step(Input::FetchStarted);
        }
    }

    fn fetch(&self, stop: CancellationToken) {
        let (queue, pause, events) = (Arc::clone(&self.queue), self.fetch_pause, self.events.0.clone());
        // A task must not come by a fetch that has outlived the hold under which it began.
        let wait = FETCH_WAIT.min(self.settings.lease / 3);
        tokio::spawn(async move {
            if !pause.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(pause) => {}
                }
            }
            let _ = events.send(Event::Fetched(queue.fetch(wait, &stop).await));
        });
    }

    fn fetched(&mut self, fetched: Result<Option<Leased>, Error>) {
        let leased = match fetched {
            Ok(leased) => {
                self.fetch_pause = Duration::ZERO;
                leased
            }
            Err(error) => {
                tracing::warn!(%error, "cannot fetch; trying again");
                self.fetch_pause = (self.fetch_pause * 2).clamp(RETRY.0, RETRY.1);
                None
            }
        };
        let task = leased.is_some();
        match &mut self.source {
            Source::Tasks { wanted: Some(wanted), .. } if !task => *wanted += 1,
            _ => {}
        }
        if let Some(leased) = leased {
            self.begin(leased);
        }
        self.step(Input::FetchEnded { task });
    }

    fn begin(&mut self, leased: Leased) {
        let Source::Tasks { work, .. } = &self.source else { return };
        self.keys += 1;
        let key = self.keys;
        self.held.insert(key, leased.lease.clone());
        let slot = Slot {
            queue: Arc::clone(&self.queue),
            work: Arc::clone(work),
            give_back: self.give_back.clone(),
            attempts_max: self.settings.attempts_max,
            goes_on: Arc::clone(&self.goes_on),
        };
        let events = self.events.0.clone();
        tokio::spawn(slot.work_off(leased, move |over| {
            let _ = events.send(Event::Over { key, over });
        }));
    }

    fn run_hook(&mut self) {
        let (hook, events) = (self.hook.take(), self.events.0.clone());
        tokio::spawn(async move {
            if let Some(hook) = hook
                && let Err(error) = tokio::spawn(hook()).await
            {
                tracing::error!(%error, "the shutdown hook failed");
            }
            let _ = events.send(Event::HookEnded);
        });
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period.max(Duration::from_millis(1)));
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
