//! The reference of rules as a page: every signal, function and problem code, made from the tables
//! that the compiler itself reads.

use std::fmt::Write;

use crate::problem::CODES;
use crate::signal::{CONTAINER_SIGNALS, QUEUE_SIGNALS, SIGNALS, Signal};

const HEAD: &str = "# What rules may say

Made from the program's own tables; `UPDATE=1 cargo test -p qscaler-core reference` writes it anew.

All numbers are doubles: `queue.length / 10` is what it looks like. Durations (`'30s'`), amounts of memory
(`'2Gi'`) and cores are types of their own; `seconds(params.wait)` makes a number of a duration. Operators are
those of CEL: `+ - * /`, `== != < <= > >=`, `&& || !`, `in`, `a ? b : c`, and over list literals `.all`,
`.exists` and `.exists_one`. A signal that was not measured, a division by zero and a result that is no finite
number are never a number: the workload holds and says why.
";

const CONTAINERS: &str = "
`resources` may use these, the rule's parameters and its `let`, and the signals above. `request` is known in
`limit`: the request that was just computed. `target.memory.request` and `target.cpu.request` are known in
`when`: what the rule gives the container. `request`, `limit`, `min`, `max` and `onOom` may also be plain
amounts: `2Gi`, `500m`. Whatever a rule says, a request is never above its limit; without `limit` the
template's ratio of limit to request is kept. Nothing is lowered before the longest window (not: histogram)
of the entry has been watched.
";

/// The page.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    signals(&mut text, "Signals of the queues of a workload", &QUEUE_SIGNALS);
    let _ = writeln!(text, "\nEach is also there for one queue: `queues['high'].length`.");
    signals(&mut text, "Signals of tasks and workers", &SIGNALS);
    signals(&mut text, "Signals of one container, only under `resources`", &CONTAINER_SIGNALS);
    text += CONTAINERS;
    let functions = qscaler_cel::documented().map(|it| (it.signature.to_owned(), it.about.to_owned()));
    table(&mut text, "Functions", ("function", "what it gives"), functions);
    let of_expressions = qscaler_cel::Code::ALL.iter().map(|(_, code, about)| (*code, *about));
    let mut codes: Vec<_> =
        CODES.iter().map(|(_, code, about)| (*code, *about)).chain(of_expressions).collect();
    codes.sort_unstable();
    let codes = codes.into_iter().map(|(code, about)| (code.to_owned(), about.to_owned()));
    table(&mut text, "Problems", ("code", "what it means"), codes);
    text
}

fn signals(text: &mut String, title: &str, signals: &[Signal]) {
    let rows = signals.iter().map(|signal| (signal.name.to_owned(), signal.about.to_owned()));
    table(text, title, ("signal", "what it says"), rows);
}

fn table(
    text: &mut String,
    title: &str,
    (left, right): (&str, &str),
    rows: impl Iterator<Item = (String, String)>,
) {
    let _ = writeln!(text, "\n## {title}\n\n| {left} | {right} |\n|---|---|");
    for (name, about) in rows {
        let _ = writeln!(text, "| `{}` | {} |", name.replace('|', "\\|"), about.replace('|', "\\|"));
    }
}
