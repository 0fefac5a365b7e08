//! The engine's loop in a world of its own: time is paused and jumps to the next event, so hours pass
//! in seconds, and one seed gives one run.

use std::time::Duration;

use qscaler::engine::{Engine, Mode};
use qscaler_core::catalog::{Assignment, Catalog, Found};

use crate::fixture::{counts, seed};
use crate::world::World;

const RULE: &str = include_str!("../../../../rules/rate-and-backlog.yaml");
const WORKLOAD: &str = "apiVersion: qscaler.dev/v1alpha1
kind: Workload
metadata: {name: work}
spec:
  target: {command: [worker]}
  source: {type: sqlite, url: \"sqlite:q.db\"}
  queues: [{name: work}]
  rule: rate-and-backlog
  mode: act
  params: {workersMax: 12}
";

fn assignments() -> Vec<(Assignment, Mode)> {
    let files = [("rule.yaml", RULE), ("workload.yaml", WORKLOAD)];
    let found = files.map(|(path, text)| Found { path: path.into(), text: Ok(text.into()) });
    let update = Catalog::default().update(found.into());
    assert_eq!(update.problems, []);
    update.catalog.assignments().into_iter().map(|assignment| (assignment, Mode::Keep)).collect()
}

fn engine_in(world: &World) -> Engine {
    let mut engine = Engine::new(world.ports());
    engine.set(assignments(), Mode::Drain);
    world.begin();
    engine
}

/// Runs something on one thread with paused time.
fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A load that comes and goes, an outage, another engine, and the end.
fn live(seed: u64) -> World {
    in_paused_time(async {
        let world = World::new(seed);
        let engine = engine_in(&world);
        for (arrivals_per_mille, seconds) in [(0, 20), (80, 60), (400, 60), (20, 90)] {
            world.at(|state| state.arrivals_per_mille = arrivals_per_mille);
            pass(seconds).await;
        }
        world.at(|state| state.down = true);
        pass(30).await;
        world.at(|state| state.down = false);
        let mut second = Engine::new(world.ports());
        second.set(assignments(), Mode::Drain);
        world.at(|state| state.arrivals_per_mille = 200);
        pass(60).await;
        world.at(|state| state.arrivals_per_mille = 0);
        pass(60).await;
        engine.turn(Mode::Drain);
        second.turn(Mode::Drain);
        engine.all_let_go().await;
        second.all_let_go().await;
        world
    })
}

#[test]
fn one_seed_gives_one_event_log() {
    for seed in seed()..seed() + counts(30) {
        let (first, second, other) = (live(seed), live(seed), live(seed + 1_000_000));
        let log = |world: &World| world.at(|state| state.events.clone());
        let (first_log, second_log) = (log(&first), log(&second));
        let differs = first_log.iter().zip(&second_log).position(|(a, b)| a != b);
        assert!(
            differs.is_none() && first_log.len() == second_log.len(),
            "seed {seed}: at event {differs:?}"
        );
        assert!(first_log.len() > 500, "seed {seed}: only {} events", first_log.len());
        assert_ne!(first_log, log(&other), "another seed is another run");
    }
}

#[test]
fn through_load_outage_and_a_second_engine_no_task_is_interrupted_and_all_leave_at_the_end() {
    for seed in seed()..seed() + counts(100) {
        let world = live(seed);
        let (interrupted, most) = world.at(|state| (state.interrupted, state.most_workers));
        assert_eq!(interrupted, 0, "seed {seed}");
        assert_eq!(world.workers(), 0, "seed {seed}");
        assert!((6..=12).contains(&most), "seed {seed}: at most {most} workers");
    }
}

#[test]
fn an_outage_lowers_nothing() {
    in_paused_time(async {
        let world = World::new(seed());
        let _engine = engine_in(&world);
        world.at(|state| state.arrivals_per_mille = 300);
        pass(90).await;
        let before = world.workers();
        assert!(before >= 6, "{before} workers");
        world.at(|state| state.down = true);
        pass(120).await;
        assert_eq!(world.workers(), before);
    });
}

#[test]
fn nobody_who_says_what_containers_use_delays_a_tick_and_it_is_told() {
    in_paused_time(async {
        let world = World::new(seed());
        world.at(|state| state.mute = true);
        let sized = "  resources: [{container: worker, memory: {request: usage.memory * 1.1}}]\n";
        let files = [
            ("rule.yaml", format!("{RULE}{sized}")),
            ("workload.yaml", format!("{WORKLOAD}  vertical: true\n")),
        ];
        let found = files.map(|(path, text)| Found { path: path.into(), text: Ok(text) });
        let update = Catalog::default().update(found.into());
        assert_eq!(update.problems, []);
        let keep = |assignment: Assignment| (assignment, Mode::Keep);
        let mut engine = Engine::new(world.ports());
        engine.set(update.catalog.assignments().into_iter().map(keep).collect(), Mode::Drain);
        world.begin();
        world.at(|state| state.arrivals_per_mille = 300);
        pass(90).await;
        let workers = world.workers();
        assert!(workers >= 6, "{workers} workers");
        let told = world.at(|state| state.events.iter().any(|it| it.contains("NoUsage")));
        assert!(told, "nobody answers, and that is told");
    });
}

/// First process within 1.5 s after the first task.
async fn first_task_starts_a_worker(world: &World, situation: &str) {
    let (put_at, started) = (world.now(), world.at(|state| state.starts.len()));
    world.put_task();
    pass(10).await;
    let starts = world.at(|state| state.starts.clone());
    let first = starts.get(started).unwrap_or_else(|| panic!("{situation}: no worker was started"));
    let reaction = first.since(put_at);
    assert!(reaction <= Duration::from_millis(1500), "{situation}: {reaction:?}");
}

#[test]
fn from_zero_the_first_worker_starts_at_once() {
    in_paused_time(async {
        let world = World::new(seed());
        let _engine = engine_in(&world);
        first_task_starts_a_worker(&world, "a new workload").await;
        pass(120).await;
        assert_eq!(world.workers(), 0, "back to zero");
        pass(12 * 3600).await;
        assert_eq!(world.workers(), 0);
        first_task_starts_a_worker(&world, "idle at zero for twelve hours").await;
    });
    in_paused_time(async {
        let world = World::new(seed());
        world.at(|state| state.silent = true);
        let _engine = engine_in(&world);
        first_task_starts_a_worker(&world, "workers that report nothing").await;
    });
}

#[test]
fn a_workload_whose_file_is_removed_lets_its_workers_finish() {
    in_paused_time(async {
        let world = World::new(seed());
        let mut engine = engine_in(&world);
        world.at(|state| state.arrivals_per_mille = 300);
        pass(60).await;
        assert!(world.workers() > 3);
        engine.set(vec![], Mode::Drain);
        engine.all_let_go().await;
        assert_eq!((world.workers(), world.at(|state| state.interrupted)), (0, 0));
    });
}

/// A worker that seemed to have no process and has one cannot be removed, and is there beside whoever was to
/// take its place.
#[test]
fn nobody_is_started_in_the_place_of_a_worker_that_is_still_there() {
    in_paused_time(async {
        let world = World::new(seed());
        world.put_unborn("work-1");
        world.put_unborn("work-2");
        let _engine = engine_in(&world);
        world.at(|state| state.arrivals_per_mille = 1_000);
        pass(60).await;
        assert_eq!((world.workers(), world.at(|state| state.most_workers)), (12, 12));
    });
}
