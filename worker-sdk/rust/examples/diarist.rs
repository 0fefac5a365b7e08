//! A worker that keeps a diary, for the tests that kill it. A task is a text `ID MILLISECONDS`; its body
//! sleeps that long and writes down when it began and ended. With `DIARIST_HANGS` it stops for ever
//! after its first fetch: the queue system has given a task away, and the worker does not know it yet. With
//! `DIARIST_EATS` the first attempt of each task takes so many MiB of memory; a task that is a text
//! `ID MILLISECONDS MIB` takes them at every attempt, and with a fourth word, `slowly`, over all that time. With
//! `DIARIST_KEEPS` it takes so many MiB before it does anything, and keeps them.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId};
use qscaler_protocol::report::{Answer, Report};
use qscaler_worker::{Lease, Leased, Queue, Settings, Task, Worker, connect};

struct Diary(File);

impl Diary {
    fn open() -> Result<Self, Box<dyn Error>> {
        let file = format!("{}/{}", std::env::var("DIARIST_FOLDER")?, std::process::id());
        Ok(Self(File::options().create(true).append(true).open(file)?))
    }

    fn write(&self, line: &str) -> std::io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let keeps: usize = std::env::var("DIARIST_KEEPS").map_or(Ok(0), |it| it.parse())?;
    let kept: Vec<_> = (0..keeps).map(|_| vec![1_u8; 1 << 20]).collect();
    let diary = Arc::new(Diary::open()?);
    let lease = std::env::var("DIARIST_LEASE_MS")?.parse()?;
    let settings = Settings::from_environment()?.lease(Duration::from_millis(lease));
    let mut queue = connect(&settings).await?;
    if std::env::var_os("DIARIST_HANGS").is_some() {
        queue = Arc::new(Hanging { queue, diary: Arc::clone(&diary) });
    }
    let (hook, last) = (Arc::clone(&diary), Arc::clone(&diary));
    diary.write("boot")?;
    let worker =
        Worker::new(queue, settings).on_shutdown(async move || hook.write("hook").unwrap_or_default());
    let ended = worker.run(move |task| work(Arc::clone(&diary), task)).await?;
    last.write(&format!("left {} {}", ended.claim.map_or(0, |claim| claim.0), ended.late_acks))?;
    drop(kept);
    Ok(())
}

async fn work(diary: Arc<Diary>, task: Task) -> Result<(), String> {
    let text = String::from_utf8_lossy(&task.payload).into_owned();
    let (id, rest) = text.split_once(' ').ok_or("a task is `ID MILLISECONDS`")?;
    let (milliseconds, takes) = rest.split_once(' ').unwrap_or((rest, "0"));
    let (takes, grows) = takes.strip_suffix(" slowly").map_or((takes, false), |takes| (takes, true));
    let takes: usize = takes.parse().map_err(|_| "a task is `ID MILLISECONDS MIB [slowly]`")?;
    let milliseconds = milliseconds.parse().map_err(|_| "a task is `ID MILLISECONDS`")?;
    let write =
        |what: &str| diary.write(&format!("{what} {id} {}", task.attempt)).map_err(|it| it.to_string());
    write("start")?;
    let eats: usize = std::env::var("DIARIST_EATS").ok().and_then(|it| it.parse().ok()).unwrap_or_default();
    let takes = takes + if task.attempt == 1 { eats } else { 0 };
    let (pause, rest) = if grows { (milliseconds / takes.max(1) as u64, 0) } else { (0, milliseconds) };
    let mut eaten = vec![];
    for _ in 0..takes {
        eaten.push(vec![1_u8; 1 << 20]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    tokio::time::sleep(Duration::from_millis(rest)).await;
    drop(eaten);
    write("end")
}

/// A connection that stops for ever with the first task that it got.
struct Hanging {
    queue: Arc<dyn Queue>,
    diary: Arc<Diary>,
}

#[async_trait]
impl Queue for Hanging {
    async fn fetch(
        &self,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, qscaler_worker::Error> {
        let fetched = self.queue.fetch(wait, stop).await?;
        if let Some(leased) = &fetched {
            let text = String::from_utf8_lossy(&leased.task.payload).into_owned();
            let _ = self.diary.write(&format!("hang {text}"));
            std::future::pending::<()>().await;
        }
        Ok(fetched)
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, qscaler_worker::Error> {
        self.queue.renew(lease).await
    }

    async fn ack(&self, lease: &Lease) -> Result<bool, qscaler_worker::Error> {
        self.queue.ack(lease).await
    }

    async fn give_back(
        &self,
        lease: &Lease,
        delay: Duration,
        counts: bool,
    ) -> Result<bool, qscaler_worker::Error> {
        self.queue.give_back(lease, delay, counts).await
    }

    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, qscaler_worker::Error> {
        self.queue.bury(lease, error).await
    }

    async fn reap(&self) -> Result<usize, qscaler_worker::Error> {
        self.queue.reap().await
    }

    async fn report(&self, report: &Report) -> Result<Answer, qscaler_worker::Error> {
        self.queue.report(report).await
    }

    async fn claim(&self, epoch: &Epoch) -> Result<Option<OfferId>, qscaler_worker::Error> {
        self.queue.claim(epoch).await
    }
}
