//! How soon a task that comes gets a worker: from its push to the API server's yes to the pod of a QWorker, or
//! to the greater number of replicas of a Deployment.
//!
//! A real cluster, a real Redis, the program itself. `testdata/cluster/up` starts a cluster;
//! `QSCALER_CLUSTER` names its folder and `KUBECONFIG` its administrator, as for the tests.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod audit;
#[path = "../../tests/engine/fixture.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod fixture;
#[path = "../figures/goals.rs"]
mod goals;
mod site;

use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use fixture::seed;
use goals::Goals;
use site::{MadeBy, Site};

/// Each step is one task.
const STEPS: usize = 100;
/// So many steps of one QWorker or Deployment; the next ones begin with another, from zero.
const ROUND: usize = 20;
/// The pause before a step is anything up to this, which is longer than the engine's period.
const PAUSE_MAX_MS: u64 = 1_000;
/// At most for 95 of 100 tasks, in seconds.
const GOAL: f64 = 1.0;

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os("QSCALER_CLUSTER").is_none() {
        println!("not measured: QSCALER_CLUSTER names no cluster");
        return ExitCode::FAILURE;
    }
    let mut site = Site::open().await;
    let mut random = seed() | 1;
    let mut goals = Goals::default();
    for (by, what) in [(MadeBy::QWorker, "the pod"), (MadeBy::Deployment, "the scale")] {
        let seconds = measure(&mut site, by, &mut random).await;
        let part =
            |of: f64| seconds[((seconds.len() as f64 * of).ceil() as usize - 1).min(seconds.len() - 1)];
        let name = |of: &str| format!("from a push to {what} accepted, {of} of {STEPS}, in seconds");
        goals.figure(&name("p50"), part(0.5));
        goals.at_most(&name("p95"), part(0.95), GOAL);
        goals.figure(&name("the longest"), part(1.0));
    }
    site.close().await;
    goals.report()
}

/// Seconds, the fewest first.
async fn measure(site: &mut Site, by: MadeBy, random: &mut u64) -> Vec<f64> {
    let mut seconds = vec![];
    for round in 0..STEPS / ROUND {
        let name = format!("{}-{round}", if by == MadeBy::QWorker { "qworker" } else { "deployment" });
        site.create(by, &name, ROUND).await;
        for step in 1..=ROUND {
            tokio::time::sleep(Duration::from_millis(next(random) % PAUSE_MAX_MS)).await;
            let pushed = Timestamp::now();
            site.push(&name, step);
            // No worker goes, so each is the next one.
            let accepted = match by {
                MadeBy::QWorker => site.audit.created(&format!("{name}-{step}")).await,
                MadeBy::Deployment => site.audit.scaled(&name, step).await,
            };
            seconds.push(accepted.duration_since(pushed).as_secs_f64());
        }
        site.delete(by, &name).await;
    }
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// Xorshift: it need be no better.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
