//! The memory that a workload takes, and a further window.

use std::sync::Arc;

use qscaler_core::memory::Memory;

use crate::RULE;
use crate::goals::Goals;
use crate::heap::live_bytes;
use crate::life::{Life, policy};

/// Workloads whose memory is measured together.
const WORKLOADS: usize = 200;

pub(crate) fn measure(goals: &mut Goals) {
    let default = bytes_per_workload(RULE);
    goals.at_most("state of a workload with the default rule, in bytes", default, 4_000.0);
    for function in ["max_over_time", "stddev_over_time", "predict_linear", "quantile_over_time"] {
        let argument = match function {
            "predict_linear" => ", '1m'",
            "quantile_over_time" => ", 0.95",
            _ => "",
        };
        let with = RULE.replace(
            "  let:\n",
            &format!("  let:\n    further: {function}(queue.length, '10m'{argument})\n"),
        );
        let further = bytes_per_workload(&with) - default;
        goals.at_most(&format!("a further window, {function}, in bytes"), further, 3_000.0);
    }
}

/// Bytes that the memory of one workload takes after 20 minutes.
fn bytes_per_workload(rule: &str) -> f64 {
    let policy = Arc::new(policy(rule));
    let before = live_bytes();
    let lives: Vec<Memory> = (0..WORKLOADS)
        .map(|_| {
            let mut life = Life::new(Arc::clone(&policy));
            life.live(1200);
            life.memory
        })
        .collect();
    let bytes = (live_bytes() - before) as f64 / lives.len() as f64;
    drop(lives);
    bytes
}
