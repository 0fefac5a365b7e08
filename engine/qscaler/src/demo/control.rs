//! The control: the same workers and the same auditor, but workers are killed abruptly, as an
//! autoscaler does that takes away whom it likes. If the auditor saw no interruption here, its zero in
//! the demo would mean nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qscaler_protocol::environment;

use super::audit::Audit;
use super::load::{LoadTask, Random};
use super::producer::Producer;
use super::scene::Scene;
use super::worker::DIARY;
use crate::host::{self, End};

const LASTS: Duration = Duration::from_secs(20);
const WORKERS: usize = 4;
const KILL_EVERY: Duration = Duration::from_millis(800);
const QUEUE: &str = "control";
/// More tasks than the workers can do in the time, so that they are always busy.
const TASKS: usize = 120;
const TASK_SECONDS: f64 = 1.0;

/// What the control has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) kills: usize,
    pub(super) interrupted: usize,
}

pub(super) async fn run(scene: &Scene) -> Result<Control, String> {
    let url = format!("sqlite:{}", scene.beside("control.db").display());
    let diary = scene.beside("control");
    let mut producer = Producer::connect(&url, QUEUE).await?;
    for _ in 0..TASKS {
        producer.enqueue(&LoadTask { at: Duration::ZERO, seconds: TASK_SECONDS }).await?;
    }
    let mut workers = (0..WORKERS).map(|_| start(&url, &diary)).collect::<Result<Vec<_>, _>>()?;
    let mut random = Random(0x00C0_FFEE);
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < LASTS {
        tokio::time::sleep(KILL_EVERY).await;
        let victim = ((random.unit() * WORKERS as f64) as usize).min(WORKERS - 1);
        end(&mut workers[victim], End::Kill)?;
        workers[victim] = start(&url, &diary)?;
        kills += 1;
    }
    workers.iter_mut().try_for_each(|worker| end(worker, End::Ask))?;
    let audit = Audit::of(&diary, &BTreeMap::new(), true)?;
    Ok(Control { kills, interrupted: audit.interrupted })
}

fn start(url: &str, diary: &Path) -> Result<Child, String> {
    let start = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("demo-worker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env(environment::QUEUE_URL, url).env(environment::QUEUE, QUEUE).env(DIARY, diary);
        host::own_session(&mut command);
        command.spawn()
    };
    start().map_err(|error: std::io::Error| format!("cannot start a worker of the control: {error}"))
}

fn end(worker: &mut Child, how: End) -> Result<(), String> {
    host::signal_child(worker.id(), how);
    worker.wait().map(|_| ()).map_err(|error| error.to_string())
}
