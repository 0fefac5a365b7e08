//! What the loop asks the queue system beside tasks: reports, claims, leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use qscaler_protocol::lifecycle::Input;
use qscaler_protocol::report::{Answer, State};

use super::{Event, Run, Stay};
use crate::queue::Error;
use crate::worker::execute::{RETRY, until_answered};

/// Two reports are at least this far apart, unless the worker is leaving.
const REPORT_GAP: Duration = Duration::from_millis(100);
/// A worker that is done tries this long to say so before it leaves without.
const LAST_REPORT_MAX: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn listen_for_offers(&self) -> DropGuard {
        let (queue, events, over) =
            (Arc::clone(&self.queue), self.events.0.clone(), CancellationToken::new());
        let ended = over.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = queue.woken() => { let _ = events.send(Event::Woken); }
                    () = ended.cancelled() => return,
                }
            }
        });
        over.drop_guard()
    }

    pub(super) fn report_if_due(&mut self) {
        let Some((_, worker)) = &self.settings.identity else {
            // Nobody counts it, so nobody is told; a report that stays due would wake the loop for ever.
            self.report_due = false;
            return;
        };
        if !self.report_due || self.reporting || Instant::now() < self.report_from {
            return;
        }
        let report = self.tally.report(worker, &self.life);
        (self.report_due, self.reporting, self.report_from) = (false, true, Instant::now() + REPORT_GAP);
        let (queue, events) = (Arc::clone(&self.queue), self.events.0.clone());
        tokio::spawn(async move {
            let answer = queue.report(&report).await;
            let _ = events.send(Event::Answered { said: report.state, answer });
        });
    }

    pub(super) fn answered(&mut self, said: State, answer: Result<Answer, Error>) {
        self.reporting = false;
        match answer {
            Ok(answer) => {
                self.step(Input::Answered(answer));
                if said == State::Drained {
                    self.step(Input::Reported);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot report; working on");
                let too_long = self.ending_since.is_some_and(|since| since.elapsed() > LAST_REPORT_MAX);
                if too_long && self.stay == Stay::On {
                    self.step(Input::Reported);
                } else {
                    self.report_due = true;
                    self.report_from = Instant::now() + RETRY.1 / 4;
                }
            }
        }
    }

    pub(super) fn claim(&self) {
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

    pub(super) fn keep_leases(&self) {
        let leases: Vec<_> = self.held.values().cloned().collect();
        let (queue, events) = (Arc::clone(&self.queue), self.events.0.clone());
        let reap = Instant::now() >= self.reap_from;
        tokio::spawn(async move {
            let mut answered = true;
            for lease in leases {
                match queue.renew(&lease).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!(task = lease.task, "the lease was lost; the task may run twice");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot renew a lease; trying again");
                        answered = false;
                    }
                }
            }
            if reap && let Err(error) = queue.reap().await {
                tracing::debug!(%error, "cannot look for lost leases");
                answered = false;
            }
            let _ = events.send(Event::Kept(answered));
        });
    }
}
