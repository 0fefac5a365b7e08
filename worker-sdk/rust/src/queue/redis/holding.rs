//! What a worker holds on the Redis server, and how it lets go of it.

use std::sync::atomic::Ordering;

use redis::ScriptInvocation;
use tokio::time::Instant;

use qscaler_protocol::redis::QueueKeys;

use super::scripts::Taken;
use super::{RedisQueue, milliseconds, no_answer};
use crate::queue::Error;
use crate::task::{Lease, Leased, Task};

/// A task that this worker holds.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) queue: String,
    pub(super) payload: Vec<u8>,
    /// The key of its attempts, when it has failed before.
    failed: Option<String>,
    /// The place among the worker's slots that it takes.
    slot: usize,
    /// The turn that was to end it, when its answer was lost.
    lost_turn: Option<u64>,
}

impl RedisQueue {
    pub(super) fn processing(&self, keys: &QueueKeys) -> String {
        format!("{}{}", keys.processing, self.worker)
    }

    /// Renews the hold on queues. `false`: one had been given up.
    pub(super) async fn hold(&self, queues: &[QueueKeys]) -> Result<bool, Error> {
        let mut script = self.scripts.hold.prepare_invoke();
        for keys in queues {
            script.key(&keys.leases);
        }
        script.arg(self.worker.as_str()).arg(milliseconds(self.settings.lease));
        self.server.run::<i64>(&script).await.map(|kept| kept == 1)
    }

    /// A worker holds before it fetches: what comes to its list is never without a holder.
    pub(super) async fn hold_before_fetch(&self) -> Result<(), Error> {
        let mut since = self.held_since.lock().await;
        if since.is_none_or(|since| since.elapsed() > self.settings.lease / 3) {
            self.hold(&self.keys).await?;
            *since = Some(Instant::now());
        }
        Ok(())
    }

    /// Notes that this worker holds a task that it has taken.
    pub(super) async fn lease(&self, (place, payload, failed, id): Taken) -> Result<Leased, Error> {
        let queue = self.keys.get(place).ok_or_else(no_answer)?.queue.clone();
        let token = format!("{}#{}", self.worker, self.next_number());
        let mut held = self.held.lock().await;
        let is_free = |slot: &usize| held.values().all(|held| held.slot != *slot);
        let slot = (0..=held.len()).find(is_free).unwrap_or_default();
        let holding = Held {
            queue: queue.clone(),
            payload: payload.clone(),
            failed: (failed > 0).then(|| id.clone()),
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

    pub(super) fn turns(&self) -> String {
        let turns = self.keys.first().map_or("", |keys| &keys.turns);
        format!("{turns}{}:{}", self.worker, self.life)
    }

    /// Gives up a turn whose answer was lost. Whether it was done; if not, it never will be.
    pub(super) async fn fence(&self, slot: &str, turn: u64) -> Result<bool, Error> {
        let mut script = self.scripts.fence.key(self.turns());
        self.server.run::<i64>(script.arg(slot).arg(turn)).await.map(|done| done == 1)
    }

    /// Runs a script on a task that is held; its result is whether it still was.
    pub(super) async fn on_held(
        &self,
        lease: &Lease,
        script: &mut ScriptInvocation<'_>,
        more: &[&str],
    ) -> Result<bool, Error> {
        let held = self.held.lock().await.get(&lease.token).cloned();
        let Some(held) = held else { return Ok(false) };
        if let Some(turn) = held.lost_turn
            && self.fence(&held.slot.to_string(), turn).await?
        {
            // It is done, and the task that came in its place may look like it.
            self.held.lock().await.remove(&lease.token);
            *self.unsure.write().await = true;
            return Ok(true);
        }
        script.arg(held.payload);
        for argument in more {
            script.arg(*argument);
        }
        let kept: i64 = self.server.run(script).await?;
        self.held.lock().await.remove(&lease.token);
        Ok(kept == 1)
    }

    /// Ends one task and takes the next in its slot. Not while there may be a task in this worker's list
    /// that it does not know of: that one comes first.
    pub(super) async fn turn(&self, lease: &Lease) -> Result<Option<(bool, Option<Leased>)>, Error> {
        let unsure = self.unsure.read().await;
        let held = self.held.lock().await.get(&lease.token).cloned();
        let (Some(held), false) = (held, *unsure) else { return Ok(None) };
        self.hold_before_fetch().await?;
        let number = self.next_number();
        let of = QueueKeys::of(&lease.queue);
        let mut script = self.scripts.turn.key(self.turns());
        script.key(self.processing(&of)).key(&of.counters).key(&of.attempts);
        self.add_queues(&mut script);
        script.arg(held.slot).arg(number).arg(held.payload).arg(held.failed.unwrap_or_default());
        match self.server.run::<(i64, Option<Taken>)>(&script).await {
            Ok((kept, taken)) => {
                self.held.lock().await.remove(&lease.token);
                let next = match taken {
                    Some(taken) => Some(self.lease(taken).await?),
                    None => None,
                };
                Ok(Some((kept == 1, next)))
            }
            Err(error) => {
                if let Some(held) = self.held.lock().await.get_mut(&lease.token) {
                    held.lost_turn = Some(number);
                }
                drop(unsure);
                *self.unsure.write().await = true;
                Err(error)
            }
        }
    }

    /// The keys of all queues, as `take.lua` and `turn.lua` want them.
    pub(super) fn add_queues(&self, script: &mut ScriptInvocation<'_>) {
        for keys in &self.keys {
            script.key(&keys.queue).key(self.processing(keys)).key(&keys.attempts);
        }
    }
}
