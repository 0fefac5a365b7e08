//! What the status of a QWorker or a Workload tells: how many workers there are and why.
//!
//! A change of the numbers or of a condition is written at once, at most once a second for each object unless
//! fewer workers are wanted; what changes all the time, the length of the queue and the sentence about it,
//! every ten seconds at most; and nothing while nothing changes.

mod news;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event as Notice, EventType, Recorder, Reporter as By};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use qscaler_core::resize::{Exact, in_words};

use super::objects::{Kind, Object, Objects};
use super::pods::{OWNER_LABEL, resources};
use super::{MANAGER, Unfit};
use crate::event::Event;
use crate::ports::Listen;
use news::News;

pub(super) use news::Condition;

/// From one writing of an object's status to the next, at least.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The same where only what always changes has changed.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// After a writing that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// When each condition began to hold, or not to.
type Since = BTreeMap<&'static str, Timestamp>;

/// What is to be said of one object.
#[derive(Clone, Debug, Default, PartialEq)]
struct Report {
    news: News,
    /// Tasks that wait.
    length: Option<u64>,
    /// Why the last decision was made.
    sentence: String,
}

#[derive(Default)]
struct Entry {
    wanted: Report,
    written: Option<(Report, Instant)>,
    /// Since when each condition holds as it does.
    since: Since,
    /// Not before: the last writing failed.
    not_before: Option<Instant>,
}

/// Writes statuses and events of objects.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    objects: Objects,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    /// How the rules are, since they were read last.
    rules: Arc<Mutex<Option<Condition>>>,
    stir: Arc<Notify>,
}

impl Reporter {
    /// Of these objects.
    pub fn new(client: Client, objects: Objects) -> Self {
        Self { client, objects, entries: Arc::default(), rules: Arc::default(), stir: Arc::default() }
    }

    /// Says of an object, in this generation of it, which pods it wants, and what is wrong with it as it is
    /// written; none where nothing is.
    pub fn judge(&self, key: &str, generation: Option<i64>, hash: Option<&str>, unfit: Option<&Unfit>) {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.change(key, |report| {
            report.news.generation = generation;
            report.news.hash = hash.map(str::to_owned);
            report.news.unfit = unfit.map(|unfit| Condition::not_ready(unfit.reason, &unfit.message));
            report.news.rules = rules;
        });
    }

    /// Says nothing more of objects that are gone.
    pub fn keep_only(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().retain(|key, _| is_there(key));
    }

    /// Writes until it is dropped.
    pub async fn run(self) {
        let by = By { controller: MANAGER.into(), instance: None };
        let recorder = Recorder::new(self.client.clone(), by);
        loop {
            tokio::select! {
                () = self.stir.notified() => {}
                () = sleep(WRITE_EVERY) => {}
            }
            for (key, report, since) in self.due() {
                let Ok(object) = self.objects.of_key(&key) else { continue };
                let result = self.write(&recorder, &object, &report, since).await;
                let mut entries = self.lock();
                let Some(entry) = entries.get_mut(&key) else { continue };
                match result {
                    Ok(()) => entry.written = Some((report, Instant::now())),
                    Err(error) => {
                        tracing::warn!(workload = key, %error, "the status cannot be written");
                        entry.not_before = Some(Instant::now() + AFTER_FAILURE);
                    }
                }
            }
        }
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Report)) {
        let mut entries = self.lock();
        let entry = entries.entry(key.to_owned()).or_default();
        let news = entry.wanted.news.clone();
        change(&mut entry.wanted);
        for condition in entry.wanted.news.conditions() {
            if !news.conditions().iter().any(|it| (it.of, it.holds) == (condition.of, condition.holds)) {
                entry.since.insert(condition.of, Timestamp::now());
            }
        }
        if entry.wanted.news != news {
            self.stir.notify_one();
        }
    }

    /// Whose status is to be written now.
    fn due(&self) -> Vec<(String, Report, Since)> {
        let now = Instant::now();
        let is_due = |entry: &Entry| {
            let waits = entry.not_before.is_some_and(|until| until > now);
            !waits
                && match &entry.written {
                    None => true,
                    Some((written, at)) if written.news != entry.wanted.news => {
                        let (before, news) = (&written.news, &entry.wanted.news);
                        // Everybody of the first SDK who reads that there is one too many leaves: not for
                        // longer than it is so.
                        let is_urgent = news.silent > 0 && news.counted() != before.counted();
                        is_urgent || now.duration_since(*at) >= WRITE_EVERY
                    }
                    Some((written, at)) => {
                        *written != entry.wanted && now.duration_since(*at) >= REFRESH_EVERY
                    }
                }
        };
        let entries = self.lock();
        let due = entries.iter().filter(|(_, entry)| is_due(entry));
        due.map(|(key, entry)| (key.clone(), entry.wanted.clone(), entry.since.clone())).collect()
    }

    async fn write(
        &self,
        recorder: &Recorder,
        object: &Object,
        report: &Report,
        since: Since,
    ) -> Result<(), kube::Error> {
        let before = self.lock().get(&object.key()).and_then(|entry| entry.written.clone());
        let before = before.map(|(report, _)| report.news).unwrap_or_default();
        let api = object.api(&self.client);
        let parameters = PatchParams::default();
        let status = json!({"metadata": {"uid": object.uid}, "status": status(object, report, &since)});
        api.patch_status(&object.name, &parameters, &Patch::Merge(status)).await?;
        for notice in notices(&before, report) {
            // An event is a courtesy; the status has it, too.
            if let Err(error) = recorder.publish(&notice, &object.reference()).await {
                tracing::debug!(%error, "an event cannot be written");
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fields of a status; those that it does not name stay as they are.
fn status(object: &Object, report: &Report, since: &Since) -> Value {
    let news = &report.news;
    let mut status = match &object.kind {
        Kind::QWorker => json!({
            "currentReplicas": news.counted().0,
            "drainingReplicas": news.draining,
            "selector": format!("{OWNER_LABEL}={}", object.uid),
        }),
        Kind::Workload { .. } => json!({"current": news.workers, "draining": news.draining}),
    };
    status["reason"] = json!(report.sentence);
    status["observedGeneration"] = json!(news.generation);
    match (&object.kind, news.desired) {
        (Kind::QWorker, Some(_)) => status["desiredReplicas"] = json!(news.counted().1),
        (Kind::Workload { .. }, Some(desired)) => status["desired"] = json!(desired),
        (_, None) => {}
    }
    if let Some(target) = &news.target {
        status["selector"] = json!(target.selector);
    }
    if let Some(hash) = &news.hash {
        status["currentPodSpecHash"] = json!(hash);
    }
    if let Some(length) = report.length {
        status["queueLength"] = json!(length);
    }
    if let Some(sizes) = &news.sizes {
        status["containers"] = sizes.containers.iter().map(|(name, size)| container(name, *size)).collect();
    }
    let condition = |it: Condition| it.written(since.get(it.of).copied().unwrap_or_else(Timestamp::now));
    status["conditions"] = news.conditions().into_iter().map(condition).collect();
    status
}

/// What a container should have.
fn container(name: &str, size: Exact) -> Value {
    let mut container = resources(size);
    container["name"] = json!(name);
    container
}

/// What `kubectl describe` is to show.
fn notices(before: &News, report: &Report) -> Vec<Notice> {
    let notice = |type_, reason: &str, note: &str, action: &str| Notice {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    let mut notices = vec![];
    if let (Some(from), Some(to)) = (before.desired, report.news.desired)
        && from != to
    {
        let note = format!("from {from} to {to}: {}", report.sentence);
        notices.push(notice(EventType::Normal, "Scaled", &note, "Scale"));
    }
    let sizes = |news: &News| news.sizes.as_ref().map(|sizes| sizes.containers.clone());
    if let Some(to) = sizes(&report.news).filter(|to| !to.is_empty() && sizes(before).as_ref() != Some(to)) {
        notices.push(notice(EventType::Normal, "Resized", &in_words(&to), "Resize"));
    }
    let before = before.conditions();
    for now in report.news.conditions() {
        if !before.iter().any(|it| (it.of, it.holds, &it.reason) == (now.of, now.holds, &now.reason)) {
            let type_ = if now.is_bad() { EventType::Warning } else { EventType::Normal };
            notices.push(notice(type_, now.reason, &now.message, "Decide"));
        }
    }
    notices
}

impl Listen for Reporter {
    fn hear(&self, event: &Event) {
        match event {
            Event::Decided { workload, current, workers, silent, length, decision, acts, .. } => {
                self.change(workload, |report| {
                    report.news.desired = Some(decision.replicas);
                    report.news.workers = *workers;
                    report.news.silent = *silent;
                    report.news.acts = *acts;
                    report.news.draining = workers.saturating_sub(*current);
                    report.news.ready = Some(match decision.problems.first() {
                        None => Condition::ready("Deciding", "the rule decides on fresh signals"),
                        Some(problem) => Condition::not_ready("SignalsUnknown", problem),
                    });
                    if let Some(length) = length {
                        report.length = Some(*length as u64);
                    }
                    report.sentence.clone_from(&decision.reason);
                });
            }
            Event::TickFailed { workload, error, .. } => {
                self.change(workload, |report| report.news.failure = Some(error.to_string()));
            }
            Event::Recovered { workload } => self.change(workload, |report| report.news.failure = None),
            Event::Rollout { workload, rollout } => {
                self.change(workload, |report| report.news.rollout.clone_from(rollout));
            }
            Event::Target { workload, target } => {
                self.change(workload, |report| report.news.target = Some((**target).clone()));
            }
            Event::Sizes { workload, sizes } => {
                self.change(workload, |report| report.news.sizes = Some((**sizes).clone()));
            }
            Event::NoRule { workload } => self.change(workload, |report| {
                report.news.ready.get_or_insert_with(|| Condition::not_ready("NoRule", "it has no rule"));
            }),
            Event::Adopted { .. }
            | Event::Released { .. }
            | Event::Done { .. }
            | Event::Interrupted { .. }
            | Event::LateAcks { .. }
            | Event::CommitLost { .. }
            | Event::MemoryFailed { .. }
            | Event::Source { .. } => {}
            Event::Reloaded { rules, errors, kept, refused, .. } => {
                // Every object is judged again when the rules were read.
                let read = Condition::rules(*rules, *errors, kept, *refused);
                *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
            }
        }
    }
}
