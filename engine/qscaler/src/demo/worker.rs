//! A worker of the demo: what a user of the SDK would write. A task is a text `ID SECONDS`; its body
//! sleeps that long and writes down when it began and ended.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qscaler_protocol::environment;
use qscaler_worker::{Settings, Task, Worker};

use super::diary::{Diary, What};
use crate::cli::complain;
use crate::exit::Exit;

/// The folder of the diaries.
pub const DIARY: &str = "QSCALER_DEMO_DIARY";

/// Works until the engine lets it go.
pub fn run() -> Exit {
    // The very first thing: from here on the process is there.
    let name = env::var(environment::WORKER_NAME).unwrap_or_else(|_| "nobody".into());
    let folder = PathBuf::from(env::var_os(DIARY).unwrap_or_else(|| "diary".into()));
    let file = format!("{name}-{}", std::process::id());
    let diary =
        match Diary::open(&folder, &file).and_then(|diary| diary.write(&What::Boot(name)).map(|()| diary)) {
            Ok(diary) => Arc::new(diary),
            Err(error) => {
                complain(&format!("{}: {error}", folder.display()));
                return Exit::Failed;
            }
        };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    let result =
        runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(work(&diary)));
    let gone = diary.write(&What::Gone).map_err(|error| error.to_string());
    match result.and(gone) {
        Ok(()) => Exit::Good,
        Err(error) => {
            complain(&error);
            Exit::Failed
        }
    }
}

async fn work(diary: &Arc<Diary>) -> Result<(), String> {
    let settings = Settings::from_environment().map_err(|error| error.to_string())?;
    let worker = Worker::connect(settings).await.map_err(|error| error.to_string())?;
    let diary = Arc::clone(diary);
    let ended = worker.run(move |task| body(Arc::clone(&diary), task)).await;
    ended.map(|_| ()).map_err(|error| error.to_string())
}

async fn body(diary: Arc<Diary>, task: Task) -> Result<(), String> {
    let text = String::from_utf8(task.payload).map_err(|error| error.to_string())?;
    let (id, seconds) = text.split_once(' ').ok_or("a task is `ID SECONDS`")?;
    let seconds: f64 = seconds.parse().map_err(|_| "a task is `ID SECONDS`")?;
    let write = |what: What| diary.write(&what).map_err(|error| error.to_string());
    write(What::Start(id.to_owned(), task.attempt))?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    write(What::End(id.to_owned(), task.attempt))
}
