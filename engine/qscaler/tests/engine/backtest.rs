//! What rules would have given recorded containers: `qscaler backtest` on the recording of our own in
//! `testdata/backtest`. It is made here, from one seed; `UPDATE=1` writes it anew.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::fixture::PROGRAM;

/// Between two measurements, in seconds.
const EVERY: u32 = 240;
/// Twenty hours.
const SAMPLES: u32 = 300;

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Numbers from 0 to 1 that are the same everywhere: Knuth's linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Fifteen containers: ten that use much and move little, three that grow for sixteen hours, and two that
/// use little and now and then several times as much for some minutes.
fn recording() -> String {
    let mut numbers = Numbers(2026);
    let mut text = "t_seconds,container,memory_utilisation\n".to_owned();
    for container in 0..15 {
        let level = 0.3 + 0.5 * numbers.next();
        let mut peak = (0, 0.0);
        for sample in 0..SAMPLES {
            let noise = numbers.next();
            let hours = f64::from(sample * EVERY) / 3600.0;
            let (kind, used) = match container {
                0..10 => ("steady", level * (0.99 + 0.02 * noise)),
                10..13 => ("growing", level * (0.7 + 0.5 * (hours / 16.0).min(1.0) + 0.02 * noise)),
                _ => {
                    let (left, height) = peak;
                    let begins = numbers.next() < 0.02;
                    peak = match left {
                        0 if begins => {
                            (1 + (5.0 * numbers.next()) as u32, 0.02 + 0.10 * numbers.next().powi(2))
                        }
                        0 => (0, 0.0),
                        _ => (left - 1, height),
                    };
                    ("jumpy", 0.04 + 0.02 * noise + peak.1)
                }
            };
            let _ = writeln!(text, "{},{kind}-{container},{used:.4}", sample * EVERY);
        }
    }
    text
}

fn backtest(rule: &str, usage: &str) -> Value {
    let output = Command::new(PROGRAM)
        .args(["backtest", "--json", "-", "--usage"])
        .arg(root(usage))
        .arg("--rule")
        .arg(root(rule))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_recording_is_what_its_seed_makes() {
    let path = root("testdata/backtest/usage.csv");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, recording()).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == recording(), "UPDATE=1 writes it anew");
}

#[test]
fn the_default_leaves_less_unused_than_the_vpa_and_has_fewer_killed() {
    let of = |rule: &str| {
        let total = backtest(rule, "testdata/backtest/usage.csv");
        let number = |name: &str| total[name].as_f64().unwrap();
        assert_eq!(total["containers"], 15);
        (number("slack"), number("ooms"))
    };
    let default = of("rules/right-size.yaml");
    let shipped = of("testdata/backtest/vpa-as-shipped.yaml");
    let in_place = of("testdata/backtest/vpa-in-place.yaml");
    let maximum = of("testdata/backtest/maximum.yaml");
    let all = format!("default {default:?}, shipped {shipped:?}, in place {in_place:?}, maximum {maximum:?}");
    assert!(default.0 <= shipped.0 * 0.85 && default.1 <= shipped.1 * 0.6, "{all}");
    // Of a handful of kills, one more is chance.
    assert!(default.0 <= in_place.0 * 0.95 && default.1 <= in_place.1 + 1.0, "{all}");
    assert!(maximum.0 < default.0 && maximum.1 > shipped.1, "{all}");
}
