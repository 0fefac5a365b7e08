//! Keeps one workload: a tick for every poll of its source, one at a time.

use std::time::Duration;

use tokio::sync::watch;

use qscaler_core::decide::Decision;
use qscaler_core::fleet::Process;
use qscaler_core::memory::{self, Memory, Unreadable};
use qscaler_core::plan::RolloutState;
use qscaler_core::record::Recorder;
use qscaler_core::time::Time;
use qscaler_core::workload::Workload;
use qscaler_protocol::name::WorkloadUid;

use super::interrupted::Interrupted;
use super::observe::Shown;
use super::polls::{POLL_EVERY, Polls, Subscription};
use super::sizes::Sizing;
use super::{Mode, Order};
use crate::event::{Event, TargetState};
use crate::ports::{Asked, Freshness, PortError, Ports};

/// After a tick that could not be finished the next one waits this long.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// A failure that stays the same is told this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Keeper {
    pub(super) ports: Ports,
    polls: Polls,
    orders: watch::Receiver<Order>,
    pub(super) key: String,
    /// The last failure, and when it was told.
    failure: Option<(PortError, Time)>,
}

/// What a keeper has of its workload once the store is there.
pub(super) struct Hold {
    pub(super) uid: WorkloadUid,
    pub(super) order: Order,
    pub(super) subscription: Subscription,
    pub(super) memory: Memory,
    pub(super) recorder: Recorder,
    pub(super) decided: Option<Decision>,
    pub(super) shown: Shown,
    /// What is known of tasks that were cut off.
    pub(super) interrupted: Interrupted,
    /// How far a rollout was, when that was told last.
    pub(super) rollout: Option<RolloutState>,
    /// How things were with what makes the workers, when that was told last.
    pub(super) target: Option<TargetState>,
    /// What is known of the sizes of the workers.
    pub(super) sizing: Sizing,
    /// When everything was read as it is.
    pub(super) read_live: Option<Time>,
    stored_at: Time,
}

impl Keeper {
    pub(crate) fn new(ports: Ports, polls: Polls, orders: watch::Receiver<Order>) -> Self {
        let key = orders.borrow().workload.key();
        Self { ports, polls, orders, key, failure: None }
    }

    /// Ticks until the workload may be let go.
    pub(crate) async fn run(mut self) {
        let mut hold = loop {
            match self.take_hold().await {
                Ok(hold) => break hold,
                Err(error) => self.pause_after(error).await,
            }
        };
        loop {
            let order = self.orders.borrow_and_update().clone();
            let moved = order.workload.source != hold.order.workload.source
                || order.workload.queue_names() != hold.order.workload.queue_names();
            if moved {
                hold.subscription = self.subscribe(&order.workload);
            }
            hold.order = order;
            let left = match hold.order.mode {
                Mode::Leave => break,
                Mode::Terminate => self.terminate_all(&hold).await,
                Mode::Keep | Mode::Drain => self.tick(&mut hold).await,
            };
            match left {
                Ok(0) if hold.order.mode >= Mode::Drain => {
                    self.ports.listen.hear(&Event::Released { workload: self.key.clone() });
                    break;
                }
                Ok(_) => {
                    if self.failure.take().is_some() {
                        self.ports.listen.hear(&Event::Recovered { workload: self.key.clone() });
                    }
                }
                Err(error) => self.pause_after(error).await,
            }
            if self.ports.clock.now().since(hold.stored_at) >= self.ports.store.checkpoint_every() {
                self.store_memory(&mut hold).await;
            }
        }
        self.store_memory(&mut hold).await;
    }

    fn subscribe(&self, workload: &Workload) -> Subscription {
        self.polls.subscribe(&workload.source, &workload.queue_names())
    }

    async fn take_hold(&mut self) -> Asked<Hold> {
        let order = self.orders.borrow_and_update().clone();
        let fresh = WorkloadUid::from_random(self.ports.random.bits());
        let uid = self.ports.store.uid(&self.key, fresh).await?;
        let memory = self.load_memory(&uid).await?;
        let subscription = self.subscribe(&order.workload);
        let stored_at = self.ports.clock.now();
        Ok(Hold {
            uid,
            order,
            subscription,
            memory,
            recorder: Recorder::default(),
            interrupted: Interrupted::new(self.ports.random.bits()),
            decided: None,
            shown: Shown::default(),
            rollout: None,
            target: None,
            sizing: Sizing::default(),
            read_live: None,
            stored_at,
        })
    }

    /// The last checkpoint, or an empty memory where there is none that can be read.
    async fn load_memory(&self, uid: &WorkloadUid) -> Asked<Memory> {
        let Some(text) = self.ports.store.checkpoint(uid).await? else { return Ok(Memory::default()) };
        let unreadable = match memory::load(&text) {
            Ok(memory) => return Ok(memory),
            Err(unreadable) => unreadable,
        };
        let reason = format!("the checkpoint is not used: {unreadable}");
        self.ports.listen.hear(&Event::MemoryFailed { workload: self.key.clone(), reason });
        if matches!(unreadable, Unreadable::FromTheFuture(_)) {
            self.ports.store.put_aside(uid, &text).await?;
        }
        Ok(Memory::default())
    }

    async fn store_memory(&self, hold: &mut Hold) {
        let text = memory::store(&hold.memory, concat!("qscaler ", env!("CARGO_PKG_VERSION")));
        hold.stored_at = self.ports.clock.now();
        if let Err(error) = self.ports.store.keep_checkpoint(&hold.uid, &text).await {
            let reason = format!("the checkpoint cannot be kept: {error}");
            self.ports.listen.hear(&Event::MemoryFailed { workload: self.key.clone(), reason });
        }
    }

    /// Ends every worker, whether or not the queue system answers. Returns how many there still are.
    async fn terminate_all(&self, hold: &Hold) -> Asked<usize> {
        let fleet = self.ports.platform.fleet(&hold.uid, &hold.order.workload, Freshness::Live).await?;
        for seen in &fleet {
            match seen.process {
                Process::Waiting | Process::BackOff { .. } => {
                    self.ports.platform.remove(&hold.uid, &seen.id).await?;
                }
                Process::Running => {
                    let grace = hold.order.workload.target.grace;
                    self.ports.platform.terminate(&hold.uid, &seen.id, grace).await?;
                }
                Process::Ending => {}
            }
        }
        if !fleet.is_empty() {
            self.ports.clock.sleep(POLL_EVERY).await;
        }
        Ok(fleet.len())
    }

    /// Tells of a failure, once a minute while it stays the same.
    async fn pause_after(&mut self, error: PortError) {
        let now = self.ports.clock.now();
        let told =
            self.failure.as_ref().is_some_and(|(known, at)| *known == error && now.since(*at) < TELL_EVERY);
        if !told {
            self.failure = Some((error.clone(), now));
        }
        self.ports.listen.hear(&Event::TickFailed { workload: self.key.clone(), error, tell: !told });
        self.ports.clock.sleep(AFTER_FAILURE).await;
    }
}
