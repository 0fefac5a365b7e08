//! Sets of files: a bad file keeps what it said, the others change, contradictions change nothing.

use qscaler_core::catalog::{Catalog, Found};
use qscaler_core::problem::{Code, has_errors};

use crate::world::{file, load, rule_file};

const GOOD: &str = "replicas: {desired: queue.length, max: 5}";
const BETTER: &str = "replicas: {desired: queue.length * 2, max: 5}";
const BAD: &str = "replicas: {desired: queue.lenght, max: 5}";

fn desired(catalog: &Catalog, name: &str) -> Option<String> {
    let rule = catalog.rules().find(|rule| rule.name == name)?;
    Some(rule.document.spec.replicas.desired.text.clone())
}

#[test]
fn a_bad_file_keeps_its_last_good_version_while_the_others_change() {
    let before = load(vec![rule_file("a", GOOD), rule_file("b", GOOD)]).catalog;
    let update = before.update(vec![rule_file("a", BAD), rule_file("b", BETTER)]);
    assert!(has_errors(&update.problems) && !update.refused);
    assert_eq!(desired(&update.catalog, "a").as_deref(), Some("queue.length"));
    assert_eq!(desired(&update.catalog, "b").as_deref(), Some("queue.length * 2"));
    assert_eq!(update.catalog.kept(), ["a.yaml"]);
    let again = update.catalog.update(vec![rule_file("a", BAD), rule_file("b", BETTER)]);
    assert_eq!(desired(&again.catalog, "a").as_deref(), Some("queue.length"), "however often it is read");
    let mended = again.catalog.update(vec![rule_file("a", BETTER), rule_file("b", BETTER)]);
    assert_eq!((mended.catalog.kept(), mended.problems.len()), (vec![], 0));
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_rules_too() {
    let before = load(vec![rule_file("a", GOOD)]).catalog;
    let gone = Found { path: "a.yaml".into(), text: Err("Permission denied (os error 13)".into()) };
    let update = before.update(vec![gone]);
    assert_eq!(desired(&update.catalog, "a").as_deref(), Some("queue.length"));
    assert_eq!(update.problems[0].code, Code::Unreadable);
}

#[test]
fn a_file_that_was_bad_from_the_begin_says_nothing() {
    let update = load(vec![rule_file("a", BAD), rule_file("b", GOOD)]);
    assert_eq!(update.catalog.rules().count(), 1);
}

#[test]
fn a_file_that_is_removed_takes_its_rules_along() {
    let before = load(vec![rule_file("a", GOOD), rule_file("b", GOOD)]).catalog;
    assert_eq!(before.update(vec![rule_file("b", GOOD)]).catalog.rules().count(), 1);
}

#[test]
fn files_that_contradict_each_other_change_nothing_at_all() {
    let before = load(vec![rule_file("a", GOOD), rule_file("b", GOOD)]).catalog;
    let Found { text, .. } = rule_file("a", BETTER);
    let twin = Found { path: "c.yaml".into(), text };
    let update = before.update(vec![rule_file("a", BETTER), rule_file("b", BETTER), twin]);
    assert!(update.refused);
    assert_eq!(desired(&update.catalog, "b").as_deref(), Some("queue.length"));
}

#[test]
fn a_workload_without_a_good_rule_leaves_the_others_alone() {
    let workload = |name: &str, rule: &str| {
        format!(
            "apiVersion: qscaler.dev/v1alpha1
kind: Workload
metadata: {{name: {name}}}
spec:
  target: {{command: [worker]}}
  source: {{type: sqlite, url: \"sqlite:q.db\"}}
  queues: [{{name: q}}]
  rule: {rule}
"
        )
    };
    let workloads = format!("{}---\n{}", workload("one", "a"), workload("two", "missing"));
    let update = load(vec![rule_file("a", GOOD), file("workloads.yaml", &workloads)]);
    let policies: Vec<_> = update
        .catalog
        .assignments()
        .iter()
        .map(|it| (it.workload.name.clone(), it.policy.is_some()))
        .collect();
    assert_eq!(policies, [("one".to_owned(), true), ("two".to_owned(), false)]);
    assert_eq!(update.problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::NoRule]);
}
