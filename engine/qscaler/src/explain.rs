//! A line of the record as a person reads it.

pub mod recorded;

use std::fmt::Write;

use jiff::Timestamp;

use qscaler_cel::Type;
use qscaler_cel::unit::write_duration;
use qscaler_core::decide::Shown;
use qscaler_core::plan::Step;
use qscaler_core::record::Line;
use qscaler_core::resize::{Exact, in_words};
use qscaler_core::rule::Rule;
use qscaler_core::signal::Sample;
use qscaler_core::time::Time;
use qscaler_core::vertical::Target;

/// `12:03:20Z`.
pub fn clock(wall: Time) -> String {
    Timestamp::from_millisecond(wall.0)
        .map_or_else(|_| wall.to_string(), |time| time.strftime("%H:%M:%SZ").to_string())
}

/// Explains one decision. `until` is when it was replaced by another one; none when it still holds.
/// The rule, where it is at hand, tells units and the texts of expressions.
pub fn explain(line: &Line, rule: Option<&Rule>, until: Option<Time>) -> String {
    let mut text = String::new();
    let lasted = match until {
        Some(until) => format!(", until {}", clock(until)),
        None => String::new(),
    };
    let mode = if line.acts { "" } else { " (only observed: `mode: act` would do it)" };
    let _ = writeln!(text, "{} at {}{lasted}{mode}", line.workload, clock(line.question.wall));
    let _ = writeln!(text, "  {}", line.decision.reason);
    section(&mut text, "rule", vec![(line.rule.clone(), String::new(), line.rule_hash.clone())]);
    section(&mut text, "measured", measured(line));
    section(&mut text, "params", params(line, rule));
    section(&mut text, "let", lets(line, rule));
    section(&mut text, "steps", steps(line, rule));
    section(&mut text, "sizes", sizes(line));
    section(&mut text, "done", done(line));
    let problems =
        line.decision.problems.iter().map(|problem| (problem.clone(), String::new(), String::new()));
    section(&mut text, "problems", problems.collect());
    text
}

/// Name, value, and what to say of it.
type Rows = Vec<(String, String, String)>;

fn section(text: &mut String, title: &str, rows: Rows) {
    let widest = |column: fn(&(String, String, String)) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let (names, values) = (widest(|row| row.0.chars().count()), widest(|row| row.1.chars().count()));
    for (place, (name, value, note)) in rows.iter().enumerate() {
        let title = if place == 0 { title } else { "" };
        let row = format!("  {title:<9} {name:<names$}  {value:>values$}  {note}");
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

fn measured(line: &Line) -> Rows {
    let question = &line.question;
    let signals = question.signals.iter().map(|(name, sample)| {
        let age = |at: &Time| format!("{} ago", write_duration(question.at.since(*at).as_secs_f64()));
        let (value, note) = match sample {
            Sample::Value { value, at, estimated } => {
                (number(*value), format!("{}{}", age(at), if *estimated { ", inferred" } else { "" }))
            }
            Sample::Missing => ("-".into(), "not measured yet".into()),
            Sample::Stale { value, at } => (number(*value), format!("{}, too old", age(at))),
            Sample::Error { reason, last } => {
                let last = last.as_ref().map(|(value, at)| format!("; last {} {}", number(*value), age(at)));
                ("?".into(), format!("{reason}{}", last.unwrap_or_default()))
            }
        };
        (name.clone(), value, note)
    });
    let windows = question
        .windows
        .iter()
        .map(|(name, value)| (name.clone(), value.map_or_else(|| "-".into(), number), String::new()));
    let current = (
        "workers there".to_owned(),
        question.current.to_string(),
        "not counting those that leave".to_owned(),
    );
    [current].into_iter().chain(signals).chain(windows).collect()
}

fn params(line: &Line, rule: Option<&Rule>) -> Rows {
    let of = |name: &str| rule.and_then(|rule| rule.params.get(name)).map(|parameter| parameter.of);
    line.params
        .iter()
        .map(|(name, shown)| (name.clone(), with_unit(shown, of(name)), String::new()))
        .collect()
}

fn lets(line: &Line, rule: Option<&Rule>) -> Rows {
    let row = |(name, known): (&String, &Result<Shown, String>)| {
        let expression = rule.and_then(|rule| rule.document.spec.lets.get(name));
        let text =
            expression.map(|expression| format!("= {}", one_line(&expression.text))).unwrap_or_default();
        let of = rule
            .and_then(|rule| rule.lets.iter().find(|(it, _)| it == name))
            .map(|(_, expression)| expression.of());
        match known {
            Ok(shown) => (name.clone(), with_unit(shown, of), text),
            Err(why) => (name.clone(), "?".into(), why.clone()),
        }
    };
    line.decision.lets.iter().map(row).collect()
}

fn steps(line: &Line, rule: Option<&Rule>) -> Rows {
    let text = rule.map(|rule| format!("= {}", one_line(&rule.document.spec.replicas.desired.text)));
    let desired = line
        .decision
        .desired
        .map(|desired| ("desired".to_owned(), number(desired), text.unwrap_or_default()));
    let clamps = line.decision.clamps.iter().map(|clamp| {
        let name =
            serde_json::to_value(clamp.because).unwrap_or_default().as_str().unwrap_or_default().to_owned();
        (name, format!("{} -> {}", clamp.from, clamp.to), clamp.note.clone())
    });
    desired.into_iter().chain(clamps).collect()
}

/// What each container should have, and why.
fn sizes(line: &Line) -> Rows {
    let Some((question, sizes)) = &line.sizes else { return vec![] };
    let row = |(name, target): (&String, &Target)| {
        let template = question.containers.get(name).map(|asked| asked.template).unwrap_or_default();
        let why: Vec<_> = [&target.reason].into_iter().chain(&target.problems).map(String::as_str).collect();
        (name.clone(), Exact::from(target.over(template)).to_string(), why.join("; "))
    };
    sizes.containers.iter().map(row).collect()
}

fn done(line: &Line) -> Rows {
    let started: Vec<_> = line
        .steps
        .iter()
        .filter_map(|step| if let Step::Start { name } = step { Some(name.as_str()) } else { None })
        .collect();
    let mut rows = vec![];
    if !started.is_empty() {
        rows.push(("start".to_owned(), started.len().to_string(), started.join(", ")));
    }
    for step in &line.steps {
        rows.extend(match step {
            Step::Project { offers, .. } => Some((
                "offer".to_owned(),
                offers.len().to_string(),
                "places to leave, for whoever is idle first".to_owned(),
            )),
            Step::Withdraw { offers, .. } => Some((
                "withdraw".to_owned(),
                offers.len().to_string(),
                "offers that nobody had claimed".to_owned(),
            )),
            Step::Remove { worker } => {
                Some(("remove".to_owned(), "1".to_owned(), format!("{worker}, which has no process")))
            }
            Step::Terminate { worker } => {
                Some(("terminate".to_owned(), "1".to_owned(), format!("{worker}, by SIGTERM")))
            }
            Step::Release { worker, .. } => {
                Some(("release".to_owned(), "1".to_owned(), format!("{worker}, which has drained")))
            }
            Step::Scale { from, to, released, .. } => Some((
                "scale".to_owned(),
                format!("{from} -> {to}"),
                match released.len() {
                    0 => String::new(),
                    count => format!("{count} have drained"),
                },
            )),
            Step::Resize { worker, containers } => {
                let note = format!("{worker}, in place: {}", in_words(containers));
                Some(("resize".to_owned(), "1".to_owned(), note))
            }
            Step::Start { .. }
            | Step::Mark { .. }
            | Step::Adopt { .. }
            | Step::RaiseFloor { .. }
            | Step::Forget { .. } => None,
        });
    }
    rows
}

fn with_unit(shown: &Shown, of: Option<Type>) -> String {
    match (shown, of) {
        (Shown::Number(seconds), Some(Type::Duration)) => write_duration(*seconds),
        (Shown::Number(bytes), Some(Type::Bytes)) => format!("{}Mi", number(bytes / 1_048_576.0)),
        (Shown::Number(value), _) => number(*value),
        (Shown::Truth(truth), _) => truth.to_string(),
        (Shown::Text(text), _) => text.clone(),
    }
}

/// Whole where it is, else with up to three digits.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
