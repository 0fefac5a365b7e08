//! Figures beside their goals, as a table.

use std::process::ExitCode;

/// Figures in the making.
#[derive(Default)]
pub(crate) struct Goals {
    rows: Vec<(String, f64, Option<f64>)>,
}

impl Goals {
    /// A figure without a goal.
    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.rows.push((name.to_owned(), value, None));
    }

    /// A figure that should not be above its goal.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, goal: f64) {
        self.rows.push((name.to_owned(), value, Some(goal)));
    }

    /// Prints the table; fails when a goal is missed.
    pub(crate) fn report(&self) -> ExitCode {
        let mut missed = false;
        for (name, value, goal) in &self.rows {
            let verdict = match goal {
                None => String::new(),
                Some(goal) if value <= goal => format!("at most {goal}: met"),
                Some(goal) => {
                    missed = true;
                    format!("at most {goal}: MISSED")
                }
            };
            println!("{name:<66} {value:>10.2}  {verdict}");
        }
        if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
