//! The default memory rule beside the VerticalPodAutoscaler, on a recorded cluster where its trace lies
//! beside the checkout: `shared/traces` is no part of the project.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::goals::Goals;

const TRACE: &str = "../shared/traces/alibaba_genai2022_container_memory.csv";

pub(crate) fn measure(goals: &mut Goals) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let trace = root.join(TRACE);
    if !trace.exists() {
        println!("memory of 60 recorded containers: not measured, as {TRACE} is not there");
        return;
    }
    let begin = Instant::now();
    let default = backtest(&root.join("rules/right-size.yaml"), &trace);
    goals.at_most("qscaler backtest of 86,000 measurements, in seconds", begin.elapsed().as_secs_f64(), 10.0);
    let shipped = backtest(&root.join("testdata/backtest/vpa-as-shipped.yaml"), &trace);
    let in_place = backtest(&root.join("testdata/backtest/vpa-in-place.yaml"), &trace);
    for (name, (slack, ooms)) in [("VPA as shipped", shipped), ("VPA in place", in_place)] {
        goals.figure(&format!("{name}: unused memory, in per cent of the limit"), slack);
        goals.figure(&format!("{name}: kills"), ooms);
    }
    let (slack, ooms) = default;
    // By exact peaks instead of the VPA's buckets: 20.7 % and 58 kills as shipped, 21.2 % and 23 in place.
    goals.at_most(
        "default: unused memory",
        slack,
        (20.7_f64 * 0.85).min(shipped.0 * 0.85).min(in_place.0 * 0.95),
    );
    goals.at_most("default: kills", ooms, in_place.1.min(shipped.1 * 0.6));
}

/// Unused memory in per cent, and kills.
fn backtest(rule: &Path, trace: &Path) -> (f64, f64) {
    let output = Command::new(env!("CARGO_BIN_EXE_qscaler"))
        .args(["backtest", "--json", "-", "--usage"])
        .arg(trace)
        .arg("--rule")
        .arg(rule)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let total: Value = serde_json::from_slice(&output.stdout).unwrap();
    (total["slack"].as_f64().unwrap() * 100.0, total["ooms"].as_f64().unwrap())
}
