//! Queues and control path in a SQLite database.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::types::Value;

use qscaler_core::interrupted::Interruption;
use qscaler_core::signal::Measure;
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Path, Withdrawal};
use qscaler_protocol::report::Received;
use qscaler_protocol::sqlite as texts;
use qscaler_worker::sqlite::{Database, Parameters, Row, path_of};

use super::interruptions::{Interruptions, interruption};
use crate::ports::{Adopt, Asked, ControlPath, Counting, PortError, QueueSystem, Source};
use crate::store::{number_at, text_at, value};

pub(super) async fn connect(url: &str) -> Asked<QueueSystem> {
    let database = Database::open(path_of(url)).await.map_err(|error| PortError::new(url, error))?;
    let queues =
        Arc::new(SqliteQueues { database, url: url.to_owned(), interruptions: Interruptions::default() });
    Ok(QueueSystem { source: queues.clone(), control: queues })
}

struct SqliteQueues {
    database: Database,
    url: String,
    interruptions: Interruptions,
}

impl SqliteQueues {
    async fn run(&self, text: &'static str, parameters: Parameters) -> Asked<Vec<Row>> {
        self.database.run(text, parameters).await.map_err(|error| self.failed(error))
    }

    async fn run_all(
        &self,
        texts: Vec<(&'static str, Parameters)>,
        go_on: impl Fn(usize, &[Row]) -> bool + Send + 'static,
    ) -> Asked<Vec<Vec<Row>>> {
        self.database.run_all(texts, go_on).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl ToString) -> PortError {
        PortError::new(&self.url, error)
    }
}

#[async_trait]
impl Source for SqliteQueues {
    async fn measure(&self, queues: &[String]) -> Asked<BTreeMap<String, Measure>> {
        let known = |queue: &String| whole(self.interruptions.known(queue));
        let measures = queues.iter().map(|queue| (texts::MEASURE, vec![("queue", value(queue))]));
        let interruptions = queues
            .iter()
            .map(|queue| (texts::INTERRUPTED, vec![("queue", value(queue)), ("known", known(queue))]));
        let results = self.run_all(measures.chain(interruptions).collect(), |_, _| true).await?;
        let (measures, interruptions) = results.split_at(queues.len());
        for (queue, rows) in queues.iter().zip(interruptions) {
            let fresh: Vec<_> = rows.iter().map(entry).collect();
            let last = fresh.last().map_or_else(|| self.interruptions.known(queue), |last| last.number);
            self.interruptions.add(queue, last, fresh);
        }
        Ok(queues.iter().cloned().zip(measures.iter().map(|rows| measure(rows.first()))).collect())
    }

    fn interruptions(&self, queue: &str) -> Arc<Vec<Interruption>> {
        self.interruptions.of(queue)
    }
}

fn measure(row: Option<&Row>) -> Measure {
    let Some(row) = row else { return Measure::default() };
    let count = |column| number_of(row, column);
    let oldest = matches!(row.get(5), Some(Value::Integer(_))).then(|| count(5) as f64 / 1000.0);
    Measure {
        length: count(0),
        inflight: count(1),
        delayed: count(2),
        arrived: count(3),
        departed: count(4),
        oldest,
        ..Measure::default()
    }
}

#[async_trait]
impl ControlPath for SqliteQueues {
    async fn read(&self, uid: &WorkloadUid) -> Asked<(Path, BTreeMap<WorkerId, Received>)> {
        let parameters = || vec![("workload", value(uid))];
        let reads = [texts::PATH, texts::OFFERS, texts::REPORTS].map(|text| (text, parameters()));
        let results = self.run_all(reads.into(), |_, _| true).await?;
        let [path, offers, reports] = results.as_slice() else { return Err(self.failed("no answer")) };
        let mut read = Path::default();
        if let Some(row) = path.first() {
            read.epoch = text_at(row, 0).map(Epoch::new);
            read.floor = id(number_at(row, 1));
        }
        read.offers = offers.iter().map(|row| (id(number_at(row, 0)), offer(row))).collect();
        let reports = reports.iter().filter_map(|row| {
            // A report that cannot be read is one of a worker that cannot be counted on.
            let report: qscaler_protocol::report::Report = serde_json::from_str(text_at(row, 0)?).ok()?;
            let received = Received {
                epoch: text_at(row, 1).map(Epoch::new),
                age_ms: u64::try_from(number_at(row, 2)).unwrap_or_default(),
                released: number_at(row, 3) == 1,
                report,
            };
            Some((received.report.worker.clone(), received))
        });
        Ok((read, reports.collect()))
    }

    async fn adopt(&self, uid: &WorkloadUid, adopt: Adopt<'_>) -> Asked<bool> {
        let begin = vec![
            ("workload", value(uid)),
            ("seen", adopt.seen.map_or(Value::Null, value)),
            ("epoch", value(adopt.epoch)),
            ("floor", number(adopt.floor)),
        ];
        let mut texts = vec![(texts::ADOPT, begin), (texts::CLEAR, vec![("workload", value(uid))])];
        let claim = |worker: &WorkerId| Offer::Claimed(worker.clone());
        texts.extend(
            adopt.claims.iter().map(|(offer, worker)| project(uid, adopt.epoch, *offer, &claim(worker))),
        );
        let results = self.run_all(texts, |place, rows| place > 0 || !rows.is_empty()).await?;
        Ok(results.first().is_some_and(|rows| !rows.is_empty()))
    }

    async fn project(
        &self,
        uid: &WorkloadUid,
        epoch: &Epoch,
        offers: &BTreeMap<OfferId, Offer>,
    ) -> Asked<bool> {
        let mut texts: Vec<_> = offers.iter().map(|(id, offer)| project(uid, epoch, *id, offer)).collect();
        texts.push((texts::PATH, vec![("workload", value(uid))]));
        let results = self.run_all(texts, |_, _| true).await?;
        let now = results.last().and_then(|rows| text_at(rows.first()?, 0));
        Ok(now == Some(epoch.as_str()))
    }

    async fn withdraw(&self, uid: &WorkloadUid, epoch: &Epoch, offer: OfferId) -> Asked<Withdrawal> {
        let parameters = vec![("workload", value(uid)), ("epoch", value(epoch)), ("id", number(offer))];
        let rows = self.run(texts::WITHDRAW, parameters).await?;
        Ok(match rows.first() {
            None => Withdrawal::Stale,
            Some(row) => match (text_at(row, 0), text_at(row, 1)) {
                (Some("claimed"), Some(worker)) => Withdrawal::Claimed(WorkerId::new(worker)),
                _ => Withdrawal::Done,
            },
        })
    }

    async fn raise_floor(&self, uid: &WorkloadUid, epoch: &Epoch, floor: OfferId) -> Asked<bool> {
        let parameters = vec![("workload", value(uid)), ("epoch", value(epoch)), ("floor", number(floor))];
        Ok(!self.run(texts::FLOOR, parameters).await?.is_empty())
    }

    async fn release(&self, uid: &WorkloadUid, worker: &WorkerId, boot: &BootId) -> Asked<bool> {
        let parameters = vec![("workload", value(uid)), ("worker", value(worker)), ("boot", value(boot))];
        Ok(!self.run(texts::RELEASE, parameters).await?.is_empty())
    }

    async fn forget(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()> {
        let parameters = vec![("workload", value(uid)), ("worker", value(worker))];
        self.run(texts::FORGET, parameters).await.map(|_| ())
    }

    async fn count(&self, uid: &WorkloadUid, counting: Counting<'_>) -> Asked<u64> {
        let parameters = vec![
            ("workload", value(uid)),
            ("queue", value(counting.queue)),
            ("known", counting.known.map_or(Value::Null, whole)),
            ("last", whole(counting.last)),
        ];
        let rows = self.run(texts::COUNT, parameters).await?;
        Ok(rows.first().map_or(counting.last, |row| number_of(row, 0)))
    }
}

fn entry(row: &Row) -> Interruption {
    let text = |column| text_at(row, column).unwrap_or_default();
    interruption(number_of(row, 0), text(1), number_of(row, 2), text(3))
}

fn number_of(row: &Row, column: usize) -> u64 {
    u64::try_from(number_at(row, column)).unwrap_or_default()
}

fn whole(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn project(uid: &WorkloadUid, epoch: &Epoch, id: OfferId, offer: &Offer) -> (&'static str, Parameters) {
    let (state, worker) = match offer {
        Offer::Open(named) => ("open", named.as_ref()),
        Offer::Claimed(by) => ("claimed", Some(by)),
        Offer::Withdrawn => ("withdrawn", None),
    };
    let parameters = vec![
        ("workload", value(uid)),
        ("epoch", value(epoch)),
        ("id", number(id)),
        ("state", value(state)),
        ("worker", worker.map_or(Value::Null, value)),
    ];
    (texts::PROJECT, parameters)
}

fn offer(row: &Row) -> Offer {
    let worker = text_at(row, 2).map(WorkerId::new);
    match (text_at(row, 1), worker) {
        (Some("claimed"), Some(by)) => Offer::Claimed(by),
        (Some("open"), named) => Offer::Open(named),
        _ => Offer::Withdrawn,
    }
}

fn id(number: i64) -> OfferId {
    OfferId(u64::try_from(number).unwrap_or_default())
}

fn number(id: OfferId) -> Value {
    whole(id.0)
}
