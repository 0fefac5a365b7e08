//! Model check: the real ledger, plan, path and lifecycle in every state that they can get into, with
//! anything that can happen happening between any two steps.
//!
//! A [`Setting`] bounds a world and the faults that may strike in it; its states are explored whole, breadth
//! first. In every state the promises of [`properties`] must hold, and a quiet state must be reachable by
//! moves that happen by themselves. Each rule of the protocol is then left out once, in a setting where
//! that is caught. `QSCALER_FULL=1` takes the larger of the two sizes that a setting has.

mod engine;
mod faults;
mod moves;
mod properties;
mod search;
mod setting;
mod shared;
mod worker;
mod world;

use qscaler_core::plan::Rollout;

use search::{explore, tell};
use setting::Detail::{Containers, Empty, Parking, Patience, Pending, SlowFetches, SlowLetters, SplitReads};
use setting::{Faults, NO_FAULTS, PLAIN, Setting, Weakening};

/// Explores a setting: every promise must hold in every state.
#[expect(clippy::print_stdout, reason = "how much was explored is part of the result")]
fn holds(setting: Setting) {
    let found = explore(&setting);
    let name = setting.name;
    println!("{name}: {} states, {} quiet, at most {} moves deep", found.states, found.quiet, found.depth);
    if let Some(violation) = &found.broken {
        panic!("{name}: {}", tell(&setting, violation));
    }
    assert!(found.quiet > 0, "{name}: nothing ever comes to rest");
}

/// Explores a setting in which a rule is left out: a promise must break.
#[expect(clippy::print_stdout, reason = "how much was explored is part of the result")]
fn is_caught(weakening: Weakening, setting: Setting) {
    let name = setting.name;
    let found = explore(&Setting { without: Some(weakening), ..setting });
    let Some(violation) = found.broken else {
        panic!("{name}: {weakening:?} is not caught in {} states", found.states);
    };
    let moves = violation.walk.len();
    println!(
        "{name}: {weakening:?} is caught after {moves} moves in {} states: {}",
        found.states, violation.what
    );
}

fn sized<T>(gate: T, full: T) -> T {
    if std::env::var_os("QSCALER_FULL").is_some() { full } else { gate }
}

#[test]
fn a_walking_load_moves_exactly_as_many_workers() {
    holds(Setting { name: "down and up", walk: &[3, 1, 3], ..PLAIN });
    holds(Setting { name: "down and half up", walk: &[3, 1, 2], tasks: 0, ..PLAIN });
    holds(Setting { name: "in two steps", walk: &[3, 2, 1], ..PLAIN });
}

#[test]
fn two_engines_with_snapshots_of_any_age_agree() {
    holds(Setting { name: "two engines, down", walk: &[3, 1], engines: 2, ..PLAIN });
    holds(Setting { name: "two engines, down and up", walk: &[2, 1, 2], engines: 2, places: 3, ..PLAIN });
}

#[test]
fn two_engines_that_read_ledger_path_and_fleet_at_different_times_agree() {
    holds(Setting {
        name: "split reads",
        walk: &[2, 1],
        engines: 2,
        places: 3,
        details: &[SplitReads],
        ..PLAIN
    });
}

#[test]
fn two_engines_that_begin_with_nothing_create_the_same_workers() {
    holds(Setting {
        name: "from nothing",
        walk: &[0, 2, 1],
        engines: 1,
        places: 2,
        details: &[Empty, Pending],
        ..PLAIN
    });
}

#[test]
fn workers_without_a_process_are_removed_and_the_others_asked() {
    holds(Setting { name: "pending", walk: &[1, 3, 1], details: &[Pending], ..PLAIN });
    holds(Setting {
        name: "pending, two engines",
        walk: &[1, 2, 1],
        engines: 2,
        places: 2,
        details: &[Pending],
        ..PLAIN
    });
}

#[test]
fn no_fetch_completes_after_a_claim_however_long_letters_travel() {
    holds(Setting {
        name: "slow fetches and letters",
        walk: &[2, 1],
        tasks: 1,
        details: &[SlowFetches, SlowLetters],
        ..PLAIN
    });
}

#[test]
fn workers_with_several_slots_leave_when_they_are_free_or_named() {
    holds(Setting { name: "slots", walk: &[2, 1], slots: 2, tasks: 2, details: &[Patience], ..PLAIN });
}

#[test]
fn a_worker_that_is_killed_costs_no_offer_and_no_task() {
    holds(Setting {
        name: "kills",
        walk: &[2, 1],
        tasks: 1,
        faults: Faults { kills: 1, restarts: 0, ..NO_FAULTS },
        ..PLAIN
    });
    holds(Setting {
        name: "kills of containers",
        walk: &[2, 1],
        tasks: 1,
        faults: Faults { kills: 1, restarts: 1, ..NO_FAULTS },
        details: &[Containers],
        ..PLAIN
    });
}

#[test]
fn a_parked_worker_is_deleted_when_it_is_released_and_never_while_it_works() {
    holds(Setting {
        name: "parking",
        walk: sized(&[2, 1], &[3, 1]),
        tasks: 1,
        faults: Faults { kills: 1, ..NO_FAULTS },
        details: &[Containers, Parking],
        ..PLAIN
    });
    holds(Setting {
        name: "parking, told to end",
        walk: sized(&[2], &[2, 1]),
        tasks: 1,
        faults: Faults { signals: 1, kills: 1, ..NO_FAULTS },
        details: &[Containers, Parking],
        ..PLAIN
    });
    holds(Setting {
        name: "released on a snapshot",
        walk: &[1],
        engines: sized(2, 1),
        places: 2,
        tasks: 1,
        faults: Faults { signals: 1, kills: 1, rollbacks: sized(0, 1), ..NO_FAULTS },
        details: &[Containers, Parking],
        ..PLAIN
    });
}

#[test]
fn evictions_take_an_offer_along_and_whoever_is_missing_is_started() {
    holds(Setting {
        name: "evictions",
        walk: &[2, 1],
        tasks: 1,
        faults: Faults { evictions: 1, ..NO_FAULTS },
        ..PLAIN
    });
    holds(Setting {
        name: "evictions, slowly",
        walk: &[2, 1],
        tasks: 1,
        faults: Faults { evictions: 1, ..NO_FAULTS },
        details: &[SlowFetches],
        ..PLAIN
    });
    holds(Setting {
        name: "signals",
        walk: &[2, 1],
        tasks: 1,
        faults: Faults { signals: 1, restarts: 1, ..NO_FAULTS },
        details: &[Containers],
        ..PLAIN
    });
}

#[test]
fn a_path_that_loses_its_data_costs_no_worker() {
    let faults = Faults { wipes: 1, ..NO_FAULTS };
    holds(Setting { name: "wiped", walk: sized(&[2, 1], &[3, 1]), faults, ..PLAIN });
    holds(Setting {
        name: "wiped under slow letters",
        walk: &[2, 1],
        faults,
        details: &[SlowLetters],
        ..PLAIN
    });
    holds(Setting { name: "wiped under two engines", walk: &[1], engines: 2, places: 2, faults, ..PLAIN });
    holds(Setting {
        name: "wiped, and a container restarted",
        walk: &[2, 1],
        faults: Faults { kills: 1, ..faults },
        tasks: 0,
        details: &[Containers],
        ..PLAIN
    });
}

#[test]
fn a_path_that_loses_its_last_writes_costs_no_worker() {
    let faults = Faults { rollbacks: 1, ..NO_FAULTS };
    holds(Setting { name: "rolled back", walk: &[2, 1, 2], faults, ..PLAIN });
    holds(Setting {
        name: "rolled back with three places",
        walk: &[2, 1],
        faults: Faults { rollbacks: 1, ..NO_FAULTS },
        places: 3,
        details: &[],
        ..PLAIN
    });
}

#[test]
fn a_ledger_restored_from_an_older_state_costs_no_worker() {
    let faults = Faults { restores: 1, ..NO_FAULTS };
    holds(Setting { name: "restored", walk: sized(&[2, 1, 2], &[3, 1, 2]), faults, ..PLAIN });
    holds(Setting {
        name: "restored and wiped",
        walk: &[2, 1],
        faults: Faults { wipes: 1, ..faults },
        ..PLAIN
    });
}

#[test]
fn a_silent_worker_is_not_counted_on() {
    let faults = Faults { silences: 2, ..NO_FAULTS };
    holds(Setting { name: "silence", walk: &[2, 1], faults, ..PLAIN });
}

/// Two workers, one of them made of an older template, and one more while it is replaced.
const ROLLOUT: Setting = Setting {
    name: "rollout with one more",
    walk: &[2],
    outdated: 1,
    rollout: Rollout { surge_max: 1, unavailable_max: 0 },
    ..PLAIN
};

/// The same with one less.
const ROLLOUT_WITHOUT_ROOM: Setting = Setting {
    name: "rollout with one less",
    rollout: Rollout { surge_max: 0, unavailable_max: 1 },
    places: 3,
    ..ROLLOUT
};

#[test]
fn a_rollout_replaces_workers_and_no_more_are_missing_than_may_be() {
    for plain in [ROLLOUT, ROLLOUT_WITHOUT_ROOM] {
        holds(Setting { walk: &[2, 1, 2], ..plain });
        holds(Setting { walk: &[1, 3, 2], tasks: 1, ..plain });
        holds(Setting { outdated: 2, tasks: 1, details: &[Pending], ..plain });
        holds(Setting { outdated: sized(1, 2), engines: 2, ..plain });
    }
    let plain = sized(ROLLOUT, ROLLOUT_WITHOUT_ROOM);
    holds(Setting { engines: 2, details: &[SplitReads], ..plain });
}

#[test]
fn a_rollout_goes_on_whatever_is_lost_meanwhile() {
    for plain in [ROLLOUT, ROLLOUT_WITHOUT_ROOM] {
        holds(Setting { faults: Faults { wipes: 1, ..NO_FAULTS }, ..plain });
        holds(Setting { faults: Faults { restores: 1, ..NO_FAULTS }, ..plain });
        holds(Setting { faults: Faults { evictions: 1, ..NO_FAULTS }, ..plain });
        holds(Setting {
            tasks: 1,
            faults: Faults { kills: 1, ..NO_FAULTS },
            details: &[Containers],
            ..plain
        });
    }
}

#[test]
fn every_rule_that_is_left_out_is_missed() {
    let two = Setting { walk: &[2, 1], engines: 2, places: 3, ..PLAIN };
    let one = Setting { engines: 1, ..two };
    let wiped = Setting { faults: Faults { wipes: 1, ..NO_FAULTS }, ..one };
    let up = Setting { name: "down and up", walk: &[2, 1, 2], ..one };
    let parked = Setting {
        name: "drained, killed, working, rolled back",
        walk: &[1],
        tasks: 1,
        faults: Faults { signals: 1, kills: 1, rollbacks: 1, ..NO_FAULTS },
        details: &[Containers, Parking],
        ..one
    };
    is_caught(Weakening::NoCompareAndSwap, Setting { name: "two engines", ..two });
    is_caught(
        Weakening::LedgerReadLast,
        Setting { name: "two engines, split reads", details: &[SplitReads], ..two },
    );
    is_caught(Weakening::NoSetIfAbsent, Setting { name: "two engines", ..two });
    is_caught(Weakening::NoGate, Setting { name: "a task while an offer is open", tasks: 1, ..one });
    is_caught(Weakening::WithdrawalInLedgerOnly, up);
    is_caught(Weakening::NoFloor, Setting { name: "two engines", ..two });
    is_caught(Weakening::NoEpoch, Setting { name: "wiped", ..wiped });
    is_caught(
        Weakening::NamesForIncarnations,
        Setting {
            name: "released on a snapshot, and the name used again",
            walk: &[1, 0, 1],
            places: 1,
            tasks: 1,
            details: &[Containers, Parking],
            ..two
        },
    );
    is_caught(Weakening::MessagesSentAgain, Setting { name: "one engine", ..one });
    is_caught(Weakening::MessagesSentOnce, Setting { name: "one engine", ..one });
    is_caught(Weakening::NoBootComparison, parked);
    is_caught(Weakening::NamesNotShown, ROLLOUT);
    is_caught(Weakening::NoBudget, ROLLOUT);
    is_caught(Weakening::NoBudget, Setting { outdated: 2, ..ROLLOUT_WITHOUT_ROOM });
    is_caught(Weakening::NobodyIsOutdated, ROLLOUT);
}
