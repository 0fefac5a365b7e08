//! `testdata/cli/*.md`: the command line as its user sees it. A session is prose, fenced files that
//! are written into a folder of their own (the fence names the path), and fences `console` with
//! commands, what they print, and `[exit N]` where that is not 0. A heading begins a new folder;
//! `UPDATE=1` writes what is printed now.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{PROGRAM, Site};

#[test]
fn every_session_goes_as_it_is_written_down() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/cli");
    let mut commands = 0;
    let mut differing = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (played, count) = play(&text);
        commands += count;
        if played == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, played).unwrap();
        } else {
            differing.push(difference(&path, &text, &played));
        }
    }
    assert!(commands >= 40, "{commands} commands");
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}

/// The session with everything that is printed now, and how many commands it has.
fn play(text: &str) -> (String, usize) {
    let mut played = String::new();
    let mut folder = tempfile::tempdir().unwrap();
    let mut commands = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            folder = tempfile::tempdir().unwrap();
        }
        let _ = writeln!(played, "{line}");
        let Some(fence) = line.strip_prefix("```") else { continue };
        let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if fence == "console" {
            for command in body.iter().filter_map(|line| line.strip_prefix("$ ")) {
                let _ = write!(played, "$ {command}\n{}", run(&folder, command));
                commands += 1;
            }
        } else {
            let content = body.iter().fold(String::new(), |text, line| text + line + "\n");
            let (_, path) = fence.split_once(' ').expect("the fence of a file names its path");
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, &content).unwrap();
            played.push_str(&content);
        }
        played.push_str("```\n");
    }
    (played, commands)
}

/// What a shell in this folder prints for a command, and how it ended.
fn run(folder: &TempDir, command: &str) -> String {
    let programs = Path::new(PROGRAM).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("COLUMNS")
        .env_remove("QSCALER_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    if !said.is_empty() && !said.ends_with('\n') {
        said.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => {
            let _ = writeln!(said, "[exit {code}]");
        }
        None => said += "[ended by a signal]\n",
    }
    said
}

fn difference(path: &Path, before: &str, after: &str) -> String {
    let line = before.lines().zip(after.lines()).position(|(a, b)| a != b).unwrap_or(0);
    let show = |text: &str| text.lines().skip(line).take(3).collect::<Vec<_>>().join("\n");
    format!("{}:{}\nwritten:\n{}\nnow:\n{}", path.display(), line + 1, show(before), show(after))
}

/// Standard output, standard error and exit code of `qscaler explain` on a site's record.
fn explain(site: &Site, more: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(PROGRAM);
    command.arg("explain").arg("--state").arg(site.path("state")).args(more);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn explain_says_why_there_are_so_many_workers_and_the_record_gives_the_same_answer_again() {
    let site = Site::new();
    site.write_rule(1);
    site.write_workload();
    site.enqueue("t1", 2.0);
    site.enqueue("t2", 2.0);
    let engine = site.start_engine();
    site.wait_for_running(2);
    engine.stop();

    let (line, _, exit) = explain(&site, &["work", "--at", "12h"]);
    assert_eq!((line.as_str(), exit), ("", 1));
    let (_, error, _) = explain(&site, &["work", "--at", "12h"]);
    assert!(
        error.contains("nothing was recorded up to") && error.contains("the record begins at"),
        "{error}"
    );

    // The first line: two tasks wait and nobody is there.
    let first: i64 = site
        .state()
        .unwrap()
        .query_row("SELECT MIN(wall_ms) FROM records WHERE line LIKE '%\"replicas\":2%'", [], |row| {
            row.get(0)
        })
        .unwrap();
    // With a fraction it is that very millisecond, without one all up to the end of that second.
    let at = jiff::Timestamp::from_millisecond(first).unwrap();
    let exact = at.strftime("%FT%T.%3fZ").to_string();
    let (text, error, exit) = explain(&site, &["work", "--replay", "--at", &exact]);
    assert_eq!((error.as_str(), exit), ("replay: the same decision, bit by bit\n", 0));
    let clock = at.strftime("%T").to_string();
    assert!(text.starts_with(&format!("default/work at {clock}")), "{text}");
    for part in [
        "\n  rule      fixed",
        "\n  measured  ",
        "queue.length",
        "\n  steps     desired ",
        "= queue.length + queue.inflight",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let (json, _, exit) = explain(&site, &["default/work", "--format", "json"]);
    let line: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((line["workload"].as_str(), exit), (Some("default/work"), 0));
    assert_eq!(line["decision"]["because"], "stopping", "the last decision was to let all go");
}

#[test]
fn explain_asks_for_a_workload_that_there_is() {
    let site = Site::new();
    site.write_rule(1);
    site.write_workload();
    site.write_workload_named("other", "command: [sleep, '1000'], leave: signal");
    let engine = site.start_engine();
    site.wait_for_running(2);
    engine.stop();
    for (arguments, says) in [
        (&[][..], "name a workload: default/other, default/work\n"),
        (&["wrok"], "nothing is recorded of `wrok`; there are: default/other, default/work\n"),
        (&["shop/work"], "nothing is recorded of `shop/work`; there are: default/other, default/work\n"),
    ] {
        assert_eq!(explain(&site, arguments), (String::new(), says.to_owned(), 3));
    }
}
