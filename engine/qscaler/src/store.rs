//! The engine's durable memory on one machine: a SQLite file in its state folder. Several engines may
//! use one file; each change rests on what was read.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Value;

use qscaler_core::document::rule::RuleDocument;
use qscaler_core::ledger::Ledger;
use qscaler_core::record::{BYTES_MAX, KEPT, Line};
use qscaler_core::time::Time;
use qscaler_protocol::name::WorkloadUid;
use qscaler_worker::sqlite::{Database, Parameters, Row};

use crate::ports::{Asked, Freshness, PortError, Store, Version};

const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

const TABLES: &str = include_str!("store/tables.sql");

/// The state file.
#[derive(Clone)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    /// Opens or creates the state file in `folder`.
    pub async fn open(folder: &Path) -> Asked<Self> {
        let file = folder.join("engine.db");
        let failed = |error: &dyn ToString| {
            PortError::new(format!("state file {}", file.display()), error.to_string())
        };
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let database = Database::open(&file).await.map_err(|error| failed(&error))?;
        database.run(TABLES, vec![]).await.map_err(|error| failed(&error))?;
        Ok(Self { database })
    }

    /// Runs one text in a transaction; returns the rows of its last statement.
    pub(crate) async fn run(&self, text: &'static str, parameters: Parameters) -> Asked<Vec<Row>> {
        self.database.run(text, parameters).await.map_err(|error| PortError::new("state file", error))
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn uid(&self, workload: &str, fresh: WorkloadUid) -> Asked<WorkloadUid> {
        let text = "INSERT INTO workloads (workload, uid) VALUES (:workload, :fresh) ON CONFLICT DO NOTHING;
            SELECT uid FROM workloads WHERE workload = :workload;";
        let parameters = vec![("workload", value(workload)), ("fresh", value(&fresh))];
        let rows = self.run(text, parameters).await?;
        Ok(rows.first().and_then(|row| text_at(row, 0)).map_or(fresh, WorkloadUid::new))
    }

    fn lags(&self) -> bool {
        false
    }

    async fn ledger(&self, uid: &WorkloadUid, _freshness: Freshness) -> Asked<(Version, Ledger)> {
        let text = "SELECT version, ledger FROM ledgers WHERE uid = :uid;";
        let rows = self.run(text, vec![("uid", value(uid))]).await?;
        let Some(row) = rows.first() else { return Ok((Version("0".into()), Ledger::default())) };
        let ledger = serde_json::from_str(text_at(row, 1).unwrap_or_default())
            .map_err(|error| PortError::new(format!("the ledger of {uid}"), error))?;
        Ok((Version(number_at(row, 0).to_string()), ledger))
    }

    async fn commit(&self, uid: &WorkloadUid, read: &Version, ledger: &Ledger) -> Asked<bool> {
        let text = "INSERT INTO ledgers (uid, version, ledger) SELECT :uid, 1, :ledger
                WHERE :read = 0 ON CONFLICT DO NOTHING;
            UPDATE ledgers SET version = version + 1, ledger = :ledger
                WHERE uid = :uid AND version = :read AND :read > 0;
            SELECT 1 FROM ledgers WHERE uid = :uid AND version = :read + 1 AND ledger = :ledger;";
        let json = serde_json::to_string(ledger).map_err(|error| PortError::new("ledger", error))?;
        let read = read.0.parse().map_err(|error| PortError::new("the ledger's version", error))?;
        let parameters =
            vec![("uid", value(uid)), ("read", Value::Integer(read)), ("ledger", Value::Text(json))];
        Ok(!self.run(text, parameters).await?.is_empty())
    }

    fn checkpoint_every(&self) -> Duration {
        CHECKPOINT_EVERY
    }

    async fn checkpoint(&self, uid: &WorkloadUid) -> Asked<Option<String>> {
        let rows = self
            .run("SELECT checkpoint FROM checkpoints WHERE uid = :uid;", vec![("uid", value(uid))])
            .await?;
        Ok(rows.first().and_then(|row| text_at(row, 0)).map(str::to_owned))
    }

    async fn keep_checkpoint(&self, uid: &WorkloadUid, text: &str) -> Asked<()> {
        let sql = "INSERT INTO checkpoints (uid, checkpoint) VALUES (:uid, :text)
            ON CONFLICT (uid) DO UPDATE SET checkpoint = excluded.checkpoint;";
        self.run(sql, vec![("uid", value(uid)), ("text", value(text))]).await.map(|_| ())
    }

    async fn put_aside(&self, uid: &WorkloadUid, text: &str) -> Asked<()> {
        let sql = "INSERT INTO checkpoints_aside (uid, checkpoint) SELECT :uid, :text
            WHERE NOT EXISTS (SELECT 1 FROM checkpoints_aside WHERE uid = :uid AND checkpoint = :text);";
        self.run(sql, vec![("uid", value(uid)), ("text", value(text))]).await.map(|_| ())
    }

    async fn record(&self, uid: &WorkloadUid, line: &Line, rule: &RuleDocument) -> Asked<()> {
        let failed = |error| PortError::new("record", error);
        let wall = line.question.wall;
        let parameters = vec![
            ("uid", value(uid)),
            ("wall", Value::Integer(wall.0)),
            ("oldest", Value::Integer((wall - KEPT).0)),
            ("bytes_max", Value::Integer(i64::try_from(BYTES_MAX).unwrap_or(i64::MAX))),
            ("line", Value::Text(serde_json::to_string(line).map_err(failed)?)),
            ("hash", value(&line.rule_hash)),
            ("document", Value::Text(serde_json::to_string(rule).map_err(failed)?)),
        ];
        self.run(RECORD, parameters).await.map(|_| ())
    }
}

impl SqliteStore {
    /// Knows a workload by the uid that another store has given to it.
    pub(crate) async fn set_uid(&self, workload: &str, uid: &WorkloadUid) -> Asked<()> {
        let text = "INSERT INTO workloads (workload, uid) VALUES (:workload, :uid)
            ON CONFLICT (workload) DO UPDATE SET uid = excluded.uid;";
        self.run(text, vec![("workload", value(workload)), ("uid", value(uid))]).await.map(|_| ())
    }
}

const RECORD: &str = "INSERT INTO rules (hash, document, used_ms) VALUES (:hash, :document, :wall)
        ON CONFLICT (hash) DO UPDATE SET used_ms = :wall;
    INSERT INTO records (uid, wall_ms, line) VALUES (:uid, :wall, :line);
    DELETE FROM records WHERE uid = :uid AND wall_ms < :oldest;
    DELETE FROM records WHERE uid = :uid AND id <= (
        SELECT MAX(id) FROM (
            SELECT id, SUM(LENGTH(line)) OVER (ORDER BY id DESC) AS bytes FROM records WHERE uid = :uid
        ) WHERE bytes > :bytes_max);
    DELETE FROM rules WHERE used_ms < :oldest;";

impl SqliteStore {
    /// Workloads with a record: `namespace/name`.
    pub async fn recorded_workloads(&self) -> Asked<Vec<String>> {
        let text = "SELECT workload FROM workloads WHERE uid IN (SELECT DISTINCT uid FROM records) ORDER BY workload;";
        let rows = self.run(text, vec![]).await?;
        Ok(rows.iter().filter_map(|row| text_at(row, 0)).map(str::to_owned).collect())
    }

    /// Lines of a workload's record up to a moment of the wall clock, the newest first.
    pub async fn recorded(&self, workload: &str, until: Time, limit: u32) -> Asked<Vec<Line>> {
        let text =
            "SELECT line FROM records WHERE uid = (SELECT uid FROM workloads WHERE workload = :workload)
            AND wall_ms <= :until ORDER BY wall_ms DESC, id DESC LIMIT :limit;";
        let parameters = vec![
            ("workload", value(workload)),
            ("until", Value::Integer(until.0)),
            ("limit", Value::Integer(limit.into())),
        ];
        self.run(text, parameters).await?.iter().map(line).collect()
    }

    /// Lines of a workload's record after a moment of the wall clock, the oldest first.
    pub async fn recorded_after(&self, workload: &str, since: Time) -> Asked<Vec<Line>> {
        let text =
            "SELECT line FROM records WHERE uid = (SELECT uid FROM workloads WHERE workload = :workload)
            AND wall_ms > :since ORDER BY wall_ms, id;";
        let parameters = vec![("workload", value(workload)), ("since", Value::Integer(since.0))];
        self.run(text, parameters).await?.iter().map(line).collect()
    }

    /// The document of the rule with this hash.
    pub async fn recorded_rule(&self, hash: &str) -> Asked<Option<RuleDocument>> {
        let rows =
            self.run("SELECT document FROM rules WHERE hash = :hash;", vec![("hash", value(hash))]).await?;
        let Some(text) = rows.first().and_then(|row| text_at(row, 0)) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| PortError::new("a rule of the record", error))
    }
}

fn line(row: &Row) -> Asked<Line> {
    let text = text_at(row, 0).unwrap_or_default();
    serde_json::from_str(text).map_err(|error| PortError::new("a line of the record", error))
}

/// A parameter from anything that has a text.
pub(crate) fn value(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

/// A column of text.
pub(crate) fn text_at(row: &[Value], column: usize) -> Option<&str> {
    if let Some(Value::Text(text)) = row.get(column) { Some(text) } else { None }
}

/// A column of whole numbers; 0 where it holds none.
pub(crate) fn number_at(row: &[Value], column: usize) -> i64 {
    if let Some(Value::Integer(number)) = row.get(column) { *number } else { 0 }
}
