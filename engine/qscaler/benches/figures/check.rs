//! How long `qscaler check` takes over a thousand rules, the start of the program included.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::RULE;
use crate::goals::Goals;

const RULES: usize = 1_000;
const RUNS: usize = 5;

pub(crate) fn measure(goals: &mut Goals) {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..RULES {
        // Each differs, so that nothing could be read once for all.
        let name = format!("rule-{number}");
        let text = RULE.replace("name: rate-and-backlog", &format!("name: {name}"));
        let text = text.replace("workersMax: 50", &format!("workersMax: {}", 50 + number));
        fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
    }
    let mut fastest = f64::MAX;
    for _ in 0..RUNS {
        let begin = Instant::now();
        let output =
            Command::new(env!("CARGO_BIN_EXE_qscaler")).arg("check").arg(folder.path()).output().unwrap();
        fastest = fastest.min(begin.elapsed().as_secs_f64());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    goals.at_most("qscaler check of 1,000 rule files, in seconds", fastest, 1.0);
}
