//! Every queue system keeps offers as the reference does: random operations on both, equal answers and
//! equal contents after each.

use std::collections::BTreeMap;

use qscaler::ports::{Adopt, QueueSystem};
use qscaler_protocol::PROTOCOL;
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Opening, Path};
use qscaler_protocol::report::{Durations, Report, State};
use qscaler_worker::Queue;

use crate::fixture::counts;
use crate::world::Random;

/// A worker's connection for each worker of the test.
pub(crate) type Workers = BTreeMap<WorkerId, std::sync::Arc<dyn Queue>>;

pub(crate) fn worker_ids() -> Vec<WorkerId> {
    ["w1", "w2", "w3", "w4"].map(WorkerId::new).into()
}

fn report(worker: &WorkerId, state: State) -> Report {
    Report {
        protocol: PROTOCOL,
        worker: worker.clone(),
        boot: BootId::new("boot"),
        state,
        state_ms: 5,
        slots: 1,
        busy_slots: 0,
        done: 3,
        failed: 0,
        late_acks: 0,
        busy_ms: 1200,
        durations: Durations::default(),
        claim: None,
        epoch: None,
        pid: None,
    }
}

/// Walks over one queue system and the reference at the same time.
pub(crate) async fn agree_with_the_reference(system: &QueueSystem, workers: &Workers, seed: u64) {
    let control = &system.control;
    let uid = WorkloadUid::new(format!("uid-{seed}"));
    let mut reference = Path::default();
    let mut random = Random::new(seed);
    let epochs: Vec<Epoch> = (0..4).map(|number| Epoch::new(format!("epoch{number}"))).collect();
    let names = worker_ids();
    for step in 0..counts(4_000) {
        let epoch =
            reference.epoch.clone().filter(|_| random.below(8) > 0).unwrap_or_else(|| random.pick(&epochs));
        let id = OfferId(reference.floor.0 + random.below(7));
        let worker = random.pick(&names);
        let what = format!("seed {seed} step {step}");
        match random.below(10) {
            0 => {
                let seen = reference.epoch.clone().filter(|_| random.below(4) > 0);
                let fresh = random.pick(&epochs);
                let claims = BTreeMap::from([(OfferId(reference.floor.0 + 2), worker)]);
                let adopt =
                    Adopt { seen: seen.as_ref(), epoch: &fresh, floor: reference.floor, claims: &claims };
                let answer = control.adopt(&uid, adopt).await.unwrap();
                assert_eq!(
                    answer,
                    reference.adopt(seen.as_ref(), fresh.clone(), reference.floor, &claims),
                    "{what}"
                );
            }
            1..=3 => {
                let named = (random.below(3) == 0).then_some(worker);
                let offers = BTreeMap::from([(id, Offer::Open(named)), (id.next(), Offer::Open(None))]);
                assert_eq!(
                    control.project(&uid, &epoch, &offers).await.unwrap(),
                    reference.project(&epoch, &offers),
                    "{what}"
                );
            }
            4 => {
                let answer = control.withdraw(&uid, &epoch, id).await.unwrap();
                assert_eq!(answer, reference.withdraw(&epoch, id), "{what}");
            }
            5 => {
                let answer = control.raise_floor(&uid, &epoch, id).await.unwrap();
                assert_eq!(answer, reference.raise_floor(&epoch, id), "{what}");
            }
            6 | 7 => {
                let answer = workers[&worker].claim(&epoch).await.unwrap();
                assert_eq!(answer, reference.claim(&epoch, &worker), "{what}");
            }
            _ => {
                let answer = workers[&worker].report(&report(&worker, State::Idle)).await.unwrap();
                assert_eq!(answer.epoch, reference.epoch, "{what}");
                if reference.epoch.is_some() {
                    assert_eq!(answer.opening, reference.opening(&worker), "{what}");
                    assert_eq!(answer.claim, reference.claim_of(&worker), "{what}");
                }
            }
        }
        let (path, _) = control.read(&uid).await.unwrap();
        assert_eq!(path, reference, "{what}");
    }
}

/// What workers report is read back with the epoch of its moment; a drained one is released once.
pub(crate) async fn carry_reports(system: &QueueSystem, workers: &Workers, uid: &WorkloadUid) {
    let control = &system.control;
    let worker = WorkerId::new("w1");
    workers[&worker].report(&report(&worker, State::Idle)).await.unwrap();
    let (_, reports) = control.read(uid).await.unwrap();
    assert_eq!(reports[&worker].report, report(&worker, State::Idle));
    assert_eq!(reports[&worker].epoch, None, "there was no epoch yet");
    let epoch = Epoch::new("first");
    let none = BTreeMap::new();
    let adopt = Adopt { seen: None, epoch: &epoch, floor: OfferId(0), claims: &none };
    assert!(control.adopt(uid, adopt).await.unwrap());
    workers[&worker].report(&report(&worker, State::Drained)).await.unwrap();
    let (_, reports) = control.read(uid).await.unwrap();
    assert_eq!(reports[&worker].epoch, Some(epoch));
    assert!(
        !control.release(uid, &worker, &BootId::new("another")).await.unwrap(),
        "another boot has not drained"
    );
    assert!(control.release(uid, &worker, &BootId::new("boot")).await.unwrap());
    let answer = workers[&worker].report(&report(&worker, State::Starting)).await.unwrap();
    assert!(answer.released && answer.opening == Opening::None);
    control.forget(uid, &worker).await.unwrap();
    assert_eq!(control.read(uid).await.unwrap().1.len(), 0);
}

/// Who has reported lately is not barred; who has not takes nothing when it begins after all.
pub(crate) async fn bar_the_unborn(system: &QueueSystem, workers: &Workers, uid: &WorkloadUid) {
    let control = &system.control;
    let (born, unborn) = (WorkerId::new("w1"), WorkerId::new("w2"));
    workers[&born].report(&report(&born, State::Busy)).await.unwrap();
    assert!(!control.bar(uid, &born).await.unwrap());
    for _ in 0..2 {
        assert!(control.bar(uid, &unborn).await.unwrap());
    }
    let answer = workers[&unborn].report(&report(&unborn, State::Starting)).await.unwrap();
    assert!(answer.released);
    assert!(!workers[&born].report(&report(&born, State::Busy)).await.unwrap().released);
    let (_, reports) = control.read(uid).await.unwrap();
    assert!(reports[&unborn].released && !reports[&born].released);
    for worker in [&born, &unborn] {
        control.forget(uid, worker).await.unwrap();
    }
    assert_eq!(control.read(uid).await.unwrap().1.len(), 0);
}
