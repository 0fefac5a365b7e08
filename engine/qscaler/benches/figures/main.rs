//! What things cost: `cargo bench` prints each figure beside its goal and fails when one is missed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod backtest;
mod check;
mod decision;
mod goals;
mod heap;
mod life;
mod plain;
mod state;

use std::process::ExitCode;

use goals::Goals;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// The default rule.
const RULE: &str = include_str!("../../../../rules/rate-and-backlog.yaml");

fn main() -> ExitCode {
    let mut goals = Goals::default();
    decision::measure(&mut goals);
    state::measure(&mut goals);
    check::measure(&mut goals);
    backtest::measure(&mut goals);
    goals.report()
}
