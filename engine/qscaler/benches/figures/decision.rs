//! The time of a decision beside a plain interpretation of the same texts, measured by turns in one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use qscaler_core::decide::decide;

use crate::RULE;
use crate::goals::Goals;
use crate::life::{Life, policy};
use crate::plain::Plain;

/// Decisions in one round; rounds of both sides alternate, and the fastest of each counts.
const DECISIONS: usize = 2_000;
const ROUNDS: usize = 25;

pub(crate) fn measure(goals: &mut Goals) {
    let policy = policy(RULE);
    let mut life = Life::new(Arc::new(policy.clone()));
    life.live(600);
    let question = life.question();
    let plain = Plain::of(&policy, &question);
    assert_eq!(plain.desired(), decide(&policy, &question).desired, "both interpret the same texts");

    let (mut ours, mut theirs, mut tick) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        ours = ours.min(round(|| {
            black_box(decide(&policy, black_box(&question)));
        }));
        theirs = theirs.min(round(|| {
            black_box(plain.all());
        }));
        tick = tick.min(round(|| life.tick()));
    }
    goals.at_most("a decision of the default rule, in microseconds", ours, 25.0);
    goals.figure("plain interpretation of its texts, in microseconds", theirs);
    goals.at_most("decision / plain interpretation", ours / theirs, 1.3);
    goals.figure("signals, windows, decision and memory of a tick, in microseconds", tick);
}

/// Microseconds of one call.
fn round(mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    for _ in 0..DECISIONS {
        call();
    }
    begin.elapsed().as_secs_f64() * 1e6 / DECISIONS as f64
}
