//! Counts what really happened, from what tasks wrote down and from nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use qscaler_core::time::Time;

use super::diary::{self, Line, What};

/// What the diaries say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audit {
    /// Tasks that were put into the queue.
    pub tasks: usize,
    /// Tasks with an end.
    pub done: usize,
    /// Tasks without an end.
    pub lost: usize,
    /// Tasks with two ends.
    pub duplicated: usize,
    /// Attempts that began and never ended.
    pub interrupted: usize,
    /// Attempts that run now.
    pub running: usize,
    /// Seconds from the enqueue to the first start, sorted.
    pub waits: Vec<f64>,
    /// Workers: name, first line, last line, and whether it is gone.
    pub workers: Vec<Life>,
    /// Workers that are there now.
    pub workers_now: usize,
    /// When each task was put into the queue, sorted.
    pub enqueued: Vec<Time>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub name: String,
    /// Its first line.
    pub born: Time,
    /// Its last line.
    pub last: Time,
    /// It has written its last line, or was seen dead.
    pub gone: bool,
}

#[derive(Default)]
struct TaskStory {
    starts: Vec<(u32, Time)>,
    ends: Vec<u32>,
}

impl Audit {
    /// Reads the diaries in `folder` and compares them with what was enqueued. `over`: no worker is
    /// left, so what has no end now never gets one.
    pub fn of(folder: &Path, enqueued: &BTreeMap<String, Time>, over: bool) -> Result<Self, String> {
        Ok(Self::count(&diary::read(folder)?, enqueued, over))
    }

    /// Counts.
    pub fn count(diaries: &[Vec<Line>], enqueued: &BTreeMap<String, Time>, over: bool) -> Self {
        let mut audit = Audit { tasks: enqueued.len(), ..Audit::default() };
        let mut stories: BTreeMap<&str, TaskStory> = BTreeMap::new();
        for diary in diaries {
            for line in diary {
                match &line.what {
                    What::Start(task, attempt) => {
                        stories.entry(task).or_default().starts.push((*attempt, line.at));
                    }
                    What::End(task, attempt) => stories.entry(task).or_default().ends.push(*attempt),
                    What::Boot(_) | What::Gone => {}
                }
            }
            audit.workers.extend(life(diary));
            let unfinished = unfinished(diary);
            let gone = over || diary.last().is_some_and(|line| line.what == What::Gone);
            *(if gone { &mut audit.interrupted } else { &mut audit.running }) += unfinished;
        }
        for (task, since) in enqueued {
            let none = TaskStory::default();
            let story = stories.get(task.as_str()).unwrap_or(&none);
            audit.done += usize::from(!story.ends.is_empty());
            audit.lost += usize::from(story.ends.is_empty());
            audit.duplicated += usize::from(story.ends.len() > 1);
            if let Some((_, began)) = story.starts.iter().min_by_key(|(_, at)| *at) {
                audit.waits.push(began.since(*since).as_secs_f64());
            }
        }
        audit.waits.sort_by(f64::total_cmp);
        audit.enqueued = enqueued.values().copied().collect();
        audit.enqueued.sort_unstable();
        audit.workers_now = audit.workers.iter().filter(|life| !life.gone).count();
        audit
    }

    /// The wait that this part of the tasks did not exceed, in seconds.
    pub fn wait(&self, part: f64) -> f64 {
        quantile(&self.waits, part)
    }

    /// Seconds that workers were there.
    pub fn worker_seconds(&self) -> f64 {
        self.workers.iter().map(|life| life.last.since(life.born).as_secs_f64()).sum()
    }

    /// The most workers at a time.
    pub fn workers_max(&self) -> usize {
        let mut changes: Vec<(Time, i64)> =
            self.workers.iter().flat_map(|life| [(life.born, 1), (life.last, -1)]).collect();
        changes.sort_unstable();
        let mut now = 0;
        let most = changes.iter().map(|(_, change)| {
            now += change;
            now
        });
        usize::try_from(most.max().unwrap_or(0)).unwrap_or(0)
    }
}

/// The nearest-rank quantile of sorted numbers; 0 of none.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

fn life(diary: &[Line]) -> Option<Life> {
    let first = diary.first()?;
    let last = diary.last()?;
    let What::Boot(name) = &first.what else { return None };
    Some(Life { name: name.clone(), born: first.at, last: last.at, gone: last.what == What::Gone })
}

/// Attempts of one worker without their end.
fn unfinished(diary: &[Line]) -> usize {
    let ended = |task: &str, attempt: u32| {
        diary.iter().any(|line| matches!(&line.what, What::End(it, on) if it == task && *on == attempt))
    };
    let open = |line: &&Line| matches!(&line.what, What::Start(task, attempt) if !ended(task, *attempt));
    diary.iter().filter(open).count()
}
