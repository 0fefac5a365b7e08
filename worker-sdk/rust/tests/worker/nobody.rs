//! A worker that no engine counts: it reports to nobody, and sleeps while it waits.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId};
use qscaler_protocol::report::{Answer, Report};
use qscaler_worker::{Error, Lease, Leased, Queue, Settings, Task, Worker};

/// A queue in which no task ever comes.
struct Empty;

#[async_trait]
impl Queue for Empty {
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let _ = tokio::time::timeout(wait, stop.cancelled()).await;
        Ok(None)
    }

    async fn renew(&self, _: &Lease) -> Result<bool, Error> {
        panic!("nothing is held")
    }

    async fn ack(&self, _: &Lease) -> Result<bool, Error> {
        panic!("nothing is held")
    }

    async fn give_back(&self, _: &Lease, _: Duration, _: bool) -> Result<bool, Error> {
        panic!("nothing is held")
    }

    async fn bury(&self, _: &Lease, _: &str) -> Result<bool, Error> {
        panic!("nothing is held")
    }

    async fn reap(&self) -> Result<usize, Error> {
        Ok(0)
    }

    async fn report(&self, _: &Report) -> Result<Answer, Error> {
        panic!("there is nobody to report to")
    }

    async fn claim(&self, _: &Epoch) -> Result<Option<OfferId>, Error> {
        panic!("there is no offer")
    }
}

#[test]
fn a_worker_that_nobody_counts_sleeps_while_it_waits() {
    let (over, slept) = mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            // Paused time passes only while everything sleeps: in a loop that wakes itself, never.
            let worker = Worker::new(Arc::new(Empty), Settings::new("empty:", ["mail"]));
            let working = worker.run(|_: Task| async { Ok::<_, Error>(()) });
            assert!(tokio::time::timeout(Duration::from_secs(3600), working).await.is_err());
        });
        over.send(()).unwrap();
    });
    slept.recv_timeout(Duration::from_secs(60)).expect("an hour has passed for a worker that sleeps");
}
