//! The Python SDK's checks, in an environment of their own under cargo's target folder.

use crate::line::{Line, target};

const SDK: &str = "worker-sdk/python";
/// The commands of the test cluster, seen from there.
const CLUSTER: &str = "../../testdata/cluster";

/// Makes the environment, brings what the SDK's `dev` extra names, and checks.
pub(crate) fn commands() -> Vec<Line> {
    let environment = target().join("python");
    let python = environment.join("bin/python").display().to_string();
    let inside = |arguments: &str| Line::new(&python, arguments, SDK);
    let mut make = Line::new("python3", "-m venv", ".");
    make.arguments.push(environment.display().to_string());
    vec![
        make,
        inside("-m pip install --quiet --disable-pip-version-check --editable .[dev]"),
        inside("-m ruff check ."),
        inside("-m ruff format --check ."),
        inside("-m mypy"),
        inside(&format!("-m ruff check {CLUSTER}")),
        inside(&format!("-m ruff format --check {CLUSTER}")),
        inside("-m pytest --quiet"),
    ]
}
