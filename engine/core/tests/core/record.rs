//! The record: a line asked again gives the same decision, bit by bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use qscaler_core::decide::{Question, decide};
use qscaler_core::memory::{Done, Memory};
use qscaler_core::record::{Line, Recorder, Unrepeatable, replay, used_signals};
use qscaler_core::rule::Policy;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;

use crate::world::{load, policy, question};

fn shipped(name: &str) -> Policy {
    let path = format!("{}/../../rules/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let update = load(vec![crate::world::file(name, &text)]);
    let rule = update.catalog.rules().next().map(Arc::clone).unwrap();
    Policy::bind(rule, &BTreeMap::new()).unwrap()
}

/// Signals that walk, fail and go missing.
fn walk(random: &mut u64, now: Time) -> BTreeMap<String, Sample> {
    let mut next = || {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let mut signals = BTreeMap::new();
    for name in [
        "queue.length",
        "queue.inflight",
        "queue.arrivals",
        "tasks.seconds.mean",
        "workers.slots",
        "workers.startSeconds",
    ] {
        let (kind, value) = (next(), next() * 40.0 / 3.0);
        let sample = match kind {
            kind if kind < 0.03 => Sample::Missing,
            kind if kind < 0.06 => Sample::Error { reason: "down".into(), last: Some((value, now)) },
            _ => Sample::measured(value, now),
        };
        signals.insert(name.to_owned(), sample);
    }
    signals
}

#[test]
fn a_line_that_is_asked_again_gives_the_same_decision_bit_by_bit() {
    for policy in [shipped("rate-and-backlog"), shipped("scaling-factor")] {
        let (mut memory, mut random, mut current) = (Memory::default(), 7, 3);
        let mut lines = 0;
        for step in 0..2_000 {
            let now = Time(1_700_000_000_123 + step * 500);
            let mut signals = walk(&mut random, now);
            signals.insert("workers.current".into(), Sample::measured(f64::from(current), now));
            memory.resume(&policy, current, now);
            memory.feed(&policy, &signals, now);
            let used = used_signals(&policy.rule).filter_map(|name| signals.remove_entry(name)).collect();
            let asked = Question {
                at: now,
                wall: now,
                current,
                signals: used,
                windows: memory.read(&policy, now),
                history: memory.history.clone(),
                ..Question::default()
            };
            let decision = decide(&policy, &asked);
            let line = Line::new("shop/mail", &policy, memory.hash(), (&asked, &decision), (true, vec![]));
            let text = serde_json::to_string(&line).unwrap();
            let back: Line = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), text, "a line is read back as it was written");
            assert_eq!(replay(&back, &policy.rule.document), Ok(decision.clone()));
            memory.remember(&policy, &decision, Done { added: 1, removed: 0 }, now);
            current = decision.replicas;
            lines += 1;
        }
        assert_eq!(lines, 2_000);
    }
}

#[test]
fn only_the_rule_that_decided_can_be_asked_again() {
    let (one, other) = (policy("replicas: {desired: 1, max: 5}"), policy("replicas: {desired: 2, max: 5}"));
    let asked = question(0, &[]);
    let decision = decide(&one, &asked);
    let line = Line::new("shop/mail", &one, String::new(), (&asked, &decision), (true, vec![]));
    assert_eq!(replay(&line, &other.rule.document), Err(Unrepeatable::OtherRule(one.rule.hash.clone())));
    let later = Line { format: 9, ..line };
    assert_eq!(replay(&later, &one.rule.document), Err(Unrepeatable::FromTheFuture(9)));
}

#[test]
fn a_line_is_written_for_every_change_and_for_the_heartbeat() {
    let policy = policy("replicas: {desired: queue.length, max: 50}");
    let mut recorder = Recorder::default();
    let mut written = vec![];
    for second in 0..30 {
        let length = if second < 12 { 3.0 } else { 4.0 };
        let at = Time(1_000_000 + second * 1000);
        let asked = Question { at, ..question(3, &[("queue.length", length)]) };
        let decision = decide(&policy, &asked);
        if recorder.wants(&policy, &asked, &decision, &[]) {
            written.push(second);
        }
    }
    assert_eq!(written, [0, 10, 12, 22]);
}
