//! `testdata/expressions/values.txt`: what expressions evaluate to.

use qscaler_cel::{Fault, FaultKind, Input, Type, WindowFunction};

use crate::world::{World, compile};

const CASES: &str = include_str!("../../../../testdata/expressions/values.txt");

#[test]
fn every_expression_has_the_value_or_fault_that_is_written_beside_it() {
    let mut wrong = vec![];
    let mut count = 0;
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (text, expected) = line.rsplit_once("=>").expect("each line has =>");
        let (text, expected) = (text.trim(), expected.trim());
        count += 1;
        let found = match compile(text) {
            Ok((expression, inputs)) => match expression.evaluate(&World::of(&inputs)) {
                Ok(value) => value.to_string(),
                Err(fault) => describe(&fault, text, &inputs),
            },
            Err(problems) => format!("refused: {problems:?}"),
        };
        if found != expected {
            wrong.push(format!("{text}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(count > 60, "{count} cases");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn describe(fault: &Fault, text: &str, inputs: &[Input]) -> String {
    let at = &text[fault.span.clone()];
    match fault.kind {
        FaultKind::Absent(slot) => match &inputs[slot] {
            Input::Signal(name) => format!("absent {name} at `{at}`"),
            other => format!("absent {other:?} at `{at}`"),
        },
        FaultKind::DivisionByZero(number) => format!("{number} divided by zero at `{at}`"),
        FaultKind::NotANumber(name) => format!("`{name}` is not a number at `{at}`"),
        FaultKind::Infinite(name) => format!("`{name}` is infinite at `{at}`"),
    }
}

#[test]
fn a_window_is_taken_out_of_the_expression_and_shared() {
    let text = "avg_over_time(queue.length, '5m') + avg_over_time(queue.length, '300s') * rate(queue.arrivals, params.wait)";
    let (expression, inputs) = compile(text).expect("a good expression");
    let windows: Vec<_> = inputs
        .iter()
        .filter_map(|input| if let Input::Window(window) = input { Some(window.to_string()) } else { None })
        .collect();
    assert_eq!(windows, ["avg_over_time(queue.length, '5m')", "rate(queue.arrivals, params.wait)"]);
    assert_eq!(expression.evaluate(&World::of(&inputs)).map(|value| value.number()), Ok(Some(20.0)));
}

#[test]
fn a_window_over_memory_is_an_amount_of_memory_and_its_count_is_a_number() {
    let (expression, _) = compile("max_over_time(usage.memory, '6h') * 1.1").expect("a good expression");
    assert_eq!(expression.of(), Type::Bytes);
    let (expression, inputs) = compile("count_over_time(usage.memory, '6h')").expect("a good expression");
    assert_eq!(expression.of(), Type::Number);
    assert!(matches!(&inputs[0], Input::Window(window) if window.function == WindowFunction::Count));
}

/// Only a clock.
struct At(i64);

impl qscaler_cel::Values for At {
    fn input(&self, _: usize) -> Option<&qscaler_cel::Value> {
        None
    }

    fn wall_ms(&self) -> i64 {
        self.0
    }
}

#[test]
fn daylight_saving_moves_the_times_of_a_zone_and_not_of_another() {
    let summer_noon_utc = 1_783_425_600_000; // Tuesday 2026-07-07 12:00
    for (zone, winter, summer) in [("Europe/Berlin", 13.0, 14.0), ("Africa/Lagos", 13.0, 13.0)] {
        let (expression, _) = compile(&format!("hour('{zone}')")).expect("a good expression");
        let hour = |at| expression.evaluate(&At(at)).map(|value| value.number());
        assert_eq!(hour(summer_noon_utc - 181 * 86_400_000), Ok(Some(winter)), "{zone}");
        assert_eq!(hour(summer_noon_utc), Ok(Some(summer)), "{zone}");
    }
}
