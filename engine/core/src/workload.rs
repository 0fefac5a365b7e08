//! What is scaled.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use qscaler_protocol::name::WorkloadUid;

use crate::document::rule::SelectorKind;
use crate::document::scalar::Scalar;
use crate::document::workload::{self as document, Auth, Mode, Pause, SourceType, WorkloadDocument};
use crate::plan::{Leave, Rollout};
use crate::problem::{Code, Finding, Place};
use crate::rule::By;

/// A workload whose document was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What it was written as.
    pub kind: SelectorKind,
    /// Its namespace; "default" where the document names none.
    pub namespace: String,
    /// Its name, the prefix of its workers' names.
    pub name: String,
    /// Its labels, by which rules choose it.
    pub labels: BTreeMap<String, String>,
    /// How its workers are made.
    pub target: Target,
    /// Where its queues are.
    pub source: Source,
    /// Its queues, the most urgent first.
    pub queues: Vec<Queue>,
    /// The rule that it names.
    pub rule: Option<String>,
    /// Its own parameters.
    pub params: BTreeMap<String, Scalar>,
    /// Parameters that its rule gets if it has them: what a QWorker says in the original's fields.
    pub offered: BTreeMap<String, Scalar>,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// A direction in which nothing changes.
    pub pause: Option<Pause>,
    /// Whether its owner wants its containers to have the sizes that its rule says, if it says any.
    pub sized: bool,
}

/// What is scaled, and how its workers end.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What a worker is made of.
    pub made: Made,
    /// How they are asked to leave.
    pub leave: Leave,
    /// How long a worker may take to end after SIGTERM before it is killed.
    pub grace: Duration,
    /// How long workers may take to become idle before one is ended although it works.
    pub deadline: Deadline,
}

/// A workload's word on how long its workers may take to become idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deadline {
    /// As its rule says.
    #[default]
    OfRule,
    /// For ever.
    Never,
    /// So long.
    After(Duration),
}

impl Deadline {
    /// What holds where the rule says this.
    pub fn or(self, of_rule: Option<Duration>) -> Option<Duration> {
        match self {
            Deadline::OfRule => of_rule,
            Deadline::Never => None,
            Deadline::After(time) => Some(time),
        }
    }
}

/// What a worker is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// A process of this machine.
    Process(Command),
    /// A pod of its own on Kubernetes.
    Pod(Box<PodTemplate>),
    /// A replica of something that makes as many as it is asked for.
    Replica(Scaled),
}

impl Made {
    /// Which specification the engine makes workers of, where it has one to tell from another.
    pub fn hash(&self) -> Option<&str> {
        match self {
            Made::Pod(template) => Some(&template.hash),
            Made::Process(_) | Made::Replica(_) => None,
        }
    }

    /// How workers that were made of something else are replaced when so many are desired.
    pub fn rollout(&self, desired: u32) -> Rollout {
        match self {
            Made::Process(_) | Made::Replica(_) => Rollout::default(),
            Made::Pod(template) => Rollout::resolve(template.surge, template.unavailable, desired),
        }
    }
}

/// An object of the workload's own namespace that has a scale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scaled {
    /// Its API version, such as `apps/v1`.
    pub api_version: String,
    /// Its kind, such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A program of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The program and its arguments.
    pub line: Vec<String>,
    /// Environment variables that the workers get besides the engine's own.
    pub environment: BTreeMap<String, String>,
    /// The folder that they run in; the engine's without.
    pub directory: Option<String>,
}

/// What the pods of a QWorker are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTemplate {
    /// The QWorker's uid: it owns them.
    pub owner: WorkloadUid,
    /// Their specification, as it was written.
    pub spec: serde_json::Value,
    /// Which specification it is: pods of another one are replaced.
    pub hash: String,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Further annotations.
    pub annotations: BTreeMap<String, String>,
    /// How many more than desired there may be while pods are replaced.
    pub surge: By,
    /// How many fewer may take tasks meanwhile.
    pub unavailable: By,
}

/// A queue system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Which.
    pub of: System,
    /// Where, without any secret.
    pub url: String,
    /// The user to log in as.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<Password>,
}

/// Where a password is. The password itself is read by who connects, and never kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Password {
    /// In an environment variable of the engine.
    Environment(String),
    /// In a Secret of the workload's own namespace.
    Secret {
        /// The namespace.
        namespace: String,
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
    },
    /// In the document that names the queue system.
    Written(Hidden),
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A kind of queue system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Redis lists.
    Redis,
    /// A SQLite file.
    Sqlite,
}

/// One queue of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The part of its demand that the workload carries, 0 to 1.
    pub share: f64,
}

/// How long a worker may take to end after SIGTERM where nobody says.
pub const GRACE: Duration = Duration::from_secs(30);

impl Workload {
    /// `namespace/name`, which no other workload has.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Names of its queues.
    pub fn queue_names(&self) -> Vec<String> {
        self.queues.iter().map(|queue| queue.name.clone()).collect()
    }

    /// Checks a document. Warnings come with a workload, errors instead of one.
    pub fn compile(index: usize, document: &WorkloadDocument) -> (Option<Workload>, Vec<Finding>) {
        let spec = &document.spec;
        let findings =
            [check_target(index, document), check_source(index, document), check_queues(index, document)]
                .concat();
        if findings.iter().any(|finding| finding.severity == crate::problem::Severity::Error) {
            return (None, findings);
        }
        let auth: Option<&Auth> = spec.source.auth.as_ref();
        let target = &spec.target;
        let workload = Workload {
            kind: SelectorKind::Workload,
            namespace: document.metadata.namespace.clone().unwrap_or_else(|| "default".into()),
            name: document.metadata.name.clone(),
            labels: document.metadata.labels.clone(),
            target: Target {
                made: Made::Process(Command {
                    line: target.command.clone(),
                    environment: target.env.clone(),
                    directory: target.directory.clone(),
                }),
                leave: target.leave.into(),
                grace: target.grace_period.as_ref().map_or(GRACE, crate::document::scalar::Duration::std),
                deadline: Deadline::OfRule,
            },
            source: Source {
                of: system(spec.source.of),
                url: spec.source.url.clone(),
                username: auth.and_then(|auth| auth.username.clone()),
                password: auth.map(|auth| Password::Environment(auth.password_env.clone())),
            },
            queues: spec.queues.iter().map(Queue::from).collect(),
            rule: spec.rule.clone(),
            params: spec.params.clone(),
            offered: BTreeMap::new(),
            mode: spec.mode,
            pause: spec.pause,
            sized: spec.vertical,
        };
        (Some(workload), findings)
    }
}

impl From<&document::Queue> for Queue {
    fn from(written: &document::Queue) -> Self {
        Self { name: written.name.clone(), share: written.share.unwrap_or(1.0) }
    }
}

impl From<document::Leave> for Leave {
    fn from(written: document::Leave) -> Self {
        match written {
            document::Leave::Offer => Leave::Offer,
            document::Leave::Signal => Leave::Signal,
        }
    }
}

fn system(of: SourceType) -> System {
    match of {
        SourceType::Redis => System::Redis,
        SourceType::Sqlite => System::Sqlite,
    }
}

fn check_target(index: usize, document: &WorkloadDocument) -> Vec<Finding> {
    let target = &document.spec.target;
    let place = |pointer: &str| Place::key(index, format!("/spec/target{pointer}"));
    let is_kubernetes = target.kind.is_some() || target.api_version.is_some() || target.name.is_some();
    match (target.command.is_empty(), is_kubernetes) {
        (true, false) => {
            let finding = Finding::error(
                Code::MissingField,
                place(""),
                "the target says neither what to run nor what to scale",
            );
            vec![finding.help("write `command: [python, worker.py]`")]
        }
        (false, true) => {
            let finding = Finding::error(
                Code::Value,
                place("/command"),
                "a target is a command or a Kubernetes object, not both",
            );
            vec![finding.help("remove one of them")]
        }
        (true, true) => {
            let finding = Finding::error(
                Code::Value,
                place(""),
                "this program scales commands on this machine and no Kubernetes objects",
            );
            vec![finding.help("write `command: [python, worker.py]`")]
        }
        (false, false) if target.command[0].is_empty() => {
            let at = Place::value(index, "/spec/target/command/0");
            vec![
                Finding::error(Code::Value, at, "the program's name is empty")
                    .help("write `command: [python, worker.py]`"),
            ]
        }
        (false, false) => vec![],
    }
}

fn check_source(index: usize, document: &WorkloadDocument) -> Vec<Finding> {
    let source = &document.spec.source;
    let place = Place::value(index, "/spec/source/url");
    let scheme = source.url.split(':').next().unwrap_or_default();
    let (schemes, example): (&[&str], _) = match source.of {
        SourceType::Redis => (&["redis", "rediss"], "redis://127.0.0.1:6379"),
        SourceType::Sqlite => (&["sqlite"], "sqlite:queue.db"),
    };
    if !schemes.contains(&scheme) {
        let message = format!("`{}` is no address of {:?}", source.url, source.of).to_lowercase();
        return vec![
            Finding::error(Code::Source, place, message).help(format!("write something like `{example}`")),
        ];
    }
    if source.of == SourceType::Redis && source.url.contains('@') {
        let finding = Finding::warning(
            Code::Suspicious,
            place,
            "a password in a document is seen by everybody who reads it",
        );
        return vec![finding.help("write `auth: {passwordEnv: NAME}` and set that variable for the engine")];
    }
    vec![]
}

fn check_queues(index: usize, document: &WorkloadDocument) -> Vec<Finding> {
    let queues = &document.spec.queues;
    let twice = queues
        .iter()
        .enumerate()
        .filter(|(place, queue)| queues[..*place].iter().any(|it| it.name == queue.name));
    twice
        .map(|(place, queue)| {
            let at = Place::value(index, format!("/spec/queues/{place}/name"));
            Finding::error(Code::Value, at, format!("the queue `{}` is listed twice", queue.name))
                .help("remove one of them")
        })
        .collect()
}
