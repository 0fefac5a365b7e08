//! The rows of the workers in the state file. Each change names the state that it rests on.

use rusqlite::types::Value;

use qscaler_core::fleet::{Process, Seen, Usage};
use qscaler_core::interrupted::Fate;
use qscaler_core::time::Time;
use qscaler_protocol::name::{WorkerId, WorkloadUid};
use qscaler_worker::sqlite::Parameters;

use super::process::Recipe;
use crate::clock::wall_clock;
use crate::host;
use crate::ports::{Asked, PortError};
use crate::store::{SqliteStore, number_at, text_at, value};

/// A worker's life as its row tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No process yet.
    Waiting,
    /// An engine is about to start its process.
    Spawning,
    /// Its process runs.
    Running,
    /// Its process was told to end.
    Ending,
    /// Its process ended badly; another one starts later.
    BackOff,
}

impl State {
    const ALL: [(State, &'static str); 5] = [
        (State::Waiting, "waiting"),
        (State::Spawning, "spawning"),
        (State::Running, "running"),
        (State::Ending, "ending"),
        (State::BackOff, "backOff"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("waiting", |(_, name)| name)
    }

    fn named(name: &str) -> State {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(State::Waiting, |(state, _)| *state)
    }
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) uid: WorkloadUid,
    pub(super) name: String,
    pub(super) worker: WorkerId,
    pub(super) state: State,
    pub(super) recipe: Recipe,
    pub(super) created: Time,
    pub(super) not_before: Time,
    pub(super) failures: u32,
    pub(super) ended: String,
    pub(super) engine: String,
    pub(super) pid: u32,
    pub(super) born: String,
    pub(super) started: Option<Time>,
    pub(super) kill_at: Option<Time>,
    pub(super) fate: Option<Fate>,
}

/// The rows for which a condition holds, in the order that [`Row::read`] expects.
macro_rules! rows_where {
    ($condition:literal) => {
        concat!(
            "SELECT uid, name, worker, state, target, created_ms, not_before_ms, failures, ended, engine, pid, born,
                started_ms, kill_at_ms,
                (SELECT fate FROM endings WHERE endings.uid = workers.uid AND endings.name = workers.name)
            FROM workers WHERE ",
            $condition,
            " ORDER BY created_ms, name;"
        )
    };
}

impl Row {
    fn read(row: &[Value]) -> Asked<Row> {
        let text = |column| text_at(row, column).unwrap_or_default().to_owned();
        let time = |column| Time(number_at(row, column));
        let optional =
            |column: usize| matches!(row.get(column), Some(Value::Integer(_))).then(|| time(column));
        Ok(Row {
            uid: WorkloadUid::new(text(0)),
            name: text(1),
            worker: WorkerId::new(text(2)),
            state: State::named(&text(3)),
            recipe: serde_json::from_str(&text(4))
                .map_err(|error| PortError::new("a worker's row", error))?,
            created: time(5),
            not_before: time(6),
            failures: u32::try_from(number_at(row, 7)).unwrap_or_default(),
            ended: text(8),
            engine: text(9),
            pid: u32::try_from(number_at(row, 10)).unwrap_or_default(),
            born: text(11),
            started: optional(12),
            kill_at: optional(13),
            fate: text_at(row, 14).and_then(|text| serde_json::from_str(text).ok()),
        })
    }

    /// Whether the very process that the row names still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.pid > 0 && host::born(self.pid).is_some_and(|born| born == self.born)
    }

    pub(super) fn seen(&self, usage: Option<Usage>) -> Seen {
        let process = match self.state {
            State::Waiting => Process::Waiting,
            State::Spawning | State::Running => Process::Running,
            State::Ending => Process::Ending,
            State::BackOff => Process::BackOff { until: self.not_before, ended: self.ended.clone() },
        };
        Seen {
            fate: self.fate.clone(),
            usage,
            ..Seen::new(self.worker.clone(), &self.name, process, self.created)
        }
    }
}

/// All rows.
pub(super) struct Rows {
    store: SqliteStore,
}

impl Rows {
    pub(super) fn new(store: SqliteStore) -> Self {
        Self { store }
    }

    pub(super) async fn of(&self, uid: &WorkloadUid) -> Asked<Vec<Row>> {
        self.select(rows_where!("uid = :uid"), vec![("uid", value(uid))]).await
    }

    pub(super) async fn one(&self, worker: &WorkerId) -> Asked<Option<Row>> {
        let rows = self.select(rows_where!("worker = :worker"), vec![("worker", value(worker))]).await?;
        Ok(rows.into_iter().next())
    }

    pub(super) async fn named(&self, uid: &WorkloadUid, name: &str) -> Asked<Option<Row>> {
        let parameters = vec![("uid", value(uid)), ("name", value(name))];
        let rows = self.select(rows_where!("uid = :uid AND name = :name"), parameters).await?;
        Ok(rows.into_iter().next())
    }

    async fn select(&self, text: &'static str, parameters: Parameters) -> Asked<Vec<Row>> {
        self.store.run(text, parameters).await?.iter().map(|row| Row::read(row)).collect()
    }

    /// Creates the row of this name unless it exists.
    pub(super) async fn create(
        &self,
        uid: &WorkloadUid,
        name: &str,
        worker: &WorkerId,
        recipe: &Recipe,
    ) -> Asked<()> {
        let recipe =
            serde_json::to_string(recipe).map_err(|error| PortError::new("a worker's row", error))?;
        let text = "INSERT INTO workers (uid, name, worker, state, target, created_ms, not_before_ms)
            VALUES (:uid, :name, :worker, 'waiting', :target, :now, :now) ON CONFLICT (uid, name) DO NOTHING;";
        let parameters = vec![
            ("uid", value(uid)),
            ("name", value(name)),
            ("worker", value(worker)),
            ("target", value(recipe)),
            ("now", now()),
        ];
        self.store.run(text, parameters).await.map(|_| ())
    }

    /// Takes a row that waits, for `engine` to start its process as `worker`. `false`: somebody else did.
    pub(super) async fn begin(&self, row: &Row, worker: &WorkerId, engine: &str) -> Asked<bool> {
        let text = "UPDATE workers SET state = 'spawning', worker = :worker, engine = :engine, pid = NULL,
                born = NULL, created_ms = :now, started_ms = :now
            WHERE worker = :read AND state = :state RETURNING worker;";
        let parameters = vec![
            ("worker", value(worker)),
            ("engine", value(engine)),
            ("read", value(&row.worker)),
            ("state", value(row.state.name())),
            ("now", now()),
        ];
        Ok(!self.store.run(text, parameters).await?.is_empty())
    }

    /// Writes down which process a worker is.
    pub(super) async fn running(&self, worker: &WorkerId, pid: u32, born: &str) -> Asked<()> {
        let text = "UPDATE workers SET state = 'running', pid = :pid, born = :born
            WHERE worker = :worker AND state = 'spawning';";
        let parameters =
            vec![("worker", value(worker)), ("pid", Value::Integer(pid.into())), ("born", value(born))];
        self.store.run(text, parameters).await.map(|_| ())
    }

    /// The process of a row was never started: it waits again.
    pub(super) async fn wait_again(&self, row: &Row) -> Asked<()> {
        let text = "UPDATE workers SET state = 'waiting', engine = NULL
            WHERE worker = :worker AND state = 'spawning' AND engine = :engine;";
        let parameters = vec![("worker", value(&row.worker)), ("engine", value(&row.engine))];
        self.store.run(text, parameters).await.map(|_| ())
    }

    /// Its process ended; another may be started from then on.
    pub(super) async fn back_off(
        &self,
        worker: &WorkerId,
        ended: &str,
        failures: u32,
        not_before: Time,
    ) -> Asked<()> {
        let text = "UPDATE workers SET state = 'backOff', ended = :ended, failures = :failures,
                not_before_ms = :not_before, pid = NULL, born = NULL, kill_at_ms = NULL
            WHERE worker = :worker AND state IN ('spawning', 'running');";
        let parameters = vec![
            ("worker", value(worker)),
            ("ended", value(ended)),
            ("failures", Value::Integer(failures.into())),
            ("not_before", Value::Integer(not_before.0)),
        ];
        self.store.run(text, parameters).await.map(|_| ())
    }

    /// Writes down how the process of a row has ended.
    pub(super) async fn ended(&self, row: &Row, fate: &Fate) -> Asked<()> {
        let fate = serde_json::to_string(fate).map_err(|error| PortError::new("a worker's end", error))?;
        let text = "INSERT INTO endings (uid, name, fate) VALUES (:uid, :name, :fate)
            ON CONFLICT (uid, name) DO UPDATE SET fate = excluded.fate;";
        let parameters = vec![("uid", value(&row.uid)), ("name", value(&row.name)), ("fate", value(fate))];
        self.store.run(text, parameters).await.map(|_| ())
    }

    /// Its process was told to end. `false`: none runs.
    pub(super) async fn ending(&self, worker: &WorkerId, kill_at: Time) -> Asked<bool> {
        let text = "UPDATE workers SET state = 'ending', kill_at_ms = :kill_at
            WHERE worker = :worker AND state = 'running' RETURNING worker;";
        let parameters = vec![("worker", value(worker)), ("kill_at", Value::Integer(kill_at.0))];
        Ok(!self.store.run(text, parameters).await?.is_empty())
    }

    pub(super) async fn delete(&self, worker: &WorkerId) -> Asked<()> {
        let text = "DELETE FROM workers WHERE worker = :worker;";
        self.store.run(text, vec![("worker", value(worker))]).await.map(|_| ())
    }

    pub(super) async fn delete_if_no_process(&self, worker: &WorkerId) -> Asked<()> {
        let text = "DELETE FROM endings WHERE (uid, name) IN (
                SELECT uid, name FROM workers WHERE worker = :worker AND state IN ('waiting', 'backOff'));
            DELETE FROM workers WHERE worker = :worker AND state IN ('waiting', 'backOff');";
        self.store.run(text, vec![("worker", value(worker))]).await.map(|_| ())
    }
}

fn now() -> Value {
    Value::Integer(wall_clock().0)
}
