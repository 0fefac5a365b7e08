//! The engine: one task per source that polls it, one task per workload that keeps it.
//!
//! A keeper's tick is observe, decide, plan, apply, remember (`engine/tick.rs`). Keepers share
//! polls, never locks: a source or workload that is slow delays nobody else.

mod interrupted;
mod keeper;
mod observe;
mod polls;
mod sizes;
mod target;
mod tick;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use qscaler_core::catalog::Assignment;
use qscaler_core::rule::Policy;
use qscaler_core::workload::Workload;

use crate::event::Event;
use crate::ports::Ports;

use keeper::Keeper;
use polls::Polls;

/// How the engine should treat a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Look after it.
    #[default]
    Keep,
    /// Let its workers finish what they hold and leave, then let it go.
    Drain,
    /// Let it go at once; its workers work on, and an engine that starts later takes them over.
    Leave,
    /// End its workers by SIGTERM, then let it go.
    Terminate,
}

/// What a keeper is told.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) workload: Arc<Workload>,
    /// None while it has no rule.
    pub(crate) policy: Option<Policy>,
    pub(crate) mode: Mode,
}

/// An engine with its keepers.
pub struct Engine {
    ports: Ports,
    polls: Polls,
    keepers: BTreeMap<String, watch::Sender<Order>>,
}

impl Engine {
    /// An engine that looks after nothing yet.
    pub fn new(ports: Ports) -> Self {
        let polls = Polls::new(ports.clone());
        Self { ports, polls, keepers: BTreeMap::new() }
    }

    /// Looks after exactly these workloads from now on, each in its mode. One that is missing is
    /// treated as `missing` says.
    pub fn set(&mut self, assignments: Vec<(Assignment, Mode)>, missing: Mode) {
        self.keepers.retain(|_, keeper| !keeper.is_closed());
        for (key, keeper) in &self.keepers {
            if assignments.iter().all(|(assignment, _)| assignment.workload.key() != *key) {
                keeper.send_modify(|order| order.mode = order.mode.max(missing));
            }
        }
        for (Assignment { workload, policy, .. }, mode) in assignments {
            let key = workload.key();
            let order = Order { workload, policy, mode };
            let had_rule = self.keepers.get(&key).is_none_or(|keeper| keeper.borrow().policy.is_some());
            if order.policy.is_none() && had_rule {
                self.ports.listen.hear(&Event::NoRule { workload: key.clone() });
            }
            match self.keepers.get(&key) {
                Some(keeper) => {
                    keeper.send_replace(order);
                }
                None => {
                    self.ports.listen.hear(&Event::Adopted { workload: key.clone() });
                    let (sender, receiver) = watch::channel(order);
                    let keeper = Keeper::new(self.ports.clone(), self.polls.clone(), receiver);
                    self.ports.spawn.spawn(Box::pin(keeper.run()));
                    self.keepers.insert(key, sender);
                }
            }
        }
    }

    /// Treats all workloads like this from now on; a milder mode than the present one changes nothing.
    pub fn turn(&self, mode: Mode) {
        for keeper in self.keepers.values() {
            keeper.send_modify(|order| order.mode = order.mode.max(mode));
        }
    }

    /// Waits until every workload was let go.
    pub async fn all_let_go(&self) {
        for keeper in self.keepers.values() {
            keeper.closed().await;
        }
    }
}
