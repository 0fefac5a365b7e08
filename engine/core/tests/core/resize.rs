//! Who gets its new size, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qscaler_core::fleet::{Inside, Member, Part, Process, Resizing, Restarts, Seen};
use qscaler_core::plan::Step;
use qscaler_core::resize::{
    Exact, Hindrance, Limits, Looked, Range, Resizes, Used, Whole, Why, births, containers, hold_to_ranges,
    resizes,
};
use qscaler_core::time::Time;
use qscaler_core::vertical::{
    Amounts, ContainerKind, Measured, OutOfMemory, Resource, Resources, Settled, Sized, Sizes, Target,
};
use qscaler_protocol::name::WorkerId;

const MI: f64 = 1_048_576.0;
/// Long after every worker was made.
const NOW: Time = Time(3_600_000);

/// Workers `mail-1` and so on with one container of 16 to 32 Mi, and what they are to have.
struct World {
    parts: Vec<Part>,
    sizes: Sizes,
    members: Vec<Member>,
    used: Used,
    refused: Vec<(BTreeMap<String, Exact>, Hindrance)>,
    named: BTreeSet<WorkerId>,
    can_replace: bool,
}

fn memory(request: f64, limit: f64) -> Amounts {
    Amounts { request: Some(request * MI), limit: Some(limit * MI) }
}

fn of_memory(memory: Amounts) -> Resources {
    Resources { memory, ..Resources::default() }
}

fn id(number: usize) -> WorkerId {
    WorkerId::new(format!("worker-{number}"))
}

impl World {
    /// Every worker is to have 32 to 64 Mi.
    fn of(workers: usize) -> Self {
        let template = of_memory(memory(16.0, 32.0));
        let member = |number| {
            let inside = Inside { name: "worker".into(), asked: template, ..Inside::default() };
            let mut seen =
                Seen::new(id(number), format!("mail-{number}"), Process::Running, Time(number as i64));
            seen.containers = vec![inside];
            Member {
                seen,
                leaving: false,
                registered: true,
                slots: 1,
                busy_slots: 1,
                state_since: None,
                drained: None,
            }
        };
        let mut world = Self {
            parts: vec![Part { name: "worker".into(), kind: ContainerKind::Main, template }],
            sizes: Sizes::default(),
            members: (1..=workers).map(member).collect(),
            used: Used::new(),
            refused: vec![],
            named: BTreeSet::new(),
            can_replace: true,
        };
        world.want(memory(32.0, 64.0));
        world
    }

    fn want(&mut self, amounts: Amounts) {
        let sized =
            Sized { amounts, because: Settled::Target, asked: None, unkilled: 0.0, note: String::new() };
        let resize = self.members.iter().map(|member| member.seen.id.clone()).collect();
        let target = Target { memory: Some(sized), resize, ..Target::default() };
        self.sizes.containers = BTreeMap::from([("worker".to_owned(), target)]);
    }

    fn inside(&mut self, number: usize) -> &mut Inside {
        &mut self.members[number - 1].seen.containers[0]
    }

    fn uses(&mut self, number: usize, mebibytes: f64) {
        let measured = Measured { at: NOW, cpu: None, memory: Some(mebibytes * MI) };
        self.used.insert((id(number), "worker".into()), measured);
    }

    fn resizes(&self) -> Resizes {
        resizes(&Looked {
            parts: &self.parts,
            sizes: &self.sizes,
            members: &self.members,
            used: &self.used,
            refused: &self.refused,
            named: &self.named,
            can_replace: self.can_replace,
            now: NOW,
        })
    }

    /// Who is resized in place, who is replaced, and why others are neither.
    fn told(&self) -> (Vec<String>, Option<String>, Vec<Why>) {
        let resizes = self.resizes();
        let resized = resizes.steps.iter().map(|step| match step {
            Step::Resize { worker, .. } => worker.to_string(),
            other => panic!("{other:?}"),
        });
        let why = resizes.hindrances.iter().map(|it| it.why).collect();
        (resized.collect(), resizes.replace.as_ref().map(WorkerId::to_string), why)
    }
}

fn exact(request: u64, limit: u64) -> Exact {
    let whole = |mebibytes: u64| Some(mebibytes << 20);
    Exact { memory: Whole { request: whole(request), limit: whole(limit) }, ..Exact::default() }
}

#[test]
fn busy_workers_are_resized_in_place() {
    let world = World::of(2);
    let resizes = world.resizes();
    let containers = BTreeMap::from([("worker".to_owned(), exact(32, 64))]);
    let expected: Vec<_> =
        [1, 2].map(|number| Step::Resize { worker: id(number), containers: containers.clone() }).into();
    assert_eq!(resizes, Resizes { steps: expected, ..Resizes::default() });
}

#[test]
fn what_was_asked_for_is_not_asked_for_again() {
    let mut world = World::of(1);
    world.inside(1).asked = of_memory(memory(32.0, 64.0));
    world.inside(1).applied = Some(of_memory(memory(16.0, 32.0)));
    assert_eq!(world.told(), (vec![], None, vec![]));
    world.members[0].seen.resizing = Some(Resizing::InProgress);
    assert_eq!(world.told(), (vec![], None, vec![]));
}

#[test]
fn a_change_of_less_than_a_twentieth_is_none() {
    let mut world = World::of(1);
    world.want(memory(16.0 * 1.04, 32.0 * 1.04));
    assert_eq!(world.told(), (vec![], None, vec![]));
    world.want(memory(16.0 * 1.06, 32.0 * 1.06));
    assert_eq!(world.told().0, ["worker-1"]);
}

#[test]
fn amounts_that_the_target_does_not_name_stay() {
    let mut world = World::of(1);
    let cpu = Amounts { request: Some(0.005), limit: Some(0.1) };
    world.inside(1).asked.cpu = cpu;
    let resizes = world.resizes();
    let Step::Resize { containers, .. } = &resizes.steps[0] else { panic!("{resizes:?}") };
    assert_eq!(containers["worker"].cpu, Whole { request: Some(5), limit: Some(100) });
}

#[test]
fn one_that_never_fits_its_node_is_replaced_and_only_one_at_a_time() {
    let mut world = World::of(3);
    for number in 1..=3 {
        world.inside(number).asked = of_memory(memory(32.0, 64.0));
        let message = "Node didn't have enough capacity".to_owned();
        world.members[number - 1].seen.resizing = Some(Resizing::Infeasible { message });
    }
    // What there is to say names each of them.
    assert_eq!(world.told(), (vec![], Some("worker-1".into()), vec![Why::Infeasible; 3]));
    // Whoever is asked already stays the one.
    world.named.insert(id(2));
    assert_eq!(world.resizes().replace, Some(id(2)));
    world.named.clear();
    // While one is on its way out, nobody else is asked.
    world.members[0].leaving = true;
    assert_eq!(world.resizes().replace, None);
    // A rollout replaces them all.
    world.members[0].leaving = false;
    world.members[2].seen.outdated = true;
    assert_eq!(world.resizes().replace, None);
    world.members[2].seen.outdated = false;
    // What something else makes is not replaced.
    world.can_replace = false;
    assert_eq!(world.resizes().replace, None);
}

#[test]
fn a_young_worker_is_not_replaced_for_its_size() {
    let mut world = World::of(1);
    world.inside(1).asked = of_memory(memory(32.0, 64.0));
    world.members[0].seen.resizing = Some(Resizing::Infeasible { message: "no room".into() });
    world.members[0].seen.since = NOW - Duration::from_secs(599);
    assert_eq!(world.told(), (vec![], None, vec![Why::Infeasible]));
    world.members[0].seen.since = NOW - Duration::from_secs(600);
    assert_eq!(world.resizes().replace, Some(id(1)));
}

#[test]
fn a_deferred_resize_is_waited_for_five_minutes() {
    let mut world = World::of(1);
    world.inside(1).asked = of_memory(memory(32.0, 64.0));
    let mut deferred = |seconds| {
        let since = NOW - Duration::from_secs(seconds);
        world.members[0].seen.resizing = Some(Resizing::Deferred { since, message: "full".into() });
        world.told()
    };
    assert_eq!(deferred(299), (vec![], None, vec![Why::Deferred]));
    assert_eq!(deferred(300), (vec![], Some("worker-1".into()), vec![Why::Deferred]));
}

#[test]
fn a_container_that_a_change_restarts_is_not_changed_in_place_even_if_its_worker_is_idle() {
    let mut world = World::of(2);
    for number in 1..=2 {
        world.inside(number).restarts = Restarts { cpu: false, memory: true };
    }
    world.members[1].busy_slots = 0;
    let (resized, replaced, why) = world.told();
    assert_eq!((resized, replaced), (vec![], Some("worker-1".into())));
    assert!(why.iter().all(|why| *why == Why::Restarts));
    world.can_replace = false;
    assert_eq!(world.resizes().replace, None);
    // One that does not run cannot be interrupted.
    world.members[0].seen.process = Process::BackOff { until: NOW, ended: "OOMKilled".into() };
    assert_eq!(world.told().0, ["worker-1"]);
    // A change of the processor restarts nothing here.
    world.inside(1).restarts = Restarts { cpu: true, memory: false };
    world.members[0].seen.process = Process::Running;
    assert_eq!(world.told().0, ["worker-1"]);
}

#[test]
fn a_limit_does_not_fall_below_what_is_used() {
    let mut world = World::of(1);
    world.want(memory(8.0, 16.0));
    assert_eq!(world.told(), (vec![], None, vec![Why::NoUsage]), "what it uses is not known");
    world.uses(1, 20.0);
    assert_eq!(world.told(), (vec![], None, vec![Why::BelowUse]));
    let resizes = world.resizes();
    let told = &resizes.hindrances.first().unwrap().message;
    assert!(told.contains("mail-1") && told.contains("16Mi"), "{told}");
    world.uses(1, 15.0);
    assert_eq!(world.told(), (vec!["worker-1".into()], None, vec![]));
}

#[test]
fn what_was_refused_to_one_is_asked_for_nobody() {
    let mut world = World::of(2);
    let same = BTreeMap::from([("worker".to_owned(), exact(32, 64))]);
    world.refused = vec![(same, Hindrance { why: Why::Quota, message: "exceeded quota".into() })];
    assert_eq!(world.told(), (vec![], None, vec![Why::Quota]));
    // Another size is.
    world.want(memory(20.0, 40.0));
    assert_eq!(world.told().0, ["worker-1", "worker-2"]);
}

#[test]
fn an_init_container_has_its_size_at_birth_only() {
    let mut world = World::of(1);
    world.parts[0].kind = ContainerKind::Init;
    assert_eq!(world.told(), (vec![], None, vec![]));
    assert_eq!(births(&world.parts, &world.sizes)["worker"], exact(32, 64));
    world.parts[0].kind = ContainerKind::Sidecar;
    assert_eq!(world.told().0, ["worker-1"]);
}

#[test]
fn few_are_resized_in_one_tick() {
    assert_eq!(World::of(25).told().0.len(), 10);
}

#[test]
fn a_new_worker_gets_only_what_differs_from_its_template() {
    let mut world = World::of(0);
    assert_eq!(births(&world.parts, &world.sizes)["worker"], exact(32, 64));
    world.want(memory(16.0, 32.0));
    assert_eq!(births(&world.parts, &world.sizes), BTreeMap::new());
}

#[test]
fn what_a_namespace_allows_bounds_a_target_and_is_told_with_what_to_type() {
    let mut world = World::of(1);
    let range = |min: Option<f64>, max: Option<f64>, default: Option<f64>| {
        let of = |it: Option<f64>| it.map(|it| it * MI);
        [Range {
            name: "small".into(),
            resource: Resource::Memory,
            min: of(min),
            max: of(max),
            default: of(default),
        }]
    };
    let mut held = |ranges: &[Range], amounts: Amounts| {
        world.want(amounts);
        let told = hold_to_ranges(ranges, &mut world.sizes);
        let sized = world.sizes.containers["worker"].memory.clone().unwrap();
        (sized.amounts, told.into_iter().next().map(|it| (it.why, it.message)))
    };
    let (amounts, told) = held(&range(None, Some(40.0), None), memory(32.0, 64.0));
    assert_eq!(amounts, memory(32.0, 40.0));
    let (why, message) = told.unwrap();
    assert_eq!(why, Why::LimitRange);
    assert!(message.contains("`small`") && message.contains("write `max: 40Mi` for memory"), "{message}");
    let (amounts, told) = held(&range(Some(48.0), None, None), memory(32.0, 64.0));
    assert_eq!(amounts, memory(48.0, 64.0));
    assert!(told.unwrap().1.contains("lower it there, or write `min: 48Mi`"));
    assert_eq!(held(&range(Some(16.0), Some(64.0), None), memory(32.0, 64.0)), (memory(32.0, 64.0), None));
    // Who has no limit is given one by the namespace, and the request is to fit under it.
    let unlimited = Amounts { limit: None, ..memory(32.0, 0.0) };
    assert_eq!(held(&range(None, Some(64.0), Some(16.0)), unlimited), (memory(32.0, 32.0), None));
    assert_eq!(held(&range(None, Some(64.0), Some(48.0)), unlimited), (memory(32.0, 48.0), None));
}

#[test]
fn a_limit_that_somebody_else_gave_rises_with_the_request() {
    let mut world = World::of(1);
    world.want(Amounts { limit: None, ..memory(64.0, 0.0) });
    match &world.resizes().steps[..] {
        [Step::Resize { containers, .. }] => assert_eq!(containers["worker"], exact(64, 64)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kill_carries_what_was_used_before_it() {
    let mut world = World::of(1);
    world.uses(1, 30.0);
    let kill = OutOfMemory { at: NOW, limit: Some(32.0 * MI), used: None };
    world.inside(1).kill = Some(kill);
    world.inside(1).applied = Some(of_memory(memory(16.0, 48.0)));
    let fleet = [world.members[0].seen.clone()];
    let found = containers(&world.parts, &fleet, &world.used, &mut Limits::default());
    assert_eq!(found[0].kills, [OutOfMemory { used: Some(30.0 * MI), ..kill }]);
    assert_eq!(found[0].runs[0].current.memory, memory(16.0, 48.0));
    assert_eq!(found[0].template.memory, memory(16.0, 32.0));
}

#[test]
fn a_kill_is_told_with_what_its_container_ran_with() {
    let mut world = World::of(1);
    let mut limits = Limits::default();
    let mut seen = |world: &World, kill: Option<OutOfMemory>, has: f64, runs: bool| {
        let mut seen = world.members[0].seen.clone();
        seen.containers[0].applied = Some(of_memory(memory(16.0, has)));
        seen.containers[0].kill = kill;
        seen.containers[0].since = runs.then_some(NOW);
        let found = containers(&world.parts, &[seen], &world.used, &mut limits);
        found[0].kills.first().and_then(|it| it.limit).map(|limit| limit / MI)
    };
    let kill = |at: i64, limit: f64| Some(OutOfMemory { at: Time(at), limit: Some(limit * MI), used: None });
    assert_eq!(seen(&world, None, 32.0, true), None);
    // It was given more after it was killed, and before that was seen.
    assert_eq!(seen(&world, kill(1_000, 64.0), 64.0, true), Some(32.0));
    assert_eq!(seen(&world, kill(1_000, 64.0), 64.0, true), Some(32.0), "the same kill");
    assert_eq!(seen(&world, kill(2_000, 64.0), 64.0, false), Some(64.0));
    // Who is seen for the first time had what it has.
    world.members[0].seen.id = id(2);
    assert_eq!(seen(&world, kill(3_000, 48.0), 48.0, true), Some(48.0));
}

#[test]
fn a_container_that_does_not_run_is_not_changed_in_place() {
    let mut world = World::of(2);
    world.inside(1).down = true;
    assert_eq!(world.told(), (vec!["worker-2".to_owned()], None, vec![]));
}

#[test]
fn a_worker_whose_process_has_ended_is_made_anew_with_its_size() {
    let mut world = World::of(2);
    world.members[0].seen.process = Process::BackOff { until: NOW, ended: "OOMKilled, exit code 137".into() };
    world.inside(1).down = true;
    let removes = |world: &World| match &world.resizes().steps[..] {
        [Step::Remove { worker }, Step::Resize { .. }] => worker.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(removes(&world), "worker-1");
    // Where something else makes the workers, a new one has the template's size, too.
    world.can_replace = false;
    assert_eq!(world.told().0, ["worker-2"]);
    // Nor is it worth it when it has its size.
    world.can_replace = true;
    world.want(memory(16.0, 32.0));
    assert_eq!(world.resizes().steps, []);
}

#[test]
fn amounts_are_read_by_people() {
    let cpu = Whole { request: Some(250), limit: None };
    assert_eq!(Exact { cpu, ..exact(64, 1024) }.to_string(), "cpu 250m, memory 64Mi to 1Gi");
    let memory = Whole { request: None, limit: Some(100_000_000) };
    assert_eq!(Exact { memory, ..Exact::default() }.to_string(), "memory up to 95.37Mi");
}
