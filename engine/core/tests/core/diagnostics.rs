//! `testdata/diagnostics/*.md`: files that are wrong, and exactly what their author is shown. Each case
//! is some fenced files (the fence names the path) and then a fence `text` with the rendering;
//! `UPDATE=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use qscaler_core::catalog::Found;
use qscaler_core::problem::{Format, render};

use crate::world::load;

#[test]
fn every_wrong_file_is_shown_as_it_is_written_down() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/diagnostics");
    let mut cases = 0;
    let mut differing = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (written, count) = rewrite(&text);
        cases += count;
        if written != text {
            differing.push(difference(&path, &text, &written));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, written).unwrap();
                differing.pop();
            }
        }
    }
    assert!(cases >= 10, "{cases} cases");
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}

/// The document with every rendering as it is now, and how many cases it has.
fn rewrite(text: &str) -> (String, usize) {
    let mut written = String::new();
    let mut files: Vec<Found> = vec![];
    let mut cases = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(written, "{line}");
        let Some(fence) = line.strip_prefix("```") else { continue };
        let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if fence == "text" {
            let update = load(std::mem::take(&mut files));
            written.push_str(render(&update.problems, &update.files, Format::Plain).trim_end());
            written.push('\n');
            cases += 1;
        } else {
            let content = body.iter().fold(String::new(), |text, line| text + line + "\n");
            let path = fence.split_once(' ').map_or("rule.yaml", |(_, path)| path);
            files.push(Found { path: path.into(), text: Ok(content.replace('\u{2192}', "\t")) });
            for line in body {
                let _ = writeln!(written, "{line}");
            }
        }
        written.push_str("```\n");
    }
    (written, cases)
}

fn difference(path: &Path, before: &str, after: &str) -> String {
    let line = before.lines().zip(after.lines()).position(|(a, b)| a != b).unwrap_or(0);
    let show = |text: &str| text.lines().skip(line).take(3).collect::<Vec<_>>().join("\n");
    format!("{}:{}\nwritten:\n{}\nnow:\n{}", path.display(), line + 1, show(before), show(after))
}
