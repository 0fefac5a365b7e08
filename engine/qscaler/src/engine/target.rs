//! What there is to say of a target that something else makes workers of.

use std::time::Duration;

use super::keeper::{Hold, Keeper};
use super::observe::Observed;
use crate::event::{Event, TargetState};

/// Who types a grace period is told a round number of seconds.
const ROUND: u64 = 30;

impl Keeper {
    /// Tells how things are with the target, when that has changed.
    pub(super) fn tell_target(&self, hold: &mut Hold, observed: &Observed) {
        let Some(found) = &observed.found else { return };
        let overridden = observed.ledger.is_overridden(observed.now).then(|| {
            let by = found.scale.written_by.as_deref().unwrap_or("somebody");
            format!(
                "`{by}` has changed replicas twice within an hour after this engine did: nobody is asked to \
                 leave for now; remove `replicas` from what it applies, or set `mode: observe` here"
            )
        });
        let target = TargetState {
            selector: found.selector.clone(),
            conflict: found.conflict.clone(),
            overridden,
            lacks: found.lacks.clone(),
            grace_too_short: found
                .grace
                .and_then(|grace| grace_too_short(grace, hold.memory.tasks.quantile(0.99, 0.0))),
        };
        if hold.target.as_ref() != Some(&target) {
            hold.target = Some(target.clone());
            self.ports.listen.hear(&Event::Target { workload: self.key.clone(), target: Box::new(target) });
        }
    }
}

/// Says which grace period to type where 99 of 100 tasks take up to `seconds`.
fn grace_too_short(grace: Duration, seconds: f64) -> Option<String> {
    if seconds <= grace.as_secs_f64() {
        return None;
    }
    let enough = ((seconds * 1.5) as u64).div_ceil(ROUND) * ROUND;
    Some(format!(
        "one task in a hundred takes more than {seconds:.0} s, and a rollout of the target kills its pods {} s \
         after SIGTERM: write `terminationGracePeriodSeconds: {enough}` in its pod template",
        grace.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_that_is_too_short_says_what_to_type() {
        assert_eq!(grace_too_short(Duration::from_secs(30), 29.0), None);
        let told = grace_too_short(Duration::from_secs(30), 45.0).unwrap();
        assert!(told.contains("`terminationGracePeriodSeconds: 90`"), "{told}");
    }
}
