//! What both sides of the protocol rely on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod conformance;

use std::collections::BTreeMap;

use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{Epoch, OfferId, WorkerId};
use qscaler_protocol::path::{Offer, Opening, Path, Withdrawal};
use qscaler_protocol::report::{Answer, Durations, State};

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

fn epoch() -> Epoch {
    Epoch::new("first")
}

fn path_with_open(ids: &[u64]) -> Path {
    let mut path = Path::default();
    assert!(path.adopt(None, epoch(), OfferId(0), &BTreeMap::new()));
    assert!(path.project(&epoch(), &ids.iter().map(|id| (OfferId(*id), Offer::Open(None))).collect()));
    path
}

fn answer(opening: Opening) -> Input {
    Input::Answered(Answer { epoch: Some(epoch()), opening, ..Answer::default() })
}

mod path {
    use super::*;

    #[test]
    fn projecting_twice_changes_nothing_and_never_overwrites_a_claim() {
        let mut path = path_with_open(&[1, 2]);
        assert_eq!(path.claim(&epoch(), &worker("a")), Some(OfferId(1)));
        let once = path.clone();
        path.project(
            &epoch(),
            &BTreeMap::from([(OfferId(1), Offer::Open(None)), (OfferId(2), Offer::Open(None))]),
        );
        assert_eq!(path, once);
    }

    #[test]
    fn one_offer_goes_to_one_worker_and_one_worker_has_one_claim() {
        let mut path = path_with_open(&[1]);
        assert_eq!(path.claim(&epoch(), &worker("a")), Some(OfferId(1)));
        assert_eq!(path.claim(&epoch(), &worker("a")), Some(OfferId(1)), "asking again returns the claim");
        assert_eq!(path.claim(&epoch(), &worker("b")), None);
    }

    #[test]
    fn an_offer_that_names_a_worker_goes_to_nobody_else() {
        let mut path = path_with_open(&[1]);
        path.project(&epoch(), &BTreeMap::from([(OfferId(2), Offer::Open(Some(worker("b"))))]));
        assert_eq!(path.opening(&worker("b")), Opening::Named);
        assert_eq!(path.claim(&epoch(), &worker("a")), Some(OfferId(1)));
        assert_eq!(path.claim(&epoch(), &worker("c")), None);
        assert_eq!(path.claim(&epoch(), &worker("b")), Some(OfferId(2)));
    }

    #[test]
    fn a_withdrawn_offer_stays_withdrawn_also_when_it_was_never_written() {
        let mut path = path_with_open(&[]);
        assert_eq!(path.withdraw(&epoch(), OfferId(1)), Withdrawal::Done);
        path.project(&epoch(), &BTreeMap::from([(OfferId(1), Offer::Open(None))]));
        assert_eq!(path.claim(&epoch(), &worker("a")), None);
    }

    #[test]
    fn a_claimed_offer_cannot_be_withdrawn() {
        let mut path = path_with_open(&[1]);
        path.claim(&epoch(), &worker("a"));
        assert_eq!(path.withdraw(&epoch(), OfferId(1)), Withdrawal::Claimed(worker("a")));
    }

    #[test]
    fn nothing_at_or_under_the_floor_is_written_again() {
        let mut path = path_with_open(&[1, 2]);
        assert!(path.raise_floor(&epoch(), OfferId(2)));
        path.project(&epoch(), &BTreeMap::from([(OfferId(2), Offer::Open(None))]));
        assert_eq!(path.withdraw(&epoch(), OfferId(1)), Withdrawal::Stale);
        assert!(path.raise_floor(&epoch(), OfferId(1)), "a lower floor is no error");
        assert_eq!((path.floor, path.offers.len()), (OfferId(2), 0), "and does not lower it");
    }

    #[test]
    fn another_epoch_does_nothing() {
        let mut path = path_with_open(&[1]);
        let before = path.clone();
        let other = Epoch::new("other");
        assert!(!path.project(&other, &BTreeMap::from([(OfferId(9), Offer::Open(None))])));
        assert_eq!(path.claim(&other, &worker("a")), None);
        assert_eq!(path.withdraw(&other, OfferId(1)), Withdrawal::Stale);
        assert!(!path.raise_floor(&other, OfferId(5)));
        assert!(!path.adopt(None, other, OfferId(0), &BTreeMap::new()), "the epoch that was seen is gone");
        assert_eq!(path, before);
    }

    #[test]
    fn a_new_epoch_keeps_the_claims_that_are_known_and_drops_the_rest() {
        let mut path = path_with_open(&[1, 2]);
        let claims = BTreeMap::from([(OfferId(1), worker("a"))]);
        assert!(path.adopt(Some(&epoch()), Epoch::new("second"), OfferId(0), &claims));
        assert_eq!(path.offers, BTreeMap::from([(OfferId(1), Offer::Claimed(worker("a")))]));
    }
}

mod lifecycle {
    use super::*;

    fn open(slots: u32) -> Lifecycle {
        let mut life = Lifecycle::new(slots);
        assert_eq!(life.step(answer(Opening::None)), [Action::Report]);
        assert_eq!(life.step(answer(Opening::None)), []);
        life
    }

    fn fetch(life: &mut Lifecycle, task: bool) -> Vec<Action> {
        assert!(life.may_fetch());
        life.step(Input::FetchStarted);
        life.step(Input::FetchEnded { task })
    }

    #[test]
    fn nothing_is_fetched_before_the_first_report_was_answered() {
        assert!(!Lifecycle::new(1).may_fetch());
        assert!(open(1).may_fetch());
    }

    #[test]
    fn an_idle_worker_claims_at_once_and_takes_nothing_afterwards() {
        let mut life = open(1);
        assert_eq!(life.step(answer(Opening::Any)), [Action::Claim]);
        assert!(!life.may_fetch(), "the gate closes before the claim");
        assert_eq!(life.step(Input::Claimed(Some(OfferId(7)))), [Action::Report, Action::RunHook]);
        assert_eq!(life.step(Input::HookEnded), [Action::Report]);
        assert_eq!(life.state(), State::Drained);
        assert_eq!(life.step(Input::Reported), [Action::Leave]);
        assert_eq!(life.claim(), Some(OfferId(7)));
    }

    #[test]
    fn a_lost_claim_opens_the_gate_again() {
        let mut life = open(1);
        life.step(answer(Opening::Any));
        assert_eq!(life.step(Input::Claimed(None)), []);
        assert!(life.may_fetch());
    }

    #[test]
    fn who_hears_of_another_epoch_says_at_once_that_it_knows_it() {
        let mut life = open(1);
        assert_eq!(life.counts_in(), Some(&epoch()));
        let second = Some(Epoch::new("second"));
        let found = Answer { epoch: second.clone(), ..Answer::default() };
        assert_eq!(life.step(Input::Answered(found)), [Action::Report]);
        assert_eq!(life.counts_in(), second.as_ref());
    }

    #[test]
    fn nobody_counts_on_a_worker_while_its_claim_is_on_the_way() {
        let mut life = open(1);
        life.step(answer(Opening::Any));
        assert_eq!(life.epoch(), Some(&epoch()), "the claim names it");
        assert_eq!(life.counts_in(), None);
        life.step(Input::Claimed(None));
        assert_eq!(life.counts_in(), Some(&epoch()));
    }

    #[test]
    fn a_busy_worker_claims_when_its_task_ends() {
        let mut life = open(1);
        fetch(&mut life, true);
        assert_eq!(life.step(answer(Opening::Any)), []);
        assert_eq!(life.state(), State::Busy);
        assert_eq!(life.step(Input::TaskEnded), [Action::Claim]);
    }

    #[test]
    fn a_fetch_under_way_is_ended_before_the_claim() {
        let mut life = open(1);
        life.step(Input::FetchStarted);
        assert_eq!(life.step(answer(Opening::Any)), [Action::StopFetching]);
        assert_eq!(life.step(Input::FetchEnded { task: false }), [Action::Claim]);
    }

    #[test]
    fn a_task_that_came_while_the_gate_closed_is_worked_off_first() {
        let mut life = open(1);
        life.step(Input::FetchStarted);
        life.step(answer(Opening::Any));
        assert_eq!(life.step(Input::FetchEnded { task: true }), [Action::Report]);
        assert_eq!(life.step(Input::TaskEnded), [Action::Claim]);
    }

    #[test]
    fn with_several_slots_an_offer_to_anybody_does_not_stop_the_filling() {
        let mut life = open(2);
        fetch(&mut life, true);
        life.step(answer(Opening::Any));
        assert!(life.may_fetch());
    }

    #[test]
    fn with_several_slots_an_offer_that_names_the_worker_does() {
        let mut life = open(2);
        fetch(&mut life, true);
        assert_eq!(life.step(answer(Opening::Named)), []);
        assert!(!life.may_fetch());
        assert_eq!(life.step(Input::TaskEnded), [Action::Claim]);
    }

    #[test]
    fn a_named_offer_that_is_withdrawn_opens_the_gate() {
        let mut life = open(2);
        fetch(&mut life, true);
        life.step(answer(Opening::Named));
        life.step(answer(Opening::None));
        assert!(life.may_fetch());
    }

    #[test]
    fn who_is_told_to_end_finishes_its_task_and_takes_an_open_offer_along() {
        let mut life = open(1);
        fetch(&mut life, true);
        life.step(answer(Opening::Any));
        assert_eq!(life.step(Input::Told), [Action::Report, Action::Claim]);
        assert_eq!(life.state(), State::Draining);
        assert_eq!(life.step(Input::Claimed(Some(OfferId(1)))), [Action::Report]);
        assert_eq!(life.step(Input::TaskEnded), [Action::RunHook]);
    }

    #[test]
    fn who_is_told_during_a_fetch_takes_an_offer_only_after_the_fetch_has_ended() {
        let mut life = open(2);
        fetch(&mut life, true);
        life.step(answer(Opening::Any));
        life.step(Input::FetchStarted);
        assert_eq!(life.step(Input::Told), [Action::Report, Action::StopFetching]);
        assert_eq!(life.step(Input::FetchEnded { task: false }), [Action::Claim]);
    }

    #[test]
    fn who_is_told_twice_gives_its_task_back() {
        let mut life = open(1);
        fetch(&mut life, true);
        life.step(Input::Told);
        assert_eq!(life.step(Input::Told), [Action::GiveBack]);
        assert_eq!(life.step(Input::TaskEnded), [Action::RunHook]);
    }

    #[test]
    fn a_worker_that_starts_and_finds_its_claim_or_its_release_takes_nothing() {
        for found in [
            Answer { claim: Some(OfferId(3)), ..Answer::default() },
            Answer { released: true, ..Answer::default() },
        ] {
            let mut life = Lifecycle::new(1);
            assert_eq!(life.step(Input::Answered(found)), [Action::Report, Action::RunHook]);
            assert!(!life.may_fetch());
        }
    }
}

#[test]
fn exactly_as_many_leave_as_there_are_offers_whatever_the_order() {
    for seed in 0..2_000_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut path = path_with_open(&[1, 2, 3]);
        let mut lives: Vec<_> =
            (0..5).map(|i| (worker(&format!("w{i}")), Lifecycle::new(1), vec![])).collect();
        for _ in 0..400 {
            let turn = next(lives.len());
            let (name, life, todo) = &mut lives[turn];
            let claims = path.claim_of(name).is_some();
            let input = match (todo.pop(), next(4)) {
                (Some(Action::Claim), _) => Input::Claimed(path.claim(&epoch(), name)),
                (Some(Action::RunHook), _) => Input::HookEnded,
                (Some(_), _) => continue,
                (None, 0) if life.may_fetch() => Input::FetchStarted,
                (None, 1) if life.may_fetch() => {
                    assert!(!claims, "seed {seed}: a fetch after a claim");
                    life.step(Input::FetchStarted);
                    Input::FetchEnded { task: true }
                }
                (None, 2) if life.busy() > 0 => Input::TaskEnded,
                (None, _) => Input::Answered(Answer {
                    epoch: path.epoch.clone(),
                    opening: path.opening(name),
                    claim: path.claim_of(name),
                    released: false,
                }),
            };
            if input == Input::FetchStarted {
                life.step(input);
                todo.extend(life.step(Input::FetchEnded { task: false }));
            } else {
                todo.extend(life.step(input));
            }
        }
        let leaving = lives.iter().filter(|(_, life, _)| life.is_leaving()).count();
        assert_eq!(leaving, 3, "seed {seed}");
    }
}

#[test]
fn durations_keep_their_quantiles_within_five_per_cent() {
    for ms in [1_u64, 10, 200, 8_000, 3_600_000] {
        let mut durations = Durations::default();
        durations.add(ms);
        let (bucket, count) = durations.counts().next().unwrap();
        let seconds = Durations::middle_seconds(bucket);
        assert_eq!(count, 1);
        assert!((seconds / (ms as f64 / 1000.0) - 1.0).abs() < 0.05, "{ms} ms became {seconds} s");
    }
}
