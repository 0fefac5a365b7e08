//! The cases in `testdata/protocol`, which the SDK of every language passes.
//!
//! `lifecycle.json` and `durations.json` are written by hand. `walks.json` is what this machine does on
//! random inputs, and `report.json` the shape of reports: `UPDATE=1` writes these two anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use qscaler_protocol::PROTOCOL;
use qscaler_protocol::lifecycle::{Action, Input, Lifecycle};
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId};
use qscaler_protocol::report::{Durations, Report, State};
use serde::Deserialize;
use serde_json::{Value, json};

const WALKS: u64 = 40;
const STEPS: usize = 40;

/// One life: how many slots, and what happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    slots: u32,
    steps: Vec<Step>,
}

/// An input, and everything that can be seen after it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    input: Value,
    after: Value,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/protocol").join(name)
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(file(name)).unwrap()).unwrap()
}

/// Compares with the file, or writes it.
fn check(name: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file(name), text).unwrap();
    }
    let written = std::fs::read_to_string(file(name)).unwrap();
    assert!(written == text, "{name} is not what the code says; write it anew by UPDATE=1");
}

fn input(value: &Value) -> Input {
    let (kind, value) = match value {
        Value::String(kind) => (kind.as_str(), &Value::Null),
        _ => value.as_object().and_then(|it| it.iter().next()).map(|(kind, it)| (kind.as_str(), it)).unwrap(),
    };
    match kind {
        "answered" => Input::Answered(serde_json::from_value(value.clone()).unwrap()),
        "claimed" => Input::Claimed(value.as_u64().map(OfferId)),
        "fetchStarted" => Input::FetchStarted,
        "fetchEnded" => Input::FetchEnded { task: value["task"].as_bool().unwrap() },
        "taskEnded" => Input::TaskEnded,
        "told" => Input::Told,
        "hookEnded" => Input::HookEnded,
        "reported" => Input::Reported,
        other => panic!("no such input: {other}"),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::StopFetching => "stopFetching",
        Action::Claim => "claim",
        Action::Report => "report",
        Action::GiveBack => "giveBack",
        Action::RunHook => "runHook",
        Action::Leave => "leave",
    }
}

fn after(life: &Lifecycle, actions: &[Action]) -> Value {
    json!({
        "actions": actions.iter().copied().map(action).collect::<Vec<_>>(),
        "state": life.state(),
        "busy": life.busy(),
        "mayFetch": life.may_fetch(),
        "leaving": life.is_leaving(),
        "claim": life.claim(),
        "countsIn": life.counts_in(),
    })
}

#[test]
fn lives_go_as_they_are_written() {
    for name in ["lifecycle.json", "walks.json"] {
        for case in read::<Vec<Case>>(name) {
            let mut life = Lifecycle::new(case.slots);
            for (place, step) in case.steps.iter().enumerate() {
                let actions = life.step(input(&step.input));
                let seen = after(&life, &actions);
                assert_eq!(seen, step.after, "{name}: {}, step {place}: {}", case.name, step.input);
            }
        }
    }
}

/// What happens next to this life, at random; a fetch or a claim is answered only when there is one.
struct Walk {
    random: u64,
    fetching: u32,
    claiming: bool,
}

impl Walk {
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }

    fn answer(&mut self) -> Value {
        let opening = ["none", "none", "none", "any", "named"][self.below(5) as usize];
        let claim = (self.below(50) == 0).then_some(9);
        let epoch = ["first", "first", "first", "second"][self.below(4) as usize];
        json!({"answered": {
            "epoch": epoch, "opening": opening, "claim": claim, "released": self.below(100) == 0,
        }})
    }

    fn next(&mut self, life: &Lifecycle) -> Value {
        loop {
            match self.below(16) {
                0 | 1 => return self.answer(),
                2..=5 if life.may_fetch() => {
                    self.fetching += 1;
                    return json!("fetchStarted");
                }
                6..=8 if self.fetching > 0 => {
                    self.fetching -= 1;
                    return json!({"fetchEnded": {"task": self.below(4) > 0}});
                }
                9 | 10 if life.busy() > 0 => return json!("taskEnded"),
                11 | 12 if self.claiming => {
                    self.claiming = false;
                    let offer = (self.below(3) == 0).then_some(7);
                    return json!({"claimed": offer});
                }
                13 if self.below(5) == 0 => return json!("told"),
                14 if life.is_leaving() || self.below(8) == 0 => return json!("hookEnded"),
                15 if life.is_leaving() || self.below(8) == 0 => return json!("reported"),
                _ => {}
            }
        }
    }
}

#[test]
fn walks_are_what_the_machine_does() {
    let mut text = String::new();
    for seed in 1..=WALKS {
        let mut walk =
            Walk { random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), fetching: 0, claiming: false };
        let slots = 1 + walk.below(3) as u32;
        let mut life = Lifecycle::new(slots);
        let begin = if seed == 1 { "[" } else { "," };
        write!(text, "{begin}\n{{\"name\":\"walk {seed}\",\"slots\":{slots},\"steps\":[").unwrap();
        for place in 0..STEPS {
            let happens = walk.next(&life);
            let actions = life.step(input(&happens));
            walk.claiming |= actions.contains(&Action::Claim);
            let (comma, after) = (if place == 0 { "" } else { "," }, after(&life, &actions));
            write!(text, "{comma}\n{{\"input\":{happens},\"after\":{after}}}").unwrap();
            if actions.contains(&Action::Leave) {
                break;
            }
        }
        text.push_str("\n]}");
    }
    text.push_str("\n]\n");
    check("walks.json", &text);
}

#[test]
fn durations_fall_into_their_buckets() {
    #[derive(Deserialize)]
    struct Case {
        milliseconds: u64,
        bucket: u8,
    }
    for Case { milliseconds, bucket } in read::<Vec<Case>>("durations.json") {
        let mut durations = Durations::default();
        durations.add(milliseconds);
        assert_eq!(durations.counts().collect::<Vec<_>>(), [(bucket, 1)], "{milliseconds} ms");
    }
}

#[test]
fn reports_keep_their_shape() {
    let mut durations = Durations::default();
    for ms in [3, 3, 1200, 90_000] {
        durations.add(ms);
    }
    let full = Report {
        protocol: PROTOCOL,
        worker: WorkerId::new("worker"),
        boot: BootId::new("boot"),
        state: State::Busy,
        state_ms: 250,
        slots: 4,
        busy_slots: 2,
        done: 3,
        failed: 1,
        late_acks: 1,
        busy_ms: 91_206,
        durations,
        claim: Some(OfferId(7)),
        epoch: Some(Epoch::new("epoch")),
        pid: Some(4321),
    };
    let empty = Report {
        state: State::Starting,
        durations: Durations::default(),
        claim: None,
        epoch: None,
        pid: None,
        ..full.clone()
    };
    let reports = BTreeMap::from([("full", &full), ("empty", &empty)]);
    check("report.json", &format!("{}\n", serde_json::to_string_pretty(&reports).unwrap()));
    let read_back: BTreeMap<String, Report> = read("report.json");
    assert_eq!((&read_back["full"], &read_back["empty"]), (&full, &empty));
}
