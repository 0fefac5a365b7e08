//! Memories: kept by what they are, stored with a checksum, read back bit by bit.

use std::collections::BTreeMap;

use qscaler_core::decide::{Because, Question, decide};
use qscaler_core::memory::{Done, Memory, Unreadable, load, store};
use qscaler_core::rule::Policy;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;

use crate::world::{policy, question};

const WINDOWS: &str =
    "let: {mean: \"avg_over_time(queue.length, '1m')\", peak: \"max_over_time(queue.length, '10m')\"}
replicas: {desired: mean + peak, max: 50}";

/// A memory that was fed the length of a queue every second.
fn lived(policy: &Policy, seconds: i64) -> (Memory, Time) {
    let mut memory = Memory::default();
    let mut now = Time(5_000_000);
    for step in 0..seconds {
        now = Time(5_000_000 + step * 1000);
        let length =
            BTreeMap::from([("queue.length".to_owned(), Sample::measured((step % 7) as f64 / 3.0, now))]);
        memory.resume(policy, 2, now);
        memory.feed(policy, &length, now);
        let asked = Question {
            at: now,
            windows: memory.read(policy, now),
            history: memory.history.clone(),
            ..question(2, &[])
        };
        let decision = decide(policy, &asked);
        memory.remember(policy, &decision, Done::default(), now);
    }
    (memory, now)
}

#[test]
fn a_checkpoint_comes_back_bit_by_bit() {
    let policy = policy(WINDOWS);
    let (memory, now) = lived(&policy, 300);
    let back = load(&store(&memory, "a test")).unwrap();
    assert_eq!(back.read(&policy, now), memory.read(&policy, now));
    assert_eq!(back.hash(), memory.hash());
}

#[test]
fn a_checkpoint_that_was_damaged_anywhere_is_noticed() {
    let text = store(&lived(&policy(WINDOWS), 40).0, "a test");
    let payload = text.find("payload").unwrap();
    for at in (payload + 10..text.len() - 2).step_by(7) {
        let mut damaged = text.clone().into_bytes();
        damaged[at] = if damaged[at] == b'3' { b'4' } else { b'3' };
        let damaged = String::from_utf8(damaged).unwrap();
        assert!(damaged == text || matches!(load(&damaged), Err(Unreadable::Damaged(_))), "byte {at}");
    }
    for cut in (0..text.len()).step_by(11) {
        assert!(matches!(load(&text[..cut]), Err(Unreadable::Damaged(_))), "cut at {cut}");
    }
}

#[test]
fn a_checkpoint_of_a_later_version_is_told_from_a_damaged_one() {
    let text = store(&Memory::default(), "a test").replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(load(&text), Err(Unreadable::FromTheFuture(2)));
}

/// Every format that was ever released stays readable: `testdata/memory/1.json` is never rewritten.
#[test]
fn the_first_format_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/memory/1.json");
    let policy = policy(WINDOWS);
    if !std::path::Path::new(path).exists() && std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, store(&lived(&policy, 300).0, "qscaler 0.1.0") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let memory = load(text.trim_end()).unwrap();
    let values: Vec<_> = memory.read(&policy, Time(5_299_000)).into_values().collect();
    assert_eq!(values, [Some(1.011_111_111_111_111), Some(2.0)]);
    assert_eq!(memory.history.recommendations.len(), 5);
}

#[test]
fn an_edited_rule_finds_its_windows_again() {
    let before = policy(WINDOWS);
    let (mut memory, now) = lived(&before, 300);
    let after = policy(
        "let: {other: \"max_over_time(queue.length, '10m') * 2\"}\nreplicas: {desired: other, max: 50}",
    );
    memory.feed(&after, &BTreeMap::new(), now);
    assert_eq!(memory.read(&after, now).into_values().collect::<Vec<_>>(), [Some(2.0)]);
    let back = memory.read(&before, now);
    assert!(
        back.values().all(Option::is_some),
        "what the edited rule does not use is kept while it is young: {back:?}"
    );
    memory.feed(&after, &BTreeMap::new(), Time(now.0 + 11 * 60_000));
    assert_eq!(memory.windows(), 1, "and forgotten when it is over");
}

#[test]
fn after_a_start_nothing_is_lowered_before_the_window_was_seen_again() {
    let policy = policy("replicas: {desired: queue.length, max: 50}");
    for mut memory in [Memory::default(), load(&store(&lived(&policy, 100).0, "a test")).unwrap()] {
        let start = Time(9_000_000);
        let mut lowered = None;
        for second in 0..60 {
            let now = Time(start.0 + second * 1000);
            memory.resume(&policy, 6, now);
            let asked = question(6, &[("queue.length", 1.0)]);
            let decision = decide(&policy, &Question { at: now, history: memory.history.clone(), ..asked });
            memory.remember(&policy, &decision, Done::default(), now);
            if decision.replicas < 6 {
                lowered = Some(second);
                break;
            }
            assert_eq!(decision.because, Because::Stabilization);
        }
        assert_eq!(lowered, Some(30));
    }
}
