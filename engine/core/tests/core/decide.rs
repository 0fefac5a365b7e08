//! From a question to a number and its reason.

use std::time::Duration;

use qscaler_core::decide::behavior::{Change, History, Recommendation};
use qscaler_core::decide::{Because, Question, decide};
use qscaler_core::document::workload::Pause;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;

use crate::world::{policy, policy_with, question};

const LENGTH: &str = "replicas: {desired: queue.length, max: 50}";

fn recommended(seconds_ago: i64, replicas: u32) -> History {
    let to = Time(1_000_000 - seconds_ago * 1000);
    History { recommendations: [Recommendation { to, replicas }].into(), ..History::default() }
}

#[test]
fn a_fraction_is_rounded_up_and_the_last_bits_of_a_double_are_not() {
    for (length, replicas) in [(0.0, 0), (0.1, 1), (1.0, 1), (3.000_000_000_1, 3), (3.000_001, 4), (-4.0, 0)]
    {
        let decision = decide(&policy(LENGTH), &question(0, &[("queue.length", length)]));
        assert_eq!((decision.replicas, decision.because), (replicas, Because::Target), "{length}");
    }
}

#[test]
fn the_maximum_holds_at_once_also_where_the_minimum_is_above_it() {
    let decision = decide(&policy(LENGTH), &question(0, &[("queue.length", 5e9)]));
    assert_eq!((decision.replicas, decision.because), (50, Because::Max));
    let crossed = policy_with(
        "params: {least: 1}\nreplicas: {desired: queue.length, min: params.least, max: 5}",
        &[("least", 9.into())],
    );
    let decision = decide(&crossed, &question(0, &[("queue.length", 2.0)]));
    assert_eq!((decision.replicas, decision.because), (5, Because::Max));
    assert_eq!(decision.problems.len(), 1);
}

#[test]
fn out_of_bounds_is_clamped_without_regard_to_policies_and_windows() {
    let slow = policy(
        "replicas: {desired: queue.length, min: 4, max: 8}
behavior:
  scaleUp: {policies: [{type: Pods, value: 1, period: 60s}]}
  scaleDown: {stabilizationWindow: 10m, policies: [{type: Pods, value: 1, period: 60s}]}",
    );
    assert_eq!(decide(&slow, &question(0, &[("queue.length", 6.0)])).replicas, 4);
    assert_eq!(decide(&slow, &question(20, &[("queue.length", 20.0)])).replicas, 8);
}

#[test]
fn within_the_tolerance_nothing_changes() {
    let tolerant = policy(
        "replicas: {desired: queue.length, max: 50}
behavior: {scaleUp: {tolerance: 0.1}, scaleDown: {tolerance: 0.2, stabilizationWindow: 0s}}",
    );
    for (length, replicas, because) in [
        (11.0, 10, Because::Tolerance),
        (11.2, 12, Because::Target),
        (8.0, 10, Because::Tolerance),
        (7.9, 8, Because::Target),
    ] {
        let decision = decide(&tolerant, &question(10, &[("queue.length", length)]));
        assert_eq!((decision.replicas, decision.because), (replicas, because), "{length}");
    }
    let zero = decide(&tolerant, &question(0, &[("queue.length", 1.0)]));
    assert_eq!(zero.replicas, 1, "at zero there is nothing to be near to");
}

#[test]
fn a_window_holds_what_was_asked_for_and_says_for_how_long() {
    let asked = Question { history: recommended(10, 8), ..question(8, &[("queue.length", 3.0)]) };
    let decision = decide(&policy(LENGTH), &asked);
    assert_eq!((decision.replicas, decision.because), (8, Because::Stabilization));
    assert!(decision.reason.contains("another 20s"), "{}", decision.reason);
    let later = Question { history: recommended(30, 8), ..asked };
    assert_eq!(decide(&policy(LENGTH), &later).replicas, 3);
}

#[test]
fn the_history_stays_short_and_says_the_same_however_the_number_wavers() {
    use qscaler_core::decide::behavior::stabilize;
    let mut short = History::default();
    let mut whole = History::default();
    let mut random = 1_u64;
    for step in 0..5_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, asked) = (Time(step * 500), (random >> 33) as u32 % 40);
        short.recommend(at, asked, Duration::from_secs(600));
        whole.recommendations.push_back(Recommendation { to: at, replicas: asked });
        for windows in [(0, 30), (10, 60), (300, 300)] {
            let windows = (Duration::from_secs(windows.0), Duration::from_secs(windows.1));
            let (a, b) =
                (stabilize(&short, at, 12, asked, windows), stabilize(&whole, at, 12, asked, windows));
            assert_eq!(a, b, "step {step}");
        }
    }
    assert!(short.recommendations.len() < 30, "{} entries", short.recommendations.len());
}

#[test]
fn rate_policies_count_what_was_done_during_their_period() {
    let limited = policy(
        "replicas: {desired: queue.length, max: 50}
behavior: {scaleUp: {policies: [{type: Pods, value: 4, period: 60s}, {type: Percent, value: 100, period: 60s}]}}",
    );
    let change = Change { at: Time(970_000), added: 3, removed: 0 };
    let history = History { changes: [change].into(), ..History::default() };
    let asked = Question { history, ..question(5, &[("queue.length", 40.0)]) };
    let decision = decide(&limited, &asked);
    assert_eq!(
        (decision.replicas, decision.because),
        (6, Because::Policy),
        "4 more than the 2 of a minute ago"
    );
}

#[test]
fn a_disabled_direction_does_not_move() {
    let frozen = policy(
        "replicas: {desired: queue.length, max: 50}
behavior: {scaleDown: {selectPolicy: Disabled, stabilizationWindow: 0s}}",
    );
    assert_eq!(decide(&frozen, &question(9, &[("queue.length", 1.0)])).replicas, 9);
    assert_eq!(decide(&frozen, &question(9, &[("queue.length", 12.0)])).replicas, 12);
}

fn failing(current: u32, last: Option<(f64, Time)>) -> Question {
    let mut asked = question(current, &[]);
    asked.signals.insert("queue.length".into(), Sample::Error { reason: "down".into(), last });
    asked
}

#[test]
fn an_outage_never_lowers_and_each_rule_says_what_holds() {
    let with = |on_error: &str| policy(&format!("{LENGTH}\nonSignalError: {on_error}"));
    let known = Some((9.0, Time(1_000_000 - 60_000)));
    for (on_error, current, replicas) in [
        ("hold", 7, 7),
        ("hold", 0, 0),
        ("floor(3)", 0, 3),
        ("floor(3)", 7, 7),
        ("lastKnown(2m)", 7, 9),
        ("lastKnown(30s)", 7, 7),
    ] {
        let decision = decide(&with(on_error), &failing(current, known));
        assert_eq!(decision.replicas, replicas, "{on_error} at {current}");
    }
    let decision = decide(&with("hold"), &failing(7, None));
    assert_eq!(decision.because, Because::SignalError);
    assert_eq!(decision.problems, ["`queue.length` cannot be read: down"]);
}

#[test]
fn a_queue_that_holds_tasks_is_never_left_at_zero_because_something_else_is_unknown() {
    let spec = "replicas: {desired: queue.length / queue.arrivals, max: 50}";
    for (arrivals, because) in [
        (Sample::Missing, Because::TasksWaiting),
        (Sample::measured(0.0, Time(1_000_000)), Because::TasksWaiting),
    ] {
        let mut asked = question(0, &[("queue.length", 5.0)]);
        asked.signals.insert("queue.arrivals".into(), arrivals);
        let decision = decide(&policy(spec), &asked);
        assert_eq!((decision.replicas, decision.because), (1, because));
    }
    let asked = question(0, &[("queue.length", 0.0)]);
    assert_eq!(decide(&policy(spec), &asked).replicas, 0);
}

#[test]
fn a_division_by_zero_holds_and_names_the_expression() {
    let spec = "let: {rate: queue.length / queue.arrivals}\nreplicas: {desired: rate, max: 50}";
    let decision = decide(&policy(spec), &question(4, &[("queue.length", 8.0), ("queue.arrivals", 0.0)]));
    assert_eq!((decision.replicas, decision.because), (4, Because::Fault));
    assert!(decision.reason.contains("let rate: 8 divided by zero"), "{}", decision.reason);
}

#[test]
fn a_value_that_nothing_needs_now_may_be_unknown() {
    let spec =
        "let: {slow: queue.oldest > 60}\nreplicas: {desired: 'queue.length > 100 && slow ? 9 : 2', max: 50}";
    let mut asked = question(0, &[("queue.length", 3.0)]);
    asked.signals.insert("queue.oldest".into(), Sample::Missing);
    assert_eq!(decide(&policy(spec), &asked).replicas, 2);
}

#[test]
fn the_owner_can_pause_either_direction() {
    for (pause, current, replicas) in [
        (Pause::Up, 2, 2),
        (Pause::Up, 9, 5),
        (Pause::Down, 9, 9),
        (Pause::Down, 2, 5),
        (Pause::Both, 9, 9),
        (Pause::Both, 2, 2),
    ] {
        let asked = Question { pause: Some(pause), ..question(current, &[("queue.length", 5.0)]) };
        assert_eq!(decide(&policy(LENGTH), &asked).replicas, replicas, "{pause:?} at {current}");
    }
}

#[test]
fn who_is_being_stopped_wants_no_workers_whatever_the_rule_says() {
    let busy = Question { stopping: true, ..question(5, &[("queue.length", 40.0)]) };
    let decision = decide(&policy("replicas: {desired: queue.length, min: 3, max: 50}"), &busy);
    assert_eq!((decision.replicas, decision.because), (0, Because::Stopping));
}

#[test]
fn bounds_may_follow_the_calendar() {
    let spec = "replicas: {desired: queue.length, min: \"during('0 8 * * 1-5', '0 18 * * 1-5', 'UTC') ? 2 : 0\", max: 50}";
    let monday_seven = 1_767_596_400_000;
    for (hours, replicas) in [(0, 0), (1, 2), (10, 2), (11, 0), (24 * 5 + 2, 0)] {
        let wall = Time(monday_seven) + Duration::from_secs(hours * 3600);
        let asked = Question { wall, ..question(0, &[("queue.length", 0.0)]) };
        assert_eq!(decide(&policy(spec), &asked).replicas, replicas, "{hours} hours after Monday 7:00");
    }
}
