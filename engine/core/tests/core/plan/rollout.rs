//! Workers of an older template are replaced without interrupting anybody.

use std::time::Duration;

use qscaler_core::fleet::Process;
use qscaler_core::plan::{Drain, Leave, Plan, Rollout, RolloutState, Step};
use qscaler_core::rule::By;
use qscaler_protocol::path::Offer;
use qscaler_protocol::report::State;

use super::{FREELY, World, id, starts};

const ONE_MORE: Drain = Drain { rollout: Rollout { surge_max: 1, unavailable_max: 0 }, ..FREELY };
const ONE_LESS: Drain = Drain { rollout: Rollout { surge_max: 0, unavailable_max: 1 }, ..FREELY };

impl World {
    /// This many workers, and then another template.
    fn outdated(count: usize) -> Self {
        let mut world = World::with_idle(count);
        world.change_template();
        world
    }

    fn change_template(&mut self) {
        self.fleet.iter_mut().for_each(|seen| seen.outdated = true);
    }

    /// The workers that open offers name.
    fn asked(&self) -> Vec<&str> {
        let named = self.path.offers.values().filter_map(|offer| match offer {
            Offer::Open(named) => Some(named.as_ref().map_or("anybody", |worker| worker.as_str())),
            Offer::Claimed(_) | Offer::Withdrawn => None,
        });
        named.collect()
    }

    /// Tasks that a worker has ended.
    fn ended(&mut self, name: &str, done: u64, failed: u64) {
        let report = &mut self.reports.get_mut(&id(name)).unwrap().report;
        (report.done, report.failed) = (done, failed);
    }

    fn crash(&mut self, name: &str) {
        let until = qscaler_core::time::Time(60_000);
        self.seen(name).process = Process::BackOff { until, ended: "exit code 1".into() };
    }

    /// How many take tasks when everything that was offered is claimed.
    fn staying(&self) -> usize {
        self.reports.keys().filter(|worker| self.fleet.iter().any(|seen| seen.id == **worker)).count()
            - self.open()
    }

    /// Ticks and reports until nothing is left to do; `least` workers always stay.
    fn roll(&mut self, desired: u32, drain: Drain, least: usize) -> usize {
        let mut most = 0;
        for _ in 0..100 {
            let plan = self.tick_with(desired, drain);
            assert!(self.staying() >= least, "{} stay: {plan:?}", self.staying());
            most = most.max(self.fleet.len());
            self.claim_all();
            let settled = plan == Plan::default();
            self.report_all(State::Idle);
            if settled {
                return most;
            }
        }
        panic!("nothing comes to rest: {:?}", self.fleet);
    }
}

fn state(updated: u32, outdated: u32) -> RolloutState {
    RolloutState { updated, outdated, stopped: None }
}

fn stopped(plan: &Plan) -> &str {
    plan.rollout.as_ref().and_then(|state| state.stopped.as_deref()).unwrap_or_default()
}

#[test]
fn parts_are_rounded_as_a_deployment_rounds_them() {
    let resolve = |surge, unavailable, desired| {
        let rollout = Rollout::resolve(surge, unavailable, desired);
        (rollout.surge_max, rollout.unavailable_max)
    };
    let quarter = By::read(&serde_json::json!("25%")).unwrap();
    let two = By::read(&serde_json::json!(2)).unwrap();
    assert_eq!(resolve(quarter, quarter, 10), (3, 2));
    assert_eq!(resolve(quarter, quarter, 1), (1, 0));
    assert_eq!(resolve(two, By::Workers(0), 1), (2, 0));
    assert_eq!(resolve(By::Workers(0), quarter, 3), (0, 1), "both none is no rollout");
    assert_eq!(resolve(By::Percent(100), By::Percent(100), 7), (7, 7));
}

#[test]
fn every_worker_is_replaced_and_never_more_than_allowed_are_missing() {
    for (surge, unavailable) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (20, 0), (0, 20), (40, 40)] {
        let rollout = Rollout { surge_max: surge, unavailable_max: unavailable };
        let mut world = World::outdated(20);
        let missing = if surge == 0 { unavailable.max(1) } else { unavailable } as usize;
        let most = world.roll(20, Drain { rollout, ..FREELY }, 20_usize.saturating_sub(missing));
        assert!(world.fleet.iter().all(|seen| !seen.outdated));
        assert!(most <= 20 + surge as usize, "{most} workers with a surge of {surge}");
        assert_eq!((world.fleet.len(), world.ledger.offers.len()), (20, 0));
    }
}

#[test]
fn nobody_is_asked_before_a_new_worker_has_finished_a_task() {
    let mut world = World::outdated(3);
    world.load = true;
    let plan = world.tick_with(3, ONE_MORE);
    assert_eq!((starts(&plan), plan.rollout.clone()), (vec!["mail-4"], Some(state(0, 3))));
    world.report_all(State::Busy);
    let plan = world.tick_with(3, ONE_MORE);
    assert!(plan.is_empty(), "it works on its first task: {plan:?}");
    assert_eq!(plan.rollout, Some(state(1, 3)));
    world.ended("mail-4", 0, 2);
    assert!(world.tick_with(3, ONE_MORE).is_empty(), "a task that failed proves nothing");
    world.ended("mail-4", 1, 2);
    world.tick_with(3, ONE_MORE);
    assert_eq!(world.asked(), ["mail-1"]);
    assert!(world.tick_with(3, ONE_MORE).is_empty(), "one is asked and none can be spared beside it");
}

#[test]
fn to_wait_for_a_task_is_enough_only_while_the_queue_is_empty() {
    let mut world = World::outdated(2);
    world.load = true;
    world.tick_with(2, ONE_MORE);
    world.report_all(State::Idle);
    assert!(world.tick_with(2, ONE_MORE).is_empty(), "it should work");
    world.load = false;
    world.tick_with(2, ONE_MORE);
    assert_eq!(world.asked(), ["mail-1"]);
}

#[test]
fn a_wave_is_no_larger_than_what_has_proved_itself() {
    let mut world = World::outdated(8);
    world.load = true;
    let drain = Drain { rollout: Rollout { surge_max: 4, unavailable_max: 0 }, ..FREELY };
    assert_eq!(starts(&world.tick_with(8, drain)).len(), 4);
    world.report_all(State::Busy);
    world.ended("mail-9", 1, 0);
    world.tick_with(8, drain);
    assert_eq!(world.open(), 1);
    world.ended("mail-10", 1, 0);
    world.ended("mail-11", 1, 0);
    world.tick_with(8, drain);
    assert_eq!(world.open(), 3);
    world.claim_all();
    let plan = world.tick_with(8, drain);
    assert_eq!((starts(&plan).len(), world.open()), (3, 0), "four are on trial again");
}

#[test]
fn without_a_surge_the_first_wave_makes_room() {
    let mut world = World::outdated(4);
    let drain = Drain { rollout: Rollout { surge_max: 0, unavailable_max: 2 }, ..FREELY };
    let plan = world.tick_with(4, drain);
    assert_eq!((starts(&plan).len(), world.asked()), (0, vec!["mail-1", "mail-2"]));
    world.claim_all();
    assert_eq!(starts(&world.tick_with(4, drain)).len(), 2);
    assert!(world.tick_with(4, drain).is_empty(), "the two new ones have not reported");
}

#[test]
fn a_rollout_does_without_workers_for_whom_there_is_no_room() {
    let mut world = World::outdated(4);
    let drain = Drain { rollout: Rollout { surge_max: 1, unavailable_max: 1 }, ..FREELY };
    world.tick_with(4, drain);
    assert_eq!(world.open(), 0);
    world.seen("mail-5").process = Process::Waiting;
    world.now += 50_000;
    world.report_all(State::Idle);
    assert!(world.tick_with(4, drain).is_empty(), "it may still find room");
    world.now += 10_000;
    world.tick_with(4, drain);
    assert_eq!(world.asked(), ["mail-1"]);
    assert!(world.tick_with(4, drain).is_empty(), "and no more than may be missing");
}

#[test]
fn outdated_workers_without_a_process_are_replaced_at_once() {
    let mut world = World::outdated(5);
    world.seen("mail-2").process = Process::Waiting;
    world.reports.remove(&id("mail-2"));
    world.crash("mail-4");
    let plan = world.tick_with(5, ONE_LESS);
    assert_eq!(starts(&plan), ["mail-6", "mail-7"]);
    assert_eq!(world.open(), 0, "three take tasks and four should");
    assert!(world.fleet.iter().all(|seen| seen.name != "mail-2" && seen.name != "mail-4"));
}

#[test]
fn idle_workers_are_asked_before_busy_ones() {
    let mut world = World::outdated(3);
    world.report("mail-1", State::Busy, 1, 1);
    world.tick_with(3, ONE_LESS);
    assert_eq!(world.asked(), ["mail-2"]);
}

#[test]
fn a_shrink_takes_outdated_workers_first_and_keeps_the_new_one() {
    let mut world = World::outdated(5);
    world.tick_with(5, ONE_MORE);
    world.seen("mail-6").process = Process::Waiting;
    world.report_all(State::Busy);
    world.tick_with(3, ONE_MORE);
    assert_eq!(world.asked(), ["mail-1", "mail-2"]);
    assert!(world.fleet.iter().any(|seen| seen.name == "mail-6"));
    world.tick_with(5, ONE_MORE);
    assert_eq!(world.open(), 0, "growth takes the offers back");
    assert_eq!(world.fleet.len(), 6);
}

#[test]
fn a_shrink_beyond_the_outdated_workers_takes_anybody() {
    let mut world = World::with_idle(5);
    world.seen("mail-4").outdated = true;
    world.tick_with(2, ONE_MORE);
    assert_eq!(world.asked(), ["mail-4", "anybody"]);
    assert_eq!(world.roll(2, ONE_MORE, 2), 5);
}

#[test]
fn offers_to_anybody_become_offers_to_outdated_workers() {
    let mut world = World::with_idle(5);
    world.tick_with(3, ONE_MORE);
    world.change_template();
    world.fleet[0].outdated = false;
    world.tick_with(3, ONE_MORE);
    assert_eq!(world.open(), 0, "nobody claims them while they are changed");
    world.tick_with(3, ONE_MORE);
    assert_eq!(
        world.asked(),
        ["mail-2", "mail-3"],
        "and the next one, because the new one has proved itself"
    );
}

#[test]
fn an_offer_that_names_a_worker_that_is_gone_is_taken_back() {
    let mut world = World::outdated(4);
    let drain = Drain { rollout: Rollout { surge_max: 0, unavailable_max: 2 }, ..FREELY };
    world.tick_with(4, drain);
    assert_eq!(world.asked(), ["mail-1", "mail-2"]);
    world.fleet.retain(|seen| seen.name != "mail-1");
    let plan = world.tick_with(4, drain);
    assert_eq!((starts(&plan).len(), world.asked()), (1, vec!["mail-2"]));
    world.roll(4, drain, 2);
    assert!(world.fleet.iter().all(|seen| !seen.outdated));
}

#[test]
fn no_more_new_workers_are_started_than_desired() {
    let mut world = World::with_idle(3);
    world.seen("mail-1").outdated = true;
    let drain = Drain { rollout: Rollout { surge_max: 2, unavailable_max: 0 }, ..FREELY };
    let plan = world.tick_with(2, drain);
    assert_eq!((starts(&plan).len(), world.asked()), (0, vec!["mail-1"]));
}

#[test]
fn a_shrink_removes_new_workers_without_a_process_where_no_older_one_can_be_spared() {
    let mut world = World::outdated(3);
    world.tick_with(6, Drain { rollout: Rollout { surge_max: 3, unavailable_max: 0 }, ..FREELY });
    world.fleet.iter_mut().filter(|seen| !seen.outdated).for_each(|seen| seen.process = Process::Waiting);
    world.tick_with(3, ONE_MORE);
    assert_eq!((world.fleet.len(), world.open()), (4, 0));
}

#[test]
fn a_worker_that_could_not_be_started_is_still_missing() {
    let mut world = World::with_idle(3);
    world.seen("mail-1").outdated = true;
    world.tick_with(3, ONE_LESS);
    assert_eq!(world.claim_all(), 1);
    let mut plan = world.plan(3, ONE_LESS);
    plan.steps.retain(|step| !matches!(step, Step::Start { .. }));
    world.apply(&plan);
    assert_eq!((world.fleet.len(), world.current()), (2, 3));
}

#[test]
fn a_template_that_comes_back_ends_the_rollout() {
    let mut world = World::outdated(4);
    world.tick_with(4, ONE_MORE);
    world.report_all(State::Idle);
    world.tick_with(4, ONE_MORE);
    assert_eq!(world.asked(), ["mail-1"]);
    world.fleet.iter_mut().for_each(|seen| seen.outdated = seen.name == "mail-5");
    world.tick_with(4, ONE_MORE);
    assert_eq!(world.open(), 0, "nobody of the present template is replaced");
    world.tick_with(4, ONE_MORE);
    assert_eq!(world.asked(), ["mail-5"]);
    world.roll(4, ONE_MORE, 4);
    assert_eq!(world.fleet.len(), 4);
}

#[test]
fn when_new_workers_fail_more_nobody_else_is_asked_and_a_newer_template_goes_on() {
    let mut world = World::outdated(4);
    world.load = true;
    world.tick_with(4, ONE_MORE);
    world.report_all(State::Busy);
    world.ended("mail-1", 98, 2);
    world.ended("mail-5", 27, 2);
    world.tick_with(4, ONE_MORE);
    assert_eq!(world.asked(), ["mail-1"], "two failures say nothing");
    world.ended("mail-5", 31, 3);
    let plan = world.tick_with(4, ONE_MORE);
    assert_eq!(
        stopped(&plan),
        "",
        "three of 34 are more than twice as many as two of 100, but for the margin"
    );
    world.ended("mail-5", 27, 3);
    let plan = world.tick_with(4, ONE_MORE);
    assert_eq!(
        stopped(&plan),
        "the rollout has stopped: new workers have failed 3 of 30 tasks, old ones 2 of 100"
    );
    assert_eq!((world.open(), world.fleet.len()), (0, 5), "who was asked works on");
    world.tick_with(4, ONE_MORE);
    assert!(world.tick_with(4, ONE_MORE).is_empty());
    world.change_template();
    world.tick_with(4, ONE_MORE);
    let plan = world.tick_with(4, ONE_MORE);
    assert_eq!(stopped(&plan), "");
    world.load = false;
    world.roll(4, ONE_MORE, 4);
    assert!(world.fleet.iter().all(|seen| !seen.outdated));
}

#[test]
fn a_new_worker_that_does_not_stay_up_stops_the_rollout_and_costs_nobody() {
    let mut world = World::outdated(4);
    let drain = Drain { rollout: Rollout { surge_max: 1, unavailable_max: 1 }, ..FREELY };
    world.tick_with(4, drain);
    world.report_all(State::Idle);
    world.tick_with(4, drain);
    assert_eq!(world.open(), 1);
    world.crash("mail-5");
    let plan = world.tick_with(4, drain);
    assert_eq!(
        stopped(&plan),
        "the rollout has stopped: the new worker mail-5 does not stay up (exit code 1)"
    );
    assert_eq!((world.open(), world.fleet.len()), (0, 5));
    world.tick_with(4, drain);
    world.now += 600_000;
    assert!(world.tick_with(4, drain).is_empty(), "it is neither removed nor started again for ever");
    assert_eq!(starts(&world.tick_with(6, drain)).len(), 1, "the load still gets its workers");
    world.change_template();
    let plan = world.tick_with(4, drain);
    assert_eq!(stopped(&plan), "");
    assert!(world.fleet.iter().all(|seen| seen.name != "mail-5"), "a newer template goes on");
}

#[test]
fn drain_at_once_max_bounds_a_rollout_too() {
    let mut world = World::outdated(9);
    let rollout = Rollout { surge_max: 0, unavailable_max: 9 };
    world.tick_with(9, Drain { at_once_max: 2, rollout, ..FREELY });
    assert_eq!(world.open(), 2);
}

#[test]
fn a_decision_starts_from_the_number_that_workers_are_replaced_to() {
    for drain in [ONE_MORE, ONE_LESS] {
        let mut world = World::outdated(3);
        let mut moved = false;
        for _ in 0..60 {
            let current = world.current();
            assert_eq!(current, 3, "held at {current}: {:?}", world.ledger);
            // As when the source cannot be read.
            world.tick_with(current, drain);
            world.claim_all();
            assert_eq!(world.current(), 3);
            moved |= world.fleet.len() != 3;
            world.report_all(State::Idle);
        }
        assert!(moved && world.fleet.iter().all(|seen| !seen.outdated));
        assert_eq!(world.ledger.rolling, None);
    }
}

#[test]
fn a_path_that_lost_its_data_in_a_rollout_changes_no_decision() {
    let mut world = World::outdated(3);
    world.tick_with(3, ONE_MORE);
    world.report_all(State::Idle);
    world.path = qscaler_protocol::path::Path::default();
    assert_eq!(world.current(), 3);
    world.tick_with(3, ONE_MORE);
    assert_eq!((world.current(), world.fleet.len()), (3, 4));
}

#[test]
fn a_deadline_ends_the_worker_that_was_asked() {
    let mut world = World::outdated(3);
    world.report("mail-1", State::Busy, 1, 1);
    world.report("mail-3", State::Busy, 1, 1);
    let strict = Drain { deadline: Some(Duration::from_secs(60)), ..ONE_LESS };
    world.tick_with(3, strict);
    assert_eq!(world.asked(), ["mail-2"]);
    world.report("mail-2", State::Busy, 2, 2);
    world.now += 60_000;
    world.tick_with(3, strict);
    assert_eq!(world.seen("mail-2").process, Process::Ending);
    assert_eq!(world.fleet.iter().filter(|seen| seen.process == Process::Ending).count(), 1);
}

#[test]
fn programs_without_the_sdk_are_replaced_by_signals() {
    let mut world = World::default();
    let drain = Drain { by: Leave::Signal, ..ONE_MORE };
    world.tick_with(3, drain);
    world.change_template();
    let mut signals = 0;
    for _ in 0..20 {
        let plan = world.tick_with(3, drain);
        signals += plan.steps.iter().filter(|step| matches!(step, Step::Terminate { .. })).count();
        let run = world.fleet.iter().filter(|seen| seen.process == Process::Running).count();
        assert!((3..=4).contains(&run), "{run} run");
        world.fleet.retain(|seen| seen.process != Process::Ending);
    }
    assert_eq!(signals, 3);
    assert!(world.fleet.iter().all(|seen| !seen.outdated));
}

#[test]
fn what_is_stored_of_a_worker_that_is_not_outdated_is_as_before() {
    let world = World::with_idle(1);
    let text = serde_json::to_string(&world.fleet[0]).unwrap();
    assert!(!text.contains("outdated"), "{text}");
    let seen: qscaler_core::fleet::Seen = serde_json::from_str(&text).unwrap();
    assert_eq!(seen, world.fleet[0]);
}
