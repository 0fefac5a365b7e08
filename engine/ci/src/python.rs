//! The Python SDK's checks, in an environment of their own under cargo's target folder.

use std::env;

use crate::line::Line;

const SDK: &str = "worker-sdk/python";

/// Makes the environment, brings what the SDK's `dev` extra names, and checks.
pub(crate) fn commands() -> Vec<Line> {
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let root = env::current_dir().unwrap_or_default();
    let environment = root.join(target).join("python");
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
        inside("-m pytest --quiet"),
    ]
}
