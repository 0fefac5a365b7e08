//! `testdata/expressions/problems.txt`: what refused expressions are told.

use std::fmt::Write;

use crate::world::compile;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/expressions/problems.txt");

#[test]
fn every_refused_expression_is_told_what_to_type() {
    let text = std::fs::read_to_string(FILE).expect("the file is there");
    let mut written = String::new();
    for line in text.lines() {
        let comment = line.starts_with('#');
        if comment || line.starts_with('>') {
            if !comment {
                written.push('\n');
            }
            written.push_str(line);
            written.push('\n');
        }
        if let Some(expression) = line.strip_prefix("> ") {
            written.push_str(&problems_of(expression));
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(FILE, &written).expect("the file can be written");
    }
    assert!(
        text == written,
        "problems.txt differs; `UPDATE=1 cargo test -p qscaler-cel` shows how:\n{written}"
    );
}

fn problems_of(expression: &str) -> String {
    let Err(problems) = compile(expression) else { return "  accepted\n".into() };
    let mut text = String::new();
    for problem in problems {
        let at = " ".repeat(problem.span.start);
        let carets = "^".repeat(problem.span.len().max(1));
        let _ = writeln!(text, "  {at}{carets}\n  {} {}", problem.code, problem.message);
        if let Some(help) = problem.help {
            let _ = writeln!(text, "  help: {help}");
        }
    }
    text
}
