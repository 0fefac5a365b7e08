//! What a worker holds on the Redis server, and how it lets go of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::ScriptInvocation;
use tokio::time::Instant;

use qscaler_protocol::name::WorkerId;

use super::scripts::Taken;
use super::{OwnQueue, RedisQueue, milliseconds, no_answer};
use crate::queue::Error;
use crate::task::{Lease, Leased, Task};

/// What a worker held when it ended without a word is taken again after so long, or after its lease, when it starts
/// again under its name.
const AFTER_ITS_WORKER: Duration = Duration::from_secs(5);

/// A task that this worker holds.
pub(super) struct Held {
    /// The place of its queue among the worker's.
    pub(super) place: usize,
    pub(super) payload: Vec<u8>,
    /// The key of its attempts when it has failed before, else empty.
    failed: String,
    /// The place among the worker's slots that it takes.
    slot: usize,
    /// The turn that was to end it, when its answer was lost.
    lost_turn: Option<u64>,
}

impl RedisQueue {
    /// The queue of a lease. None: it is no lease of this worker's.
    pub(super) fn own(&self, lease: &Lease) -> Option<&OwnQueue> {
        self.queues.iter().find(|of| of.keys.queue == lease.queue)
    }

    /// What was asked may have been done, or be done only later.
    pub(super) async fn lost_answer(&self) {
        *self.unsure.write().await = true;
        // A server that has lost its data has lost this worker's hold, too.
        *self.held_since.lock().await = None;
    }

    /// Renews the hold on queues. `false`: one had been given up.
    pub(super) async fn hold(&self, queues: &[OwnQueue]) -> Result<bool, Error> {
        let mut script = self.scripts.hold.prepare_invoke();
        for of in queues {
            script.key(&of.keys.leases);
        }
        script.arg(self.worker.as_str()).arg(milliseconds(self.settings.lease));
        self.server.run::<i64>(&script).await.map(|kept| kept == 1)
    }

    /// A worker holds before it fetches: what comes to its list is never without a holder.
    pub(super) async fn hold_before_fetch(&self) -> Result<(), Error> {
        let mut since = self.held_since.lock().await;
        if since.is_none_or(|since| since.elapsed() > self.settings.lease / 3) {
            self.hold(&self.queues).await?;
            *since = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes tasks from holders that have given no sign of life, and from this one, where it is named.
    pub(super) async fn reap_from(&self, also: Option<&WorkerId>) -> Result<usize, Error> {
        let mut back = 0;
        for OwnQueue { keys, .. } in &self.queues {
            let mut script = self.scripts.reap.key(&keys.leases);
            script.key(&keys.queue).key(&keys.attempts).key(&keys.delayed).key(&keys.counters);
            script.key(&keys.dead).key(&keys.errors).key(&keys.interrupted);
            script.arg(&keys.processing).arg(self.settings.attempts_max);
            if let Some(also) = also {
                script.arg(also.as_str()).arg(milliseconds(self.settings.lease.min(AFTER_ITS_WORKER)));
            }
            back += self.server.run::<usize>(&script).await?;
        }
        Ok(back)
    }

    /// Notes that this worker holds a task that it has taken.
    pub(super) async fn lease(&self, (place, payload, failed, id): Taken) -> Result<Leased, Error> {
        let queue = self.queues.get(place).ok_or_else(no_answer)?.keys.queue.clone();
        let token = format!("{}#{}", self.worker, self.next_number());
        let mut held = self.held.lock().await;
        let is_free = |slot: &usize| held.values().all(|held| held.slot != *slot);
        let slot = (0..=held.len()).find(is_free).unwrap_or_default();
        let holding = Held {
            place,
            payload: payload.clone(),
            failed: if failed > 0 { id.clone() } else { String::new() },
            slot,
            lost_turn: None,
        };
        held.insert(token.clone(), holding);
        drop(held);
        let lease = Lease { queue: queue.clone(), task: id.clone(), token };
        Ok(Leased { task: Task { id, queue, payload, attempt: failed + 1 }, lease })
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives up a turn whose answer was lost. Whether it was done; if not, it never will be.
    pub(super) async fn fence(&self, slot: &str, turn: u64) -> Result<bool, Error> {
        let mut script = self.scripts.fence.key(&self.turns);
        self.server.run::<i64>(script.arg(slot).arg(turn)).await.map(|done| done == 1)
    }

    /// Runs a script on a task that is held; its result is whether it still was.
    pub(super) async fn on_held(
        &self,
        lease: &Lease,
        script: &mut ScriptInvocation<'_>,
        more: &[&str],
    ) -> Result<bool, Error> {
        let unsure = self.unsure.read().await;
        if self.was_turned(lease).await? {
            drop(unsure);
            return Ok(self.done_before().await);
        }
        {
            let held = self.held.lock().await;
            let Some(held) = held.get(&lease.token) else { return Ok(false) };
            script.arg(&held.payload);
        }
        for argument in more {
            script.arg(*argument);
        }
        let kept: i64 = self.server.run(script).await?;
        self.held.lock().await.remove(&lease.token);
        Ok(kept == 1)
    }

    /// Whether a turn whose answer was lost has ended this task. If not, it never will.
    async fn was_turned(&self, lease: &Lease) -> Result<bool, Error> {
        let lost =
            self.held.lock().await.get(&lease.token).and_then(|held| Some((held.slot, held.lost_turn?)));
        let Some((slot, turn)) = lost else { return Ok(false) };
        let done = self.fence(&slot.to_string(), turn).await?;
        if done {
            self.held.lock().await.remove(&lease.token);
        }
        Ok(done)
    }

    /// A task was ended by a turn whose answer was lost: one that looks like it was hidden by it, perhaps.
    async fn done_before(&self) -> bool {
        *self.unsure.write().await = true;
        true
    }

    /// Ends one task: by a turn that takes no other, because a repeated acknowledgement of a task that is
    /// ended would end one that looks like it.
    pub(super) async fn end(&self, lease: &Lease) -> Result<bool, Error> {
        let unsure = self.unsure.read().await;
        if self.was_turned(lease).await? {
            drop(unsure);
            return Ok(self.done_before().await);
        }
        self.end_and_take(lease, &[]).await.map(|(kept, _)| kept)
    }

    /// Ends one task and takes the next in its slot. Not while there may be a task in this worker's list
    /// that it does not know of: that one comes first.
    pub(super) async fn turn(&self, lease: &Lease) -> Result<Option<(bool, Option<Leased>)>, Error> {
        let unsure = self.unsure.read().await;
        let is_lost = |held: &Held| held.lost_turn.is_some();
        if *unsure || self.held.lock().await.get(&lease.token).is_none_or(is_lost) {
            return Ok(None);
        }
        self.hold_before_fetch().await?;
        match self.end_and_take(lease, &self.queues).await {
            Ok((kept, Some(taken))) => Ok(Some((kept, Some(self.lease(taken).await?)))),
            Ok((kept, None)) => Ok(Some((kept, None))),
            Err(error) => {
                drop(unsure);
                self.lost_answer().await;
                Err(error)
            }
        }
    }

    /// One turn: a task ends, and the next is taken from the first of these queues that has one.
    async fn end_and_take(&self, lease: &Lease, queues: &[OwnQueue]) -> Result<(bool, Option<Taken>), Error> {
        let number = self.next_number();
        let mut script = self.scripts.turn.key(&self.turns);
        {
            let held = self.held.lock().await;
            let Some(held) = held.get(&lease.token) else { return Ok((false, None)) };
            let OwnQueue { keys, processing } = self.queues.get(held.place).ok_or_else(no_answer)?;
            script.key(processing).key(&keys.counters).key(&keys.attempts);
            add_queues(&mut script, queues);
            script.arg(held.slot).arg(number).arg(&held.payload).arg(&held.failed);
        }
        let answer = self.server.run::<(i64, Option<Taken>)>(&script).await;
        let mut held = self.held.lock().await;
        if answer.is_ok() {
            held.remove(&lease.token);
        } else if let Some(held) = held.get_mut(&lease.token) {
            held.lost_turn = Some(number);
        }
        answer.map(|(kept, taken)| (kept == 1, taken))
    }
}

/// The keys of queues, as `take.lua` and `turn.lua` want them.
pub(super) fn add_queues(script: &mut ScriptInvocation<'_>, queues: &[OwnQueue]) {
    for OwnQueue { keys, processing } in queues {
        script.key(&keys.queue).key(processing).key(&keys.attempts);
    }
}
