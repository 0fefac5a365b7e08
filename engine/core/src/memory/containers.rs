//! What is remembered of the containers of a workload.

use std::collections::BTreeMap;

use super::Memory;
use crate::decide::Decision;
use crate::rule::Policy;
use crate::signal::Sample;
use crate::time::Time;
use crate::vertical::{Container, Question, Sizes};

impl Memory {
    /// Takes in what was seen of the containers. `signals` are the workload's own.
    pub fn feed_containers(
        &mut self,
        policy: &Policy,
        containers: &[Container],
        signals: &BTreeMap<String, Sample>,
        now: Time,
    ) {
        let _ = (policy, containers, signals, now);
    }

    /// Everything that the sizes of the containers rest on. `decision` is the tick's, for the rule's own
    /// values; the wall's time stands in `wall`.
    pub fn ask_sizes(
        &self,
        policy: &Policy,
        containers: &[Container],
        (signals, decision): (&BTreeMap<String, Sample>, &Decision),
        (now, wall): (Time, Time),
    ) -> Question {
        let _ = (policy, containers, signals, decision);
        Question { at: now, wall, ..Question::default() }
    }

    /// Keeps what was answered: it holds until something else is known.
    pub fn remember_sizes(&mut self, sizes: &Sizes) {
        let _ = sizes;
    }
}
