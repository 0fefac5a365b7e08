//! All rules and workloads of a folder or two: what holds, which rule is whose, and what changes when
//! files change. A bad file keeps what it said last; a set is refused whole only when its parts
//! contradict each other.

mod assign;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::test::TestDocument;
use crate::problem::{Code, File, Finding, Place, Problem, Severity, has_errors};
use crate::rule::{Policy, Rule, compile};
use crate::schema::{self, Read, Refusal};
use crate::workload::Workload;
use crate::yaml;

pub use assign::Assignment;

/// A file as it was found: its text, or why it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, as the user knows it.
    pub path: String,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// What one file says.
#[derive(Clone, Debug, Default)]
struct Entry {
    file: File,
    rules: Vec<(usize, Arc<Rule>)>,
    workloads: Vec<(usize, Arc<Workload>)>,
    tests: Vec<(usize, TestDocument)>,
    /// Problems of the file as it stands.
    problems: Vec<Problem>,
    /// The file as it stands is bad, and this is what it said before.
    kept: bool,
}

/// All rules and workloads.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<String, Entry>,
}

/// What became of a set of files.
#[derive(Clone, Debug)]
pub struct Update {
    /// What holds now.
    pub catalog: Catalog,
    /// All problems of all files, those of kept ones included.
    pub problems: Vec<Problem>,
    /// Every file as it was found, for showing the problems.
    pub files: Vec<File>,
    /// The parts of the set contradict each other; what held before still holds.
    pub refused: bool,
}

impl Catalog {
    /// Takes in the files as they are now.
    pub fn update(&self, found: Vec<Found>) -> Update {
        let mut files = vec![];
        let mut problems = vec![];
        let mut entries = BTreeMap::new();
        for found in found {
            let entry = read_entry(found);
            files.push(entry.file.clone());
            problems.extend(entry.problems.iter().cloned());
            let path = entry.file.path.clone();
            let before = self.entries.get(&path);
            let keep = has_errors(&entry.problems);
            let entry = match before {
                Some(before) if keep => Entry { kept: true, ..before.clone() },
                _ => entry,
            };
            entries.insert(path, entry);
        }
        let catalog = Catalog { entries };
        let contradictions = catalog.contradictions();
        let refused = !contradictions.is_empty();
        problems.extend(contradictions);
        let catalog = if refused { self.clone() } else { catalog };
        problems.extend(catalog.assignments().into_iter().flat_map(|assignment| assignment.problems));
        Update { catalog, problems, files, refused }
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.entries.values().flat_map(|entry| entry.rules.iter().map(|(_, rule)| rule))
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.entries.values().flat_map(|entry| entry.workloads.iter().map(|(_, workload)| workload))
    }

    /// All test documents, each with its file and its place in it.
    pub fn tests(&self) -> impl Iterator<Item = (&File, usize, &TestDocument)> {
        let entries = self.entries.values();
        entries.flat_map(|entry| entry.tests.iter().map(move |(index, test)| (&entry.file, *index, test)))
    }

    /// The rules of one file.
    pub fn rules_of(&self, path: &str) -> Vec<Arc<Rule>> {
        let entry = self.entries.get(path);
        entry.map(|entry| entry.rules.iter().map(|(_, rule)| Arc::clone(rule)).collect()).unwrap_or_default()
    }

    /// Files whose present text is bad and whose earlier text holds.
    pub fn kept(&self) -> Vec<&str> {
        self.entries.values().filter(|entry| entry.kept).map(|entry| entry.file.path.as_str()).collect()
    }

    /// Two rules, or two workloads, of one name.
    fn contradictions(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let mut rules: BTreeMap<&str, &str> = BTreeMap::new();
        let mut workloads: BTreeMap<String, &str> = BTreeMap::new();
        for entry in self.entries.values() {
            let path = entry.file.path.as_str();
            for (index, rule) in &entry.rules {
                if let Some(first) = rules.insert(&rule.name, path) {
                    let message = format!("the rule `{}` is also in {first}", rule.name);
                    problems.push(duplicate(entry, Code::DuplicateRule, *index, message));
                }
            }
            for (index, workload) in &entry.workloads {
                if let Some(first) = workloads.insert(workload.key(), path) {
                    let message = format!("the workload `{}` is also in {first}", workload.key());
                    problems.push(duplicate(entry, Code::DuplicateWorkload, *index, message));
                }
            }
        }
        problems
    }
}

fn duplicate(entry: &Entry, code: Code, index: usize, message: String) -> Problem {
    let place = Place::value(index, "/metadata/name");
    entry.file.locate(Finding::error(code, place, message).help("rename or remove one of them"))
}

fn read_entry(found: Found) -> Entry {
    let text = match found.text {
        Ok(text) => text,
        Err(reason) => {
            let problem = Problem {
                code: Code::Unreadable,
                severity: Severity::Error,
                file: found.path.clone(),
                span: 0..0,
                message: format!("this file cannot be read: {reason}"),
                help: Some("make it a text in UTF-8 that the engine's user may read, or remove it".into()),
            };
            let file = File { path: found.path, ..File::default() };
            return Entry { file, problems: vec![problem], ..Entry::default() };
        }
    };
    let (file, problems) = yaml::read(&found.path, text);
    let mut entry = Entry { problems, ..Entry::default() };
    if file.documents.is_empty() && entry.problems.is_empty() {
        let finding = Finding::error(Code::Kind, Place::default(), "this file holds no document");
        let finding =
            finding.help("write `apiVersion: qscaler.dev/v1alpha1` and `kind: ScalingRule`, or remove it");
        entry.problems.push(file.locate(finding));
    }
    for (index, document) in file.documents.iter().enumerate() {
        let findings = read_document(index, &document.json(), &mut entry);
        entry.problems.extend(findings.into_iter().map(|finding| file.locate(finding)));
    }
    entry.file = file;
    entry
}

fn read_document(index: usize, json: &serde_json::Value, entry: &mut Entry) -> Vec<Finding> {
    match schema::read(index, json) {
        Err(Refusal { findings, mended }) => {
            let known = |further: &Finding| {
                findings.iter().any(|finding| finding.place.pointer == further.place.pointer)
            };
            let further: Vec<_> =
                further(index, mended).into_iter().filter(|finding| !known(finding)).collect();
            [findings, further].concat()
        }
        Ok(Read::Rule(document)) => {
            let (rule, findings) = compile(index, &document);
            entry.rules.extend(rule.map(|rule| (index, Arc::new(rule))));
            findings
        }
        Ok(Read::Workload(document)) => {
            let (workload, findings) = Workload::compile(index, &document);
            entry.workloads.extend(workload.map(|workload| (index, Arc::new(workload))));
            findings
        }
        Ok(Read::Test(document)) => {
            entry.tests.push((index, document));
            vec![]
        }
    }
}

/// What else is wrong with a document whose form is.
fn further(index: usize, mended: Option<Box<Read>>) -> Vec<Finding> {
    let findings = match mended.map(|read| *read) {
        Some(Read::Rule(document)) => compile(index, &document).1,
        Some(Read::Workload(document)) => Workload::compile(index, &document).1,
        Some(Read::Test(_)) | None => vec![],
    };
    findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// A policy that another one replaces is the same when nothing that decides has changed.
pub fn same(before: &Policy, after: &Policy) -> bool {
    before.rule.hash == after.rule.hash && before.params == after.params
}
