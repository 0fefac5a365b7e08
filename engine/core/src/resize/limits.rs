//! Which limit a container had when it was killed.

use std::collections::BTreeMap;

use qscaler_protocol::name::WorkerId;

use crate::fleet::{Inside, Seen};
use crate::time::Time;

/// What bounds the memory of each container, as far as it was seen to run so: a container that is seen after it
/// was killed may have been given more meanwhile, and was not killed for want of that.
#[derive(Clone, Debug, Default)]
pub struct Limits(BTreeMap<(WorkerId, String), Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// With this it ran when it was seen last.
    ran: Option<f64>,
    /// Its last kill, and what it had then.
    kill: Option<(Time, Option<f64>)>,
}

impl Limits {
    /// Takes in what is seen now.
    pub(super) fn note(&mut self, fleet: &[Seen]) {
        let mut known = BTreeMap::new();
        for (seen, inside) in fleet.iter().flat_map(|seen| seen.containers.iter().map(move |it| (seen, it))) {
            let key = (seen.id.clone(), inside.name.clone());
            let mut of = self.0.get(&key).copied().unwrap_or_default();
            if let Some(kill) = inside.kill.filter(|kill| of.kill.is_none_or(|(at, _)| at != kill.at)) {
                let limit = match (of.ran, kill.limit) {
                    (Some(ran), Some(now)) => Some(now.min(ran)),
                    (_, now) => now,
                };
                of.kill = Some((kill.at, limit));
            }
            let memory = inside.current().memory;
            of.ran = if inside.since.is_some() { memory.limit.or(memory.request) } else { of.ran };
            known.insert(key, of);
        }
        self.0 = known;
    }

    /// What a container had at its last kill.
    pub(super) fn at_kill(&self, seen: &Seen, inside: &Inside) -> Option<f64> {
        self.0.get(&(seen.id.clone(), inside.name.clone()))?.kill?.1
    }
}
