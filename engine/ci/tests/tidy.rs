//! The tree stays as a newcomer would want it: short files, telling names, a sentence at the head of
//! every module, and no path of anybody's machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Code lines of one file. Beyond, it is two things.
const LINES_MAX: usize = 400;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 7] = ["mod", "util", "utils", "helpers", "common", "misc", "imp"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files under version control, and those that would be.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    let text = String::from_utf8(listed.stdout).expect("paths are texts");
    text.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect()
}

fn sources() -> Vec<(String, String)> {
    let is_source = |file: &String| matches!(ending(file), "rs" | "py");
    let read = |file: String| {
        let text = std::fs::read_to_string(root().join(&file)).expect("a source is a text");
        (file, text)
    };
    let sources: Vec<_> = files().into_iter().filter(is_source).map(read).collect();
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

fn ending(file: &str) -> &str {
    Path::new(file).extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.contains("/benches/")
}

#[test]
fn no_source_is_longer_than_one_thing_needs() {
    for (file, text) in sources().into_iter().filter(|(file, _)| !is_test(file)) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().map(str::trim);
        let lines = code.filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#'));
        let lines = lines.count();
        assert!(lines <= LINES_MAX, "{file} has {lines} code lines; what is it two of?");
    }
}

#[test]
fn names_of_files_say_what_is_in_them() {
    for file in files() {
        let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(!EMPTY_NAMES.contains(&stem), "{file}: a name that says nothing");
    }
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    for (file, text) in sources() {
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        let empty = text.trim().is_empty();
        let told = if ending(&file) == "rs" { first.starts_with("//!") } else { first.starts_with("\"\"\"") };
        assert!(told || empty, "{file} does not say what it is for");
    }
}

#[test]
fn no_text_names_a_folder_of_somebodys_machine() {
    let root = root().canonicalize().expect("the root is there");
    let home = std::env::var("HOME").unwrap_or_default();
    let names = [root.display().to_string(), home].map(|name| format!("{name}/"));
    for file in files() {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        for name in names.iter().filter(|name| name.len() > 2) {
            assert!(!text.contains(name.as_str()), "{file} names {name}");
        }
    }
}
