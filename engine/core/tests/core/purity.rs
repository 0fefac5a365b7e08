//! The core does no IO: nothing that could is among its dependencies or named in its sources.

use std::process::Command;

/// Crates that bring a runtime, a client, a file watcher or a clock.
const IMPURE: &[&str] =
    &["tokio", "kube", "redis", "rusqlite", "notify", "hyper", "reqwest", "mio", "async-std"];

#[test]
fn no_dependency_of_the_core_does_io() {
    for package in ["qscaler-core", "qscaler-cel", "qscaler-protocol"] {
        let tree = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--package",
                package,
            ])
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        assert!(tree.contains(package), "cargo tree says nothing of {package}");
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(!IMPURE.contains(&name), "{package} depends on {name}");
        }
    }
}

#[test]
fn no_source_of_the_core_names_files_network_clocks_threads_or_the_environment() {
    let sources = [env!("CARGO_MANIFEST_DIR"), concat!(env!("CARGO_MANIFEST_DIR"), "/../cel")];
    for file in sources.iter().flat_map(|root| rust_files(&format!("{root}/src"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in
            ["std::fs", "std::net", "std::env", "std::thread", "SystemTime", "Instant", "tokio::", "println!"]
        {
            assert!(!text.contains(word), "{file} names {word}");
        }
    }
}

fn rust_files(folder: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = path.to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(rust_files(&text));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(text);
        }
    }
    found
}
