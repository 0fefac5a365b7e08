//! A queue system with worker processes on it, and what is to be seen of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::{RedisServer, signal, until};

/// The queue of every site.
pub(crate) const QUEUE: &str = "work";
/// The workload of every site.
pub(crate) const WORKLOAD: &str = "uid";

pub(crate) enum System {
    Redis(RedisServer),
    Sqlite,
}

pub(crate) struct Site {
    pub(crate) system: System,
    folder: TempDir,
}

/// What happened to one task, over all diaries.
#[derive(Default)]
pub(crate) struct Story {
    /// The attempts that began, in rising order.
    pub(crate) begun: Vec<u32>,
    pub(crate) ended: usize,
}

impl Site {
    pub(crate) fn new(system: System) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("diaries")).unwrap();
        let site = Self { system, folder };
        if let System::Sqlite = site.system {
            site.database().execute_batch(qscaler_protocol::sqlite::TABLES).unwrap();
        }
        site
    }

    pub(crate) fn url(&self) -> String {
        match &self.system {
            System::Redis(server) => server.url(),
            System::Sqlite => format!("sqlite:{}", self.folder.path().join("queue.db").display()),
        }
    }

    pub(crate) fn database(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("queue.db")).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection
    }

    /// As a producer without any library does it.
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = String>) {
        let tasks: Vec<String> = tasks.into_iter().collect();
        match &self.system {
            System::Redis(server) => {
                redis::cmd("LPUSH").arg(QUEUE).arg(&tasks).exec(&mut server.connect().unwrap()).unwrap();
            }
            System::Sqlite => {
                let mut connection = self.database();
                let transaction = connection.transaction().unwrap();
                for task in tasks {
                    let text = "INSERT INTO qscaler_tasks (queue, payload) VALUES (?1, ?2)";
                    transaction.execute(text, [QUEUE, &task]).unwrap();
                }
                transaction.commit().unwrap();
            }
        }
    }

    /// The payloads that wait, delayed ones too, and how many are held.
    pub(crate) fn left(&self) -> (Vec<String>, usize) {
        match &self.system {
            System::Redis(server) => {
                let mut connection = server.connect().unwrap();
                let mut ask = |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).query(&mut connection);
                let mut waiting: Vec<String> = ask(&["LRANGE", QUEUE, "0", "-1"]).unwrap();
                let delayed: Vec<String> = ask(&["ZRANGE", "qscaler:{work}:delayed", "0", "-1"]).unwrap();
                waiting.extend(delayed);
                let lists: Vec<String> = ask(&["KEYS", "qscaler:{work}:processing:*"]).unwrap();
                let length = |list: &String| {
                    let length: usize = redis::cmd("LLEN").arg(list).query(&mut connection).unwrap();
                    length
                };
                (waiting, lists.iter().map(length).sum())
            }
            System::Sqlite => {
                let connection = self.database();
                let text = "SELECT CAST(payload AS TEXT) FROM qscaler_tasks WHERE lease IS NULL";
                let mut statement = connection.prepare(text).unwrap();
                let waiting =
                    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
                let text = "SELECT COUNT(*) FROM qscaler_tasks WHERE lease IS NOT NULL";
                let held: u32 = connection.query_row(text, [], |row| row.get(0)).unwrap();
                (waiting, held as usize)
            }
        }
    }

    pub(crate) fn start(&self, name: &str, environment: &[(&str, &str)]) -> Program {
        let program = std::env::current_exe().unwrap().parent().unwrap().join("../examples/diarist");
        assert!(program.exists(), "build it first: cargo build --release -p qscaler-worker --examples");
        let diaries = self.folder.path().join("diaries");
        let child = Command::new(program)
            .env("QSCALER_QUEUE_URL", self.url())
            .env("QSCALER_QUEUE", QUEUE)
            .env("QSCALER_WORKLOAD", WORKLOAD)
            .env("QSCALER_WORKER", name)
            .env("DIARIST_FOLDER", &diaries)
            .env("DIARIST_LEASE_MS", "3000")
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        let diary = diaries.join(child.id().to_string());
        Program { child, diary, name: name.to_owned() }
    }

    /// What happened to each task.
    pub(crate) fn stories(&self) -> BTreeMap<String, Story> {
        let mut stories: BTreeMap<String, Story> = BTreeMap::new();
        for entry in std::fs::read_dir(self.folder.path().join("diaries")).unwrap() {
            for line in whole_lines(&entry.unwrap().path()) {
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["start", task, attempt] => {
                        stories.entry(task.into()).or_default().begun.push(attempt.parse().unwrap());
                    }
                    ["end", task, _] => stories.entry(task.into()).or_default().ended += 1,
                    _ => {}
                }
            }
        }
        for story in stories.values_mut() {
            story.begun.sort_unstable();
        }
        stories
    }

    /// How often an acknowledgement came late, over all workers that left in order.
    pub(crate) fn late_acks(&self) -> u64 {
        let folder = std::fs::read_dir(self.folder.path().join("diaries")).unwrap();
        let last_lines = folder.filter_map(|entry| whole_lines(&entry.unwrap().path()).pop());
        last_lines.filter_map(|line| line.strip_prefix("left ")?.split_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

/// The lines of a diary, none before its worker has begun it. What follows the last line's end is still being
/// written.
fn whole_lines(diary: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(diary).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// A worker's process; killed with the test, however that ends.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) name: String,
    diary: PathBuf,
}

impl Program {
    pub(crate) fn lines(&self) -> Vec<String> {
        whole_lines(&self.diary)
    }

    /// Works on a task, as far as its diary says.
    pub(crate) fn is_busy(&self) -> bool {
        self.lines().last().is_some_and(|line| line.starts_with("start "))
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the worker ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
