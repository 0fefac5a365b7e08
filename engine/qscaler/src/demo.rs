//! The demo: real worker processes on a bundled load, and an auditor who trusts nobody.
//!
//! The demo is a supervisor. `qscaler run` is its child, which it may kill; the workers are the same
//! program. What counts is what the *tasks themselves* write down ([`diary`]): a start and an end. The
//! auditor ([`audit`]) counts from these lines alone. A control with abrupt kills shows that it would
//! see an interruption.

pub mod audit;
mod control;
pub mod diary;
pub mod load;
mod producer;
mod scene;
mod summary;
mod view;
pub mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::exit::Exit;

use audit::Audit;
use load::Load;
use producer::Producer;
use scene::Scene;
use summary::Summary;
use view::View;

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the queue is; a SQLite file of the demo's own without.
    pub queue: Option<String>,
    /// The load.
    pub load: Load,
    /// Kill the engine with SIGKILL this long after the begin, and start another.
    pub kill_engine_at: Option<Duration>,
    /// Write the figures here as JSON.
    pub json: Option<PathBuf>,
    /// Keep the demo's folder.
    pub keep: bool,
}

/// How often the demo looks at what is going on.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After the last task the number of workers must come down within this time.
const COME_DOWN_MAX: Duration = Duration::from_secs(45);
/// Workers that were told to leave must be gone within this time.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Runs the demo.
pub async fn run(settings: Settings) -> Result<Exit, String> {
    let mut scene = Scene::set(&settings)?;
    let result = tokio::select! {
        result = play(&settings, &mut scene) => result,
        _ = tokio::signal::ctrl_c() => Err("stopped".into()),
    };
    scene.clear().await;
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => return Err(scene.give_up(&error)),
    };
    if let Some(path) = &settings.json {
        let text = format!("{:#}\n", summary.json());
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    crate::cli::say(&summary.text(&scene.folder, settings.keep));
    let good = summary.is_good();
    if good && !settings.keep {
        scene.remove();
    }
    Ok(if good { Exit::Good } else { Exit::Problems })
}

async fn play(settings: &Settings, scene: &mut Scene) -> Result<Summary, String> {
    let mut producer = Producer::connect(&scene.url, &scene.queue).await?;
    let mut view = View::new(settings.load.duration());
    scene.start_engine()?;
    // The minimum of one worker is there before the first task comes: the demo shows 1 -> many -> 1.
    scene.wait_for_workers(1).await?;
    let begin = Instant::now();
    let mut kill_at = settings.kill_engine_at;
    let mut tasks = settings.load.tasks.iter();
    let mut next = tasks.next();
    let mut finished_at = None;
    let mut looked_at = Instant::now();
    loop {
        let now = begin.elapsed();
        while let Some(task) = next.filter(|task| task.at <= now) {
            producer.enqueue(task).await?;
            next = tasks.next();
        }
        if kill_at.is_some_and(|at| at <= now) {
            kill_at = None;
            view.note("the engine is killed with SIGKILL; another one starts");
            scene.kill_engine()?;
            scene.start_engine()?;
        }
        if looked_at.elapsed() >= LOOK_EVERY {
            looked_at = Instant::now();
            let audit = Audit::of(&scene.diary, producer.enqueued(), false)?;
            view.show(now, &audit, scene.latest_decision().await);
            if next.is_none() && audit.running == 0 && audit.done == settings.load.tasks.len() {
                let since = *finished_at.get_or_insert(now);
                if audit.workers_now <= 1 || now.saturating_sub(since) > COME_DOWN_MAX {
                    break;
                }
            }
            if now > settings.load.duration() + settings.load.patience() {
                break;
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    view.note("the load is over; the engine is told to stop, and the last worker leaves");
    let workers_at_the_end = Audit::of(&scene.diary, producer.enqueued(), false)?.workers_now;
    let lines = scene.record().await?;
    scene.stop_engine(STOP_MAX).await?;
    let audit = Audit::of(&scene.diary, producer.enqueued(), true)?;
    producer.tidy(&scene.uid().await?).await?;
    view.note("control: workers of another queue are killed abruptly for 20 seconds");
    let control = control::run(scene).await?;
    Ok(Summary::new(audit, &settings.load, (&lines, workers_at_the_end), control))
}
