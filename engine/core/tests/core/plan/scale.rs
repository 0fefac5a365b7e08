//! Workers of a Deployment or a StatefulSet: a controller makes and deletes them as Kubernetes does.

use super::*;
use qscaler_core::plan::{OVERRIDDEN_FOR, Victims};

impl World {
    /// With a Deployment, or with a StatefulSet whose first ordinal is given, and so many idle workers.
    fn scaled(replicas: u32, victims: Victims) -> Self {
        let scale =
            Scale { replicas, written_by: Some("kubectl".into()), victims, rolling: false, frozen: false };
        let mut world = World { scale: Some(scale), ..World::default() };
        world.control();
        world.tick(replicas);
        world.report_all(State::Idle);
        world.tick(replicas);
        world.report_all(State::Idle);
        world
    }

    fn deployment(replicas: u32) -> Self {
        Self::scaled(replicas, Victims::Marked)
    }

    fn stateful_set(replicas: u32) -> Self {
        Self::scaled(replicas, Victims::Last { first: 0 })
    }

    fn replicas(&self) -> u32 {
        self.scale.as_ref().unwrap().replicas
    }

    fn scale(&mut self) -> &mut Scale {
        self.scale.as_mut().unwrap()
    }

    /// What the controller of the Deployment or StatefulSet does; returns the workers that it deletes.
    fn control(&mut self) -> Vec<String> {
        let scale = self.scale.clone().unwrap();
        let wanted = scale.replicas as usize;
        let mut deleted = vec![];
        while self.fleet.len() > wanted {
            let rank = |seen: &Seen| {
                let waits = seen.process == Process::Waiting;
                (!waits, !seen.unready, !seen.marked, std::cmp::Reverse(seen.since))
            };
            let number = |seen: &Seen| seen.name.rsplit_once('-').unwrap().1.parse::<i64>().unwrap();
            let chosen = match scale.victims {
                Victims::Marked => (0..self.fleet.len()).min_by_key(|at| rank(&self.fleet[*at])),
                Victims::Last { .. } => (0..self.fleet.len()).max_by_key(|at| number(&self.fleet[*at])),
            };
            deleted.push(self.fleet.remove(chosen.unwrap()).name);
        }
        let first = if let Victims::Last { first } = scale.victims { first } else { 0 };
        for number in first.. {
            if self.fleet.len() >= wanted {
                break;
            }
            let name = format!("mail-{number}");
            if self.fleet.iter().all(|seen| seen.name != name) {
                let id = id(&format!("{name} of {}", self.now));
                self.fleet.push(Seen::new(id, name, Process::Running, Time(self.now)));
            }
        }
        deleted
    }

    /// Every idle worker claims what it can, drains and parks; returns their names.
    fn park_all(&mut self) -> Vec<String> {
        let epoch = self.path.epoch.clone().unwrap();
        let mut parked = vec![];
        for seen in self.fleet.clone() {
            let is_idle = self.reports.get(&seen.id).is_some_and(|it| it.report.state == State::Idle);
            if is_idle && self.path.claim(&epoch, &seen.id).is_some() {
                self.report_as(&seen.id, State::Drained, 0, 1);
                self.seen(&seen.name).unready = true;
                parked.push(seen.name);
            }
        }
        parked
    }
}

#[test]
fn what_grows_is_the_number() {
    let mut world = World::deployment(0);
    let plan = world.tick(4);
    assert_eq!(plan.steps, [Step::Scale { from: 0, to: 4, unborn: vec![], released: vec![] }]);
    assert_eq!(world.current(), 4, "what is asked for counts before it is made");
    world.control();
    assert_eq!(world.tick(4).steps, []);
}

#[test]
fn the_number_falls_by_those_who_have_parked_and_they_are_the_ones_deleted() {
    let mut world = World::deployment(5);
    world.tick(3);
    assert_eq!((world.open(), world.replicas()), (2, 5));
    let parked = world.park_all();
    assert_eq!(parked.len(), 2);
    assert!(world.tick(3).steps.iter().all(|step| matches!(step, Step::Mark { marked: true, .. })));
    assert_eq!(world.replicas(), 5, "whoever chooses must see the marks first");
    let plan = world.tick(3);
    assert!(matches!(&plan.steps[..], [Step::Scale { from: 5, to: 3, released, .. }] if released.len() == 2));
    // Before the controller acts, and when the step is repeated, nothing changes.
    assert_eq!(world.tick(3).steps, []);
    assert_eq!(world.current(), 3);
    let mut deleted = world.control();
    deleted.sort();
    assert_eq!(deleted, parked);
    world.tick(3);
    assert_eq!(world.ledger.offers.len(), 0);
}

#[test]
fn while_a_busy_worker_is_unready_or_replicas_are_replaced_the_number_waits() {
    let mut world = World::deployment(5);
    world.tick(4);
    world.park_all();
    world.tick(4);
    world.seen("mail-4").unready = true;
    assert_eq!(world.tick(4).steps, []);
    world.seen("mail-4").unready = false;
    world.scale().rolling = true;
    assert_eq!(world.tick(4).steps, []);
    world.scale().rolling = false;
    world.tick(4);
    assert_eq!(world.replicas(), 4);
}

#[test]
fn a_rollout_takes_offers_back_and_grants_none() {
    let mut world = World::deployment(12);
    world.report_all(State::Busy);
    world.tick(4);
    assert_eq!(world.open(), 8);
    world.scale().rolling = true;
    world.tick(4);
    assert_eq!(world.open(), 0);
    world.tick(4);
    assert_eq!((world.open(), world.replicas()), (0, 12));
    world.scale().rolling = false;
    world.tick(4);
    assert_eq!(world.open(), 8);
}

#[test]
fn load_that_returns_makes_new_workers_of_those_who_have_parked() {
    let mut world = World::deployment(5);
    world.tick(2);
    assert_eq!(world.park_all().len(), 3);
    let plan = world.tick(4);
    let released = plan.steps.iter().filter(|step| matches!(step, Step::Release { .. })).count();
    assert_eq!((released, world.replicas()), (2, 5), "two are deleted, and the Deployment makes two");
    world.fleet.retain(|seen| !world.reports.get(&seen.id).is_some_and(|it| it.released));
    world.control();
    world.tick(4);
    world.report_all_new(State::Idle);
    world.tick(4);
    world.tick(4);
    world.control();
    assert_eq!((world.replicas(), world.fleet.len(), world.open()), (4, 4, 0));
}

#[test]
fn those_without_a_process_go_first_and_nobody_else_is_asked() {
    let mut world = World::deployment(9);
    world.scale().replicas = 20;
    world.control();
    for number in 9..20 {
        let seen = world.seen(&format!("mail-{number}"));
        seen.unready = true;
        seen.process = match number {
            ..17 => Process::Waiting,
            _ => Process::BackOff { until: Time(9_000), ended: "exit 1".into() },
        };
    }
    let mut deleted = vec![];
    for replicas in [12, 9] {
        world.tick(9);
        assert_eq!(
            (world.open(), world.replicas()),
            (0, replicas),
            "those that need no mark, then the others"
        );
        deleted.extend(world.control());
    }
    deleted.sort_by_key(|name| name[5..].parse::<u32>().unwrap());
    assert_eq!(deleted, (9..20).map(|number| format!("mail-{number}")).collect::<Vec<_>>());
}

#[test]
fn a_stateful_set_asks_the_highest_ordinals_and_falls_from_the_end() {
    let mut world = World::stateful_set(4);
    world.tick(2);
    let named: Vec<_> = world.ledger.offers.values().map(|it| it.named.clone().unwrap()).collect();
    let of = |world: &World, name: &str| world.fleet.iter().find(|it| it.name == name).unwrap().id.clone();
    assert_eq!(named, [of(&world, "mail-3"), of(&world, "mail-2")]);
    // The lower one is first to leave: the number waits for the last.
    world.report("mail-3", State::Busy, 1, 1);
    assert_eq!(world.park_all(), ["mail-2"]);
    assert_eq!(world.tick(2).steps, []);
    world.report("mail-3", State::Idle, 0, 1);
    world.park_all();
    world.tick(2);
    assert_eq!(world.replicas(), 2);
    assert_eq!(world.control(), ["mail-3", "mail-2"]);
}

#[test]
fn a_stateful_set_that_is_needed_again_starts_over_what_has_parked() {
    let mut world = World::stateful_set(4);
    world.tick(2);
    assert_eq!(world.park_all(), ["mail-2", "mail-3"]);
    let plan = world.tick(4);
    let released = plan.steps.iter().filter(|step| matches!(step, Step::Release { .. })).count();
    assert_eq!((released, world.replicas()), (2, 4));
}

#[test]
fn a_number_that_others_change_twice_is_lowered_no_more_for_an_hour() {
    let mut world = World::deployment(2);
    for others in [6, 8] {
        world.tick(4);
        world.control();
        world.report_all_new(State::Idle);
        world.tick(4);
        world.tick(4);
        world.park_all();
        world.tick(4);
        world.tick(4);
        world.control();
        assert_eq!(world.replicas(), 4, "before {others}");
        world.tick(4);
        let scale = world.scale();
        (scale.replicas, scale.written_by) = (others, Some("helm".into()));
        world.control();
    }
    world.report_all_new(State::Idle);
    world.tick(4);
    world.tick(4);
    assert_eq!((world.open(), world.replicas()), (0, 8));
    world.tick(9);
    assert_eq!(world.replicas(), 9, "more are made all the same");
    world.now += OVERRIDDEN_FOR.as_millis() as i64;
    world.report_all_new(State::Idle);
    world.tick(4);
    world.tick(4);
    assert!(world.open() > 0);
}

#[test]
fn the_first_number_that_could_not_be_written_is_no_change_by_others() {
    let mut world = World::deployment(2);
    for _ in 0..5 {
        let plan = world.plan(4, FREELY);
        world.ledger = plan.ledger.unwrap_or(world.ledger);
    }
    assert_eq!(world.ledger.scaled.as_ref().unwrap().overridden, []);
}

#[test]
fn what_is_handed_back_keeps_its_number_and_loses_nobody() {
    let mut world = World::deployment(5);
    world.tick(2);
    world.report("mail-0", State::Busy, 1, 1);
    let epoch = world.path.epoch.clone().unwrap();
    let parked = world.fleet[1].id.clone();
    world.path.claim(&epoch, &parked);
    world.report_as(&parked, State::Drained, 0, 1);
    world.scale().frozen = true;
    let plan = world.tick(2);
    assert_eq!((world.open(), world.replicas()), (0, 5));
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Release { worker, .. } if *worker == parked)));
    assert!(plan.steps.iter().all(|step| !matches!(step, Step::Scale { .. })));
    world.fleet.retain(|seen| seen.id != parked);
    world.control();
    world.tick(2);
    assert_eq!((world.ledger.offers.len(), world.fleet.len()), (0, 5));
}

#[test]
fn programs_without_the_sdk_are_marked_and_then_the_number_falls() {
    let mut world = World::deployment(4);
    let by_signal = Drain { by: Leave::Signal, ..FREELY };
    world.tick_with(2, by_signal);
    assert_eq!(world.replicas(), 4);
    world.tick_with(2, by_signal);
    assert_eq!(world.replicas(), 2);
    world.tick_with(2, by_signal);
    assert_eq!(world.fleet.iter().filter(|seen| seen.marked).count(), 2, "until they are deleted");
    let marked: Vec<_> = world.fleet.iter().filter(|it| it.marked).map(|it| it.name.clone()).collect();
    let mut deleted = world.control();
    deleted.sort();
    assert_eq!(deleted, marked);
}
