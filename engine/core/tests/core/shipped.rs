//! The rules that ship: no problems, and all of their own tests hold.

use std::sync::Arc;

use qscaler_core::catalog::Found;
use qscaler_core::golden;
use qscaler_core::problem::{Format, render};

use crate::world::load;

fn rules() -> Vec<Found> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            found.push(Found { path: path.file_name().unwrap().to_str().unwrap().into(), text });
        }
    }
    found
}

#[test]
fn every_rule_is_without_problems_and_has_tests_that_hold() {
    let update = load(rules());
    assert!(update.problems.is_empty(), "\n{}", render(&update.problems, &update.files, Format::Plain));
    let all: Vec<_> = update.catalog.rules().map(Arc::clone).collect();
    for rule in &all {
        let first = "empty history, no worker, one task -> one worker";
        let mut names = vec![];
        for (file, index, document) in update.catalog.tests() {
            let beside = update.catalog.rules_of(&file.path.replace(".test.", "."));
            for outcome in
                golden::run(index, document, &beside, &all).into_iter().filter(|it| it.rule == rule.name)
            {
                let problems: Vec<_> =
                    outcome.findings.into_iter().map(|finding| file.locate(finding)).collect();
                assert!(
                    problems.is_empty(),
                    "\n{}",
                    render(&problems, std::slice::from_ref(file), Format::Plain)
                );
                names.push(outcome.name);
            }
        }
        let scales = !rule.document.spec.replicas.is_as_it_is();
        assert!(!names.is_empty(), "{} has no test", rule.name);
        assert!(!scales || names.iter().any(|name| name == first), "{} has no test `{first}`", rule.name);
    }
}

#[test]
fn the_rule_of_the_readme_is_without_problems_and_its_test_holds() {
    let readme = include_str!("../../../../README.md");
    let fences: Vec<_> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    let paths = ["mail.yaml", "mail.test.yaml", "workload.yaml"];
    let found = paths.iter().zip(&fences).map(|(path, (text, _))| crate::world::file(path, text)).collect();
    let update = load(found);
    assert!(update.problems.is_empty(), "\n{}", render(&update.problems, &update.files, Format::Plain));
    let all: Vec<_> = update.catalog.rules().map(Arc::clone).collect();
    let (_, index, document) = update.catalog.tests().next().expect("a test");
    for outcome in golden::run(index, document, &all, &all) {
        assert_eq!(outcome.findings, [], "{}", outcome.name);
    }
}
