//! Tasks and control path in a SQLite database, for one machine.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::Value;
use rusqlite::{Batch, Connection, Statement, TransactionBehavior};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use qscaler_protocol::name::{Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::Opening;
use qscaler_protocol::report::{Answer, Report};
use qscaler_protocol::sqlite as texts;

use super::{Error, Queue};
use crate::settings::Settings;
use crate::task::{Lease, Leased, Task};
use crate::worker::random_name;

/// A writer waits this long for another one before it gives up.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How long an idle worker sleeps between two looks for a change.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// One row of a result.
pub type Row = Vec<Value>;
/// Named parameters of a text.
pub type Parameters = Vec<(&'static str, Value)>;

/// A database that runs the protocol's texts. Cheap to clone; clones share one connection.
#[derive(Clone)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens the file, creating it and its tables where they are missing.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let connection = blocking(move || {
            let connection = Connection::open(&path).map_err(|error| named(&path, &error))?;
            prepare(&connection).map_err(|error| named(&path, &error))?;
            Ok(connection)
        })
        .await?;
        let database = Self { connection: Arc::new(Mutex::new(connection)) };
        database.run(texts::TABLES, vec![]).await?;
        Ok(database)
    }

    /// Runs one text in a transaction; returns the rows of its last statement.
    pub async fn run(&self, text: &'static str, parameters: Parameters) -> Result<Vec<Row>, Error> {
        let results = self.run_all(vec![(text, parameters)], |_, _| true).await?;
        Ok(results.into_iter().next().unwrap_or_default())
    }

    /// Runs several texts in one transaction. Undoes everything and returns what there is when
    /// `go_on` refuses the rows of one of them, given its place.
    pub async fn run_all(
        &self,
        texts: Vec<(&'static str, Parameters)>,
        go_on: impl Fn(usize, &[Row]) -> bool + Send + 'static,
    ) -> Result<Vec<Vec<Row>>, Error> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            transact(&mut connection, &texts, go_on).map_err(|error| failed(&error))
        })
        .await
    }

    /// A number that changes whenever another connection has written. Costs no disk access.
    async fn version(&self) -> Result<i64, Error> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            connection
                .pragma_query_value(None, "data_version", |row| row.get(0))
                .map_err(|error| failed(&error))
        })
        .await
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Safe when a process is killed; the last transactions may be lost when the machine loses power.
    connection.pragma_update(None, "synchronous", "NORMAL")
}

fn transact(
    connection: &mut Connection,
    texts: &[(&'static str, Parameters)],
    go_on: impl Fn(usize, &[Row]) -> bool,
) -> rusqlite::Result<Vec<Vec<Row>>> {
    let only_reads = texts.iter().all(|(text, _)| first_word(text) == "SELECT");
    let behavior = if only_reads { TransactionBehavior::Deferred } else { TransactionBehavior::Immediate };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let mut results = vec![];
    for (place, (text, parameters)) in texts.iter().enumerate() {
        let mut rows = vec![];
        let mut batch = Batch::new(&transaction, text);
        while let Some(mut statement) = batch.next()? {
            rows = execute(&mut statement, parameters)?;
        }
        let accepted = go_on(place, &rows);
        results.push(rows);
        if !accepted {
            transaction.rollback()?;
            return Ok(results);
        }
    }
    transaction.commit()?;
    Ok(results)
}

fn first_word(text: &str) -> &str {
    let statement = text.lines().find(|line| !line.starts_with("--") && !line.is_empty());
    statement.and_then(|line| line.split(' ').next()).unwrap_or_default()
}

fn execute(statement: &mut Statement<'_>, parameters: &Parameters) -> rusqlite::Result<Vec<Row>> {
    for (name, value) in parameters {
        if let Some(index) = statement.parameter_index(&format!(":{name}"))? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    let width = statement.column_count();
    let mut cursor = statement.raw_query();
    let mut rows = vec![];
    while let Some(row) = cursor.next()? {
        rows.push((0..width).map(|column| row.get(column)).collect::<rusqlite::Result<Row>>()?);
    }
    Ok(rows)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::System { system: "sqlite", reason: error.to_string() }))
}

fn failed(error: &rusqlite::Error) -> Error {
    Error::System { system: "sqlite", reason: error.to_string() }
}

fn named(path: &Path, error: &rusqlite::Error) -> Error {
    Error::System { system: "sqlite", reason: format!("{}: {error}", path.display()) }
}

/// The file of a `sqlite:PATH` URL.
pub fn path_of(url: &str) -> &str {
    url.strip_prefix("sqlite:").unwrap_or(url)
}

pub(crate) struct SqliteQueue {
    database: Database,
    settings: Settings,
    identity: (WorkloadUid, WorkerId),
}

impl SqliteQueue {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let database = Database::open(path_of(&settings.url)).await?;
        let nobody = || (WorkloadUid::new("none"), WorkerId::new(random_name()));
        let identity = settings.identity.clone().unwrap_or_else(nobody);
        Ok(Self { database, settings: settings.clone(), identity })
    }

    async fn take(&self, queue: &str) -> Result<Option<Leased>, Error> {
        let name = || Value::Text(queue.to_owned());
        if self.database.run(texts::PEEK, vec![("queue", name())]).await?.is_empty() {
            return Ok(None);
        }
        let token = random_name();
        let parameters = vec![
            ("queue", name()),
            ("lease", Value::Text(token.clone())),
            ("worker", Value::Text(self.identity.1.to_string())),
            ("lease_ms", milliseconds(self.settings.lease)),
        ];
        let rows = self.database.run(texts::FETCH, parameters).await?;
        Ok(rows.into_iter().next().map(|row| {
            let mut row = row.into_iter();
            let id = row.next().as_ref().map_or(0, number).to_string();
            let payload = row.next().map(bytes).unwrap_or_default();
            let attempt = row.next().as_ref().map_or(1, number) as u32;
            let lease = Lease { queue: queue.to_owned(), task: id.clone(), token };
            Leased { task: Task { id, queue: queue.to_owned(), payload, attempt }, lease }
        }))
    }

    async fn on_lease(&self, text: &'static str, lease: &Lease, more: Parameters) -> Result<bool, Error> {
        let mut parameters = vec![
            ("id", Value::Integer(lease.task.parse().unwrap_or_default())),
            ("lease", Value::Text(lease.token.clone())),
        ];
        parameters.extend(more);
        Ok(!self.database.run(text, parameters).await?.is_empty())
    }

    fn with_identity(&self, more: Parameters) -> Parameters {
        let mut parameters = vec![
            ("workload", Value::Text(self.identity.0.to_string())),
            ("worker", Value::Text(self.identity.1.to_string())),
        ];
        parameters.extend(more);
        parameters
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn fetch(&self, wait: Duration, stop: &CancellationToken) -> Result<Option<Leased>, Error> {
        let end = Instant::now() + wait;
        loop {
            let version = self.database.version().await?;
            for queue in &self.settings.queues {
                if stop.is_cancelled() {
                    return Ok(None);
                }
                if let Some(leased) = self.take(queue).await? {
                    return Ok(Some(leased));
                }
            }
            while self.database.version().await? == version {
                if stop.is_cancelled() || Instant::now() >= end {
                    return Ok(None);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Error> {
        let length = ("lease_ms", milliseconds(self.settings.lease));
        self.on_lease(texts::RENEW, lease, vec![length]).await
    }

    async fn ack(&self, lease: &Lease) -> Result<bool, Error> {
        self.on_lease(texts::ACK, lease, vec![]).await
    }

    async fn give_back(&self, lease: &Lease, delay: Duration, counts: bool) -> Result<bool, Error> {
        let more = vec![("delay_ms", milliseconds(delay)), ("uncount", Value::Integer(i64::from(!counts)))];
        self.on_lease(texts::RETURN, lease, more).await
    }

    async fn bury(&self, lease: &Lease, error: &str) -> Result<bool, Error> {
        self.on_lease(texts::BURY, lease, vec![("error", Value::Text(error.to_owned()))]).await
    }

    async fn reap(&self) -> Result<usize, Error> {
        let most = Value::Integer(self.settings.attempts_max.into());
        Ok(self.database.run(texts::REAP, vec![("attempts_max", most)]).await?.len())
    }

    async fn report(&self, report: &Report) -> Result<Answer, Error> {
        let text = serde_json::to_string(report)
            .map_err(|error| Error::System { system: "sqlite", reason: error.to_string() })?;
        let parameters = self.with_identity(vec![("report", Value::Text(text))]);
        let rows = self.database.run(texts::REPORT, parameters).await?;
        let Some([epoch, named, anybody, claim, released]) = rows.first().map(Vec::as_slice) else {
            return Ok(Answer::default());
        };
        Ok(Answer {
            epoch: text_of(epoch).map(Epoch::new),
            opening: match (number(named), number(anybody)) {
                (1, _) => Opening::Named,
                (_, 1) => Opening::Any,
                _ => Opening::None,
            },
            claim: offer(claim),
            released: number(released) == 1,
        })
    }

    async fn claim(&self, epoch: &Epoch) -> Result<Option<OfferId>, Error> {
        let parameters = self.with_identity(vec![("epoch", Value::Text(epoch.to_string()))]);
        let rows = self.database.run(texts::CLAIM, parameters).await?;
        Ok(rows.first().and_then(|row| offer(row.first()?)))
    }
}

fn milliseconds(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn number(value: &Value) -> i64 {
    if let Value::Integer(number) = value { *number } else { 0 }
}

fn offer(value: &Value) -> Option<OfferId> {
    if let Value::Integer(number) = value { u64::try_from(*number).ok().map(OfferId) } else { None }
}

fn text_of(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::Blob(bytes) => bytes,
        Value::Text(text) => text.into_bytes(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Real(number) => number.to_string().into_bytes(),
        Value::Null => vec![],
    }
}
