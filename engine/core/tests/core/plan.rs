//! Who starts and who may leave.

mod rollout;
mod scale;

use std::collections::BTreeMap;
use std::time::Duration;

use qscaler_core::fleet::{Process, Seen};
use qscaler_core::ledger::Ledger;
use qscaler_core::plan::{Drain, Leave, Plan, Rollout, Scale, Situation, Step};
use qscaler_core::time::Time;
use qscaler_protocol::PROTOCOL;
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Path};
use qscaler_protocol::report::{Durations, Received, Report, State};

/// One workload: everything that the engine reads, and what its plans do to it.
#[derive(Clone, Default)]
struct World {
    ledger: Ledger,
    path: Path,
    reports: BTreeMap<WorkerId, Received>,
    fleet: Vec<Seen>,
    now: i64,
    epochs: u64,
    /// Tasks wait.
    load: bool,
    scale: Option<Scale>,
}

const FREELY: Drain = Drain {
    by: Leave::Offer,
    at_once_max: u32::MAX,
    deadline: None,
    rollout: Rollout { surge_max: 0, unavailable_max: 1 },
};

fn id(name: &str) -> WorkerId {
    WorkerId::new(name)
}

impl World {
    fn with_idle(count: usize) -> Self {
        let mut world = World::default();
        world.tick(count as u32);
        world.report_all(State::Idle);
        world.tick(count as u32);
        world.report_all(State::Idle);
        world
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            ledger: &self.ledger,
            path: &self.path,
            reports: &self.reports,
            fleet: &self.fleet,
            scale: self.scale.as_ref(),
            workload: "mail",
            queue_is_empty: !self.load,
            now: Time(self.now),
        }
    }

    fn plan(&self, desired: u32, drain: Drain) -> Plan {
        self.situation().plan(desired, drain, Epoch::new(format!("epoch-{}", self.epochs)))
    }

    fn current(&self) -> u32 {
        self.situation().current()
    }

    fn tick(&mut self, desired: u32) -> Plan {
        self.tick_with(desired, FREELY)
    }

    fn tick_with(&mut self, desired: u32, drain: Drain) -> Plan {
        let plan = self.plan(desired, drain);
        self.apply(&plan);
        plan
    }

    fn apply(&mut self, plan: &Plan) {
        self.epochs += 1;
        self.now += 500;
        if let Some(ledger) = &plan.ledger {
            self.ledger = ledger.clone();
        }
        for step in &plan.steps {
            self.apply_step(step);
        }
    }

    fn apply_step(&mut self, step: &Step) {
        match step.clone() {
            Step::Adopt { seen, epoch, floor, claims } => {
                self.path.adopt(seen.as_ref(), epoch, floor, &claims);
            }
            Step::Project { epoch, offers } => {
                self.path.project(&epoch, &offers);
            }
            Step::Withdraw { epoch, offers } => {
                for offer in offers {
                    self.path.withdraw(&epoch, offer);
                }
            }
            Step::RaiseFloor { epoch, floor } => {
                self.path.raise_floor(&epoch, floor);
            }
            Step::Start { name } => {
                if self.fleet.iter().all(|seen| seen.name != name) {
                    self.fleet.push(Seen::new(id(&name), name, Process::Running, Time(self.now)));
                }
            }
            Step::Remove { worker } => self.fleet.retain(|seen| seen.id != worker),
            Step::Release { worker, .. } => self.reports.get_mut(&worker).unwrap().released = true,
            Step::Mark { worker, marked } => {
                self.fleet.iter_mut().find(|it| it.id == worker).unwrap().marked = marked;
            }
            Step::Scale { from, to, released, .. } => {
                let scale = self.scale.as_mut().unwrap();
                if scale.replicas == from {
                    for (worker, _) in released {
                        self.reports.get_mut(&worker).unwrap().released = true;
                    }
                    scale.replicas = to;
                    scale.written_by = None;
                }
            }
            Step::Terminate { worker } => self.seen(worker.as_str()).process = Process::Ending,
            Step::Resize { .. } => {}
            Step::Forget { workers } => self.reports.retain(|worker, _| !workers.contains(worker)),
        }
    }

    fn seen(&mut self, name: &str) -> &mut Seen {
        self.fleet.iter_mut().find(|seen| seen.name == name).unwrap()
    }

    fn report(&mut self, name: &str, state: State, busy_slots: u32, slots: u32) {
        let worker = self.fleet.iter().find(|seen| seen.name == name).map(|seen| seen.id.clone());
        self.report_as(&worker.unwrap_or_else(|| id(name)), state, busy_slots, slots);
    }

    fn report_as(&mut self, worker: &WorkerId, state: State, busy_slots: u32, slots: u32) {
        let worker = worker.clone();
        let report = Report {
            protocol: PROTOCOL,
            worker: worker.clone(),
            boot: BootId::new("boot"),
            state,
            state_ms: 0,
            slots,
            busy_slots,
            done: 0,
            failed: 0,
            late_acks: 0,
            busy_ms: 0,
            durations: Durations::default(),
            claim: self.path.claim_of(&worker),
            epoch: self.path.epoch.clone(),
            pid: None,
        };
        let epoch = self.path.epoch.clone();
        self.reports.insert(worker, Received { report, epoch, age_ms: 0, released: false });
    }

    /// Of all that have a process.
    fn report_all(&mut self, state: State) {
        let runs = self.fleet.iter().filter(|seen| seen.process != Process::Waiting);
        for name in runs.map(|seen| seen.name.clone()).collect::<Vec<_>>() {
            self.report(&name, state, u32::from(state == State::Busy), 1);
        }
    }

    /// The same of those that have not drained.
    fn report_all_new(&mut self, state: State) {
        let is_drained = |it: &Received| it.report.state == State::Drained;
        let names = self.fleet.iter().filter(|seen| !self.reports.get(&seen.id).is_some_and(is_drained));
        for name in names.map(|seen| seen.name.clone()).collect::<Vec<_>>() {
            self.report(&name, state, u32::from(state == State::Busy), 1);
        }
    }

    /// Every idle worker claims what it can and is gone at once.
    fn claim_all(&mut self) -> usize {
        let epoch = self.path.epoch.clone().unwrap();
        let before = self.fleet.len();
        let path = &mut self.path;
        self.fleet.retain(|seen| path.claim(&epoch, &seen.id).is_none());
        before - self.fleet.len()
    }

    fn open(&self) -> usize {
        self.path.offers.values().filter(|offer| matches!(offer, Offer::Open(_))).count()
    }
}

fn starts(plan: &Plan) -> Vec<&str> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::Start { name } => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn the_first_tick_starts_the_lowest_free_names() {
    let mut world = World::default();
    assert_eq!(starts(&world.tick(3)), ["mail-1", "mail-2", "mail-3"]);
    world.fleet.remove(1);
    assert_eq!(starts(&world.tick(3)), ["mail-2"]);
}

#[test]
fn the_same_state_gives_the_same_plan_so_two_engines_create_the_same_workers() {
    let mut world = World::with_idle(2);
    let (first, second) = (world.plan(5, FREELY), world.plan(5, FREELY));
    assert_eq!(first, second);
    world.apply(&first);
    world.apply(&second);
    assert_eq!(world.fleet.len(), 5);
}

#[test]
fn a_shrink_grants_exactly_the_surplus_and_only_once() {
    let mut world = World::with_idle(5);
    world.tick(2);
    assert_eq!(world.open(), 3);
    for _ in 0..3 {
        assert_eq!(world.tick(2), Plan::default(), "nothing to add to open offers");
    }
    assert_eq!(world.claim_all(), 3);
    world.tick(2);
    assert_eq!(
        (world.fleet.len(), world.ledger.offers.len()),
        (2, 0),
        "claims of workers that are gone are forgotten"
    );
}

#[test]
fn a_grant_counts_only_workers_that_have_registered() {
    let mut world = World::with_idle(3);
    world.tick(6);
    world.tick(1);
    assert_eq!(
        world.open(),
        2,
        "three have not reported and cannot claim: they may not be counted as staying"
    );
    world.report_all(State::Idle);
    world.tick(1);
    assert_eq!(world.open(), 5);
}

#[test]
fn workers_without_a_process_go_first_and_without_asking() {
    let mut world = World::with_idle(9);
    world.tick(20);
    for number in 10..=20 {
        world.seen(&format!("mail-{number}")).process = if number <= 17 {
            Process::Waiting
        } else {
            Process::BackOff { until: Time(9_000), ended: "exit 1".into() }
        };
    }
    world.tick(9);
    assert_eq!((world.fleet.len(), world.open()), (9, 0));
}

#[test]
fn a_worker_that_has_reported_has_a_process_whatever_the_platform_says_yet() {
    let mut world = World::with_idle(4);
    for name in ["mail-1", "mail-2"] {
        world.seen(name).process = Process::Waiting;
        world.report(name, State::Busy, 1, 1);
    }
    world.reports.get_mut(&id("mail-2")).unwrap().age_ms = 60_000;
    world.tick(3);
    assert_eq!(
        world.fleet.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["mail-1", "mail-3", "mail-4"]
    );
}

#[test]
fn load_that_returns_withdraws_offers_before_anything_is_started() {
    let mut world = World::with_idle(5);
    world.tick(2);
    let plan = world.tick(4);
    assert_eq!((starts(&plan).len(), world.open()), (0, 1));
    assert_eq!(starts(&world.tick(6)), ["mail-6"], "one offer less and one worker more");
    assert_eq!(world.open(), 0);
    assert_eq!(world.claim_all(), 0);
}

#[test]
fn a_claim_is_final_and_the_load_that_returns_starts_another_worker() {
    let mut world = World::with_idle(3);
    world.tick(2);
    let epoch = world.path.epoch.clone().unwrap();
    world.path.claim(&epoch, &id("mail-1"));
    assert_eq!(starts(&world.tick(3)), ["mail-4"]);
    assert!(world.ledger.offers.values().any(|grant| grant.claimed_by == Some(id("mail-1"))));
}

#[test]
fn a_worker_that_was_told_to_end_by_somebody_else_counts_as_gone() {
    let mut world = World::with_idle(3);
    world.report("mail-2", State::Draining, 1, 1);
    assert_eq!(starts(&world.tick(3)), ["mail-4"]);
}

#[test]
fn a_path_that_lost_its_data_gets_the_claims_back_and_no_grant_before_workers_reported_again() {
    let mut world = World::with_idle(5);
    world.tick(3);
    let epoch = world.path.epoch.clone().unwrap();
    world.path.claim(&epoch, &id("mail-1"));
    world.tick(3);
    world.path = Path::default();
    world.tick(3);
    assert_ne!(world.path.epoch, Some(epoch));
    assert_eq!(world.path.claim_of(&id("mail-1")), Some(OfferId(1)));
    assert_eq!(world.tick(3), Plan::default(), "reports from before prove nothing");
    world.report_all(State::Idle);
    world.tick(3);
    assert_eq!(world.open(), 1, "five, one claimed, four staying: one surplus");
    assert!(
        world.ledger.offers.keys().all(|offer| *offer == OfferId(1) || *offer > OfferId(2)),
        "no number twice"
    );
}

#[test]
fn a_claim_that_only_the_worker_still_knows_is_kept() {
    let mut world = World::with_idle(3);
    world.tick(2);
    let epoch = world.path.epoch.clone().unwrap();
    world.path.claim(&epoch, &id("mail-3"));
    world.report("mail-3", State::Draining, 0, 1);
    world.path = Path::default();
    world.tick(2);
    assert_eq!(world.path.claim_of(&id("mail-3")), Some(OfferId(1)));
}

#[test]
fn a_ledger_restored_from_an_older_state_jumps_above_every_number_in_use() {
    let mut world = World::with_idle(6);
    let old = world.ledger.clone();
    world.tick(4);
    world.tick(3);
    world.ledger = old;
    world.tick(3);
    assert_eq!(world.open(), 0, "nobody knows who may have claimed them: they are void");
    assert_eq!(world.tick(3), Plan::default(), "reports from before prove nothing");
    world.report_all(State::Idle);
    world.tick(3);
    assert!(world.ledger.offers.keys().all(|offer| *offer > OfferId(3)), "no number twice");
    let epoch = world.path.epoch.clone().unwrap();
    let claimed = (1..=6).filter(|n| world.path.claim(&epoch, &id(&format!("mail-{n}"))).is_some()).count();
    assert_eq!(claimed, 3);
}

#[test]
fn a_restored_ledger_learns_from_the_path_who_has_claimed() {
    let mut world = World::with_idle(3);
    let old = world.ledger.clone();
    world.tick(1);
    let epoch = world.path.epoch.clone().unwrap();
    world.path.claim(&epoch, &id("mail-2"));
    world.ledger = old;
    world.tick(1);
    assert_ne!(world.path.epoch, Some(epoch));
    assert_eq!(world.path.claim_of(&id("mail-2")), Some(OfferId(1)));
}

#[test]
fn a_restored_ledger_that_holds_what_the_path_has_forgotten_begins_an_epoch() {
    let mut world = World::with_idle(3);
    world.tick(2);
    let old = world.ledger.clone();
    world.tick(3);
    world.tick(3);
    assert_eq!(world.path.floor, OfferId(1), "the offer was withdrawn and forgotten");
    world.ledger = old;
    world.tick(3);
    assert_eq!((world.ledger.offers.len(), world.open()), (0, 0), "an offer that nobody can claim is void");
}

#[test]
fn a_worker_that_does_not_know_the_epoch_yet_is_not_counted_on() {
    let mut world = World::with_idle(3);
    let received = world.reports.get_mut(&id("mail-1")).unwrap();
    received.report.epoch = None;
    world.tick(1);
    assert_eq!(world.open(), 1, "a claim of an epoch that is gone may be on its way to it");
}

#[test]
fn drain_at_once_max_bounds_how_many_are_asked_or_on_their_way() {
    let mut world = World::with_idle(10);
    let gently = Drain { at_once_max: 2, ..FREELY };
    world.tick_with(2, gently);
    world.tick_with(2, gently);
    assert_eq!(world.open(), 2);
    world.claim_all();
    world.tick_with(2, gently);
    assert_eq!(world.open(), 2);
}

#[test]
fn when_no_worker_with_several_slots_is_ever_free_offers_name_the_least_busy() {
    let mut world = World::with_idle(3);
    for (name, busy) in [("mail-1", 5), ("mail-2", 1), ("mail-3", 8)] {
        world.report(name, State::Busy, busy, 8);
    }
    world.tick(2);
    world.now += 60_000;
    world.tick(2);
    world.tick(2);
    let named: Vec<_> = world.path.offers.values().filter(|offer| matches!(offer, Offer::Open(_))).collect();
    assert_eq!(named, [&Offer::Open(Some(id("mail-2")))]);
}

#[test]
fn an_offer_that_names_a_worker_that_was_started_again_is_made_anew() {
    let mut world = World::with_idle(3);
    world.report_all(State::Busy);
    world.ledger.naming = true;
    world.tick(2);
    let named = |world: &World| world.path.offers.values().next_back().cloned();
    assert_eq!(named(&world), Some(Offer::Open(Some(id("mail-1")))));
    world.seen("mail-1").id = id("another incarnation");
    world.tick(2);
    world.tick(2);
    assert_eq!(named(&world), None, "nobody can be spared until it has registered");
    world.fleet.swap(0, 2);
    world.report("another incarnation", State::Busy, 1, 1);
    world.tick(2);
    world.tick(2);
    assert!(matches!(named(&world), Some(Offer::Open(_))), "{:?}", world.path);
    assert_ne!(named(&world), Some(Offer::Open(Some(id("mail-1")))));
}

#[test]
fn a_deadline_ends_as_many_workers_as_offers_are_overdue() {
    let mut world = World::with_idle(3);
    world.report_all(State::Busy);
    let strict = Drain { deadline: Some(Duration::from_secs(60)), ..FREELY };
    world.tick_with(1, strict);
    world.now += 59_000;
    assert_eq!(world.tick_with(1, strict), Plan::default());
    world.now += 1_000;
    world.tick_with(1, strict);
    assert_eq!(world.fleet.iter().filter(|seen| seen.process == Process::Ending).count(), 2);
    let plan = world.tick_with(1, strict);
    assert_eq!(world.fleet.iter().filter(|seen| seen.process == Process::Ending).count(), 2, "and no more");
    assert_eq!(starts(&plan).len(), 0);
}

#[test]
fn programs_without_the_sdk_are_ended_by_a_signal_the_quietest_first() {
    let mut world = World::default();
    world.tick(3);
    for (name, cpu) in [("mail-1", 0.9), ("mail-2", 0.1), ("mail-3", 0.5)] {
        world.seen(name).usage = Some(qscaler_core::fleet::Usage { cpu, memory: 0.0 });
    }
    world.tick_with(2, Drain { by: Leave::Signal, ..FREELY });
    assert_eq!(world.seen("mail-2").process, Process::Ending);
}

#[test]
fn a_drained_worker_is_released_until_it_is_gone_and_then_its_report_deleted() {
    let mut world = World::with_idle(2);
    world.tick(1);
    let epoch = world.path.epoch.clone().unwrap();
    world.path.claim(&epoch, &id("mail-1"));
    world.report("mail-1", State::Drained, 0, 1);
    let plan = world.tick(1);
    let release = Step::Release { worker: id("mail-1"), boot: BootId::new("boot") };
    assert!(plan.steps.contains(&release));
    assert_eq!(world.tick(1).steps, [release], "whoever released it may have died before deleting it");
    world.fleet.retain(|seen| seen.name != "mail-1");
    world.tick(1);
    assert!(!world.reports.contains_key(&id("mail-1")));
}

#[test]
fn who_left_and_whose_process_has_ended_is_removed_and_not_started_again() {
    let mut world = World::with_idle(2);
    world.report("mail-1", State::Drained, 0, 1);
    world.seen("mail-1").process = Process::BackOff { until: Time(0), ended: "exit code 0".into() };
    world.tick(1);
    assert_eq!(world.fleet.iter().map(|seen| seen.name.as_str()).collect::<Vec<_>>(), ["mail-2"]);
}

#[test]
fn a_stored_ledger_keeps_the_fields_of_a_later_version() {
    let text = r#"{"protocol":1,"next":4,"offers":{"3":{"grantedAt":1000,"claimedBy":"w"}},"naming":false,"colour":"blue"}"#;
    let ledger: Ledger = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&ledger).unwrap(), text);
}

/// Two engines that read at different times, workers that claim, a walking target. Whenever a worker
/// leaves, those that still run are at least the least target since the oldest read still in use.
#[test]
fn whatever_the_order_the_running_never_fall_below_the_least_desired() {
    let mut claims = 0;
    for seed in 1..=3_000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut world = World::with_idle(5);
        let mut version = 0;
        let mut targets = vec![5_u32];
        let mut held: [Option<Held>; 2] = [None, None];
        let mut acted_on = 0;
        let mut acted_at = 0;
        for now in 0..200 {
            let engine = random.below(2);
            match random.below(8) {
                0 => targets.push(1 + random.below(6) as u32),
                1 | 2 => {
                    let plan = world.plan(*targets.last().unwrap(), FREELY);
                    held[engine] = Some(Held { plan, version, target: targets.len() - 1, read: now });
                }
                3 | 4 => {
                    let Some(Held { plan, version: read_version, target, read }) = held[engine].take() else {
                        continue;
                    };
                    if plan.ledger.is_some() && read_version != version {
                        continue;
                    }
                    version += usize::from(plan.ledger.is_some());
                    // A plan made before the last one was carried out does not supersede it.
                    acted_on = if read >= acted_at { target } else { acted_on.min(target) };
                    acted_at = now;
                    world.apply(&plan);
                }
                5 => {
                    let worker = world.fleet[random.below(world.fleet.len())].id.clone();
                    let epoch = world.path.epoch.clone().unwrap();
                    if world.path.claim(&epoch, &worker).is_some() {
                        world.fleet.retain(|seen| seen.id != worker);
                        claims += 1;
                        let oldest =
                            held.iter().flatten().map(|it| it.target).chain([acted_on]).min().unwrap();
                        let least = *targets[oldest..].iter().min().unwrap();
                        let run = world.fleet.len();
                        assert!(run >= least as usize, "seed {seed}: {run} run, least target {least}");
                    }
                }
                6 => world.report_all(State::Idle),
                _ => world.now += 700,
            }
        }
    }
    assert!(claims > 10_000, "the walk claims too little to prove anything: {claims}");
}

/// A plan that an engine has made and not yet carried out.
struct Held {
    plan: Plan,
    version: usize,
    target: usize,
    read: usize,
}

/// Xorshift: enough to walk, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
