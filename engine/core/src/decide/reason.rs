//! Decisions in words.

use std::time::Duration;

use qscaler_cel::unit::write_duration;

use super::{Because, Decision, Question};
use crate::time::Time;

/// A decision in one sentence: the number, what asked for what, and what settled it.
pub(super) fn sentence(decision: &Decision, question: &Question) -> String {
    let workers = match decision.replicas {
        1 => "1 worker".to_owned(),
        many => format!("{many} workers"),
    };
    let asked = decision.desired.map(|desired| format!("the rule asks for {}", short(desired)));
    let settled = decision.clamps.last().filter(|clamp| clamp.because != Because::Target);
    let note = settled.map(|clamp| match clamp.because {
        Because::Missing | Because::SignalError | Because::Fault => {
            format!("held at {}, because {}", clamp.to, clamp.note)
        }
        _ => clamp.note.clone(),
    });
    let parts: Vec<_> = [asked, note].into_iter().flatten().collect();
    let change = match question.current {
        current if current == decision.replicas => String::new(),
        current => format!(" instead of {current}"),
    };
    format!("{workers}{change}: {}", parts.join("; "))
}

pub(super) fn held(window: Duration, until: Option<Time>, question: &Question) -> String {
    let window = write_duration(window.as_secs_f64());
    match until {
        Some(until) => {
            format!("held by the {window} stabilization window for another {}", left(until, question))
        }
        None => format!("held by the {window} stabilization window"),
    }
}

fn left(until: Time, question: &Question) -> String {
    write_duration(until.since(question.at).as_secs_f64())
}

/// A number as people write it: whole where it is, else with two digits.
fn short(number: f64) -> String {
    if (number - number.round()).abs() < 0.005 { format!("{number:.0}") } else { format!("{number:.2}") }
}
