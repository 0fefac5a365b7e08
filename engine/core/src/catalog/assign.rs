//! Which rule is whose: the one that a workload names, else the one whose `for` chooses it. Two
//! candidates are an error for that workload, never a guess.

use std::sync::{Arc, LazyLock};

use qscaler_cel::closest;

use super::{Catalog, Entry, Found};
use crate::document::rule::SelectorKind;
use crate::plan::Leave;
use crate::problem::{Code, File, Finding, Place, Problem};
use crate::record::used_signals;
use crate::rule::{Policy, Rule};
use crate::workload::{System, Workload};

/// A workload and the policy that it gets; none while something is wrong.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its policy.
    pub policy: Option<Policy>,
    /// What is wrong, or probably not meant.
    pub problems: Vec<Problem>,
}

/// Name and text of the rule with the original's formula.
const ORIGINAL: (&str, &str) = ("scaling-factor", include_str!("../../../../rules/scaling-factor.yaml"));

impl Catalog {
    /// Every workload with its policy.
    pub fn assignments(&self) -> Vec<Assignment> {
        let of_entry = |entry: &Entry| {
            entry
                .workloads
                .iter()
                .map(|(index, workload)| self.assign(&entry.file, *index, workload))
                .collect::<Vec<_>>()
        };
        self.entries.values().flat_map(of_entry).collect()
    }

    /// A workload that stands in no file with its policy. `place` is what problems call it.
    pub fn assign_found(&self, place: &str, workload: &Arc<Workload>) -> Assignment {
        self.assign(&File { path: place.to_owned(), ..File::default() }, 0, workload)
    }

    fn assign(&self, file: &File, index: usize, workload: &Arc<Workload>) -> Assignment {
        let chosen = self.choose(index, workload);
        let (policy, findings) = match chosen {
            Ok(rule) => bind(index, workload, rule),
            Err(finding) => (None, vec![finding]),
        };
        let problems = findings.into_iter().map(|finding| file.locate(finding)).collect();
        Assignment { workload: Arc::clone(workload), policy, problems }
    }

    fn choose(&self, index: usize, workload: &Workload) -> Result<Arc<Rule>, Finding> {
        if let Some(name) = &workload.rule {
            return self
                .rules()
                .find(|rule| rule.name == *name)
                .cloned()
                .ok_or_else(|| self.no_such_rule(index, name));
        }
        let candidates: Vec<_> = self.candidates(workload).collect();
        let at = Place::value(index, "/metadata/name");
        match candidates.as_slice() {
            [(_, rule)] => Ok(Arc::clone(rule)),
            [] if workload.kind == SelectorKind::QWorker => self.original(),
            [] => {
                let message = format!("no rule chooses the workload `{}`", workload.name);
                let first = self.rules().next().map_or("NAME", |rule| rule.name.as_str());
                Err(Finding::error(Code::NoRule, at, message).help(format!("name one: `rule: {first}`")))
            }
            several => {
                let list: Vec<_> =
                    several.iter().map(|(path, rule)| format!("`{}` ({path})", rule.name)).collect();
                let message = format!(
                    "{} rules choose the workload `{}`: {}",
                    list.len(),
                    workload.name,
                    list.join(" and ")
                );
                Err(Finding::error(Code::Ambiguous, at, message)
                    .help(format!("name one: `rule: {}`", several[0].1.name)))
            }
        }
    }

    /// What decides a QWorker that no rule was chosen for: the original's formula, so that nothing
    /// changes behind the back of who comes from there.
    fn original(&self) -> Result<Arc<Rule>, Finding> {
        static BUILT_IN: LazyLock<Option<Arc<Rule>>> = LazyLock::new(|| {
            let found = Found { path: String::new(), text: Ok(ORIGINAL.1.to_owned()) };
            Catalog::default().update(vec![found]).catalog.rules().next().cloned()
        });
        let mounted = self.rules().find(|rule| rule.name == ORIGINAL.0).cloned();
        mounted.or_else(|| BUILT_IN.clone()).ok_or_else(|| self.no_such_rule(0, ORIGINAL.0))
    }

    fn no_such_rule(&self, index: usize, name: &str) -> Finding {
        let names: Vec<_> = self.rules().map(|rule| rule.name.as_str()).collect();
        let help = match closest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "there is no rule at all; `qscaler new NAME` writes one".to_owned(),
            None => format!("there are: {}", names.join(", ")),
        };
        let place = Place::value(index, "/spec/rule");
        Finding::error(Code::NoRule, place, format!("there is no rule `{name}`")).help(help)
    }

    /// Rules whose `for` chooses this workload, each with its file.
    fn candidates<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = (&'a str, &'a Arc<Rule>)> {
        let rules = self
            .entries
            .values()
            .flat_map(|entry| entry.rules.iter().map(|(_, rule)| (entry.file.path.as_str(), rule)));
        rules.filter(|(_, rule)| {
            rule.selectors.iter().any(|selector| {
                selector.kind == workload.kind
                    && selector.namespace.as_ref().is_none_or(|namespace| *namespace == workload.namespace)
                    && selector
                        .match_labels
                        .iter()
                        .all(|(name, value)| workload.labels.get(name) == Some(value))
            })
        })
    }
}

fn bind(index: usize, workload: &Workload, rule: Arc<Rule>) -> (Option<Policy>, Vec<Finding>) {
    let mut params = workload.offered.clone();
    params.retain(|name, _| rule.params.contains_key(name));
    params.extend(workload.params.clone());
    match Policy::bind(Arc::clone(&rule), &params) {
        Ok(policy) => (Some(policy), inferred(index, workload, &rule)),
        Err(misfits) => {
            let finding = |misfit: crate::rule::Misfit| {
                let written = workload.params.contains_key(&misfit.param);
                let pointer =
                    if written { format!("/spec/params/{}", misfit.param) } else { "/spec/rule".into() };
                // The name is wrong, or the value.
                let key = written && !rule.params.contains_key(&misfit.param);
                let place = Place { key, ..Place::value(index, pointer) };
                Finding::error(Code::Parameter, place, misfit.message).maybe_help(misfit.help)
            };
            (None, misfits.into_iter().map(finding).collect())
        }
    }
}

/// Warns of signals that the source cannot count.
fn inferred(index: usize, workload: &Workload, rule: &Rule) -> Vec<Finding> {
    if workload.source.of != System::Redis {
        return vec![];
    }
    let uses = |signal: &str| {
        let of_one_queue = signal.replace("queue.", "'].");
        used_signals(rule).any(|name| name == signal || name.ends_with(&of_one_queue))
    };
    let place = || Place::value(index, "/spec/source/type");
    let mut findings = vec![];
    if uses("queue.oldest") {
        let message = format!(
            "`{}` uses `queue.oldest`, which Redis lists do not know: it is inferred from when tasks arrived",
            rule.name
        );
        findings.push(
            Finding::warning(Code::Estimated, place(), message)
                .help("use `queue.length` and `tasks.seconds`, or a source that knows"),
        );
    }
    if uses("queue.arrivals") && workload.target.leave == Leave::Signal {
        let message = format!(
            "`{}` uses `queue.arrivals`, which is only inferred where workers do not use the SDK",
            rule.name
        );
        findings.push(
            Finding::warning(Code::Estimated, place(), message)
                .help("use `queue.length`, or the SDK in the workers"),
        );
    }
    findings
}
