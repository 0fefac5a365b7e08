//! What tests need of the machine: folders, the program, servers, and waiting for something to be so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qscaler::demo::diary::{self, What};
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_qscaler");

/// Where randomness starts; `cargo ci` prints it.
pub(crate) fn seed() -> u64 {
    std::env::var("QSCALER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Whether the whole counts are run.
pub(crate) fn is_full() -> bool {
    std::env::var_os("QSCALER_FULL").is_some()
}

/// A tenth of a count, or all of it in a full run.
pub(crate) fn counts(whole: u64) -> u64 {
    if is_full() { whole } else { whole.div_ceil(10) }
}

/// The lines of a file that somebody writes meanwhile, none where there is no such file. What follows the last
/// line's end is still being written.
pub(crate) fn whole_lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    diary::whole_lines(&text).map(str::to_owned).collect()
}

/// Waits until something is so, looking often; fails with `what` after a time that no sound machine needs.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The session of a process; none when no such process runs.
pub(crate) fn session(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if fields[0] == "Z" { None } else { fields[3].parse().ok() }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    session(pid).is_some()
}

/// Where an engine that has said this serves: `HOST:PORT`.
pub(crate) fn served_at(log: &str) -> Option<String> {
    let (_, rest) = log.rsplit_once("metrics at http://")?;
    rest.split_once('/').map(|(address, _)| address.to_owned())
}

/// Status and body of what is served there; none while nobody answers.
pub(crate) fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A folder with rules, workloads and an engine's state.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rules", "workloads", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A rule that wants as many workers as the file says, at least.
    pub(crate) fn write_rule(&self, workers: u32) {
        self.write_replicas(&format!("desired: queue.length + queue.inflight, min: {workers}, max: 8"));
    }

    /// The same rule with other `replicas`.
    pub(crate) fn write_replicas(&self, replicas: &str) {
        self.write(
            "rules/fixed.yaml",
            &format!(
                "apiVersion: qscaler.dev/v1alpha1
kind: ScalingRule
metadata: {{name: fixed}}
spec:
  replicas: {{{replicas}}}
  behavior: {{scaleDown: {{stabilizationWindow: 0s}}}}
"
            ),
        );
    }

    /// A workload of the demo's workers on a queue of this site's own.
    pub(crate) fn write_workload(&self) {
        self.write_workload_with(&format!("command: [\"{PROGRAM}\", demo-worker], gracePeriod: 10s"));
    }

    /// The same with another target; every worker has `SITE`, this site's folder, in its environment.
    pub(crate) fn write_workload_with(&self, target: &str) {
        self.write_workload_named("work", target);
    }

    /// The same with another name, which is its queue's name, too.
    pub(crate) fn write_workload_named(&self, name: &str, target: &str) {
        let (queue, diary) = (self.path("queue.db"), self.path("diary"));
        self.write(
            &format!("workloads/{name}.yaml"),
            &format!(
                "apiVersion: qscaler.dev/v1alpha1
kind: Workload
metadata: {{name: {name}}}
spec:
  target: {{{target}, env: {{QSCALER_DEMO_DIARY: \"{}\", SITE: \"{}\"}}}}
  source: {{type: sqlite, url: \"sqlite:{}\"}}
  queues: [{{name: {name}}}]
  rule: fixed
  mode: act
",
                diary.display(),
                self.folder.path().display(),
                queue.display()
            ),
        );
    }

    pub(crate) fn start_engine(&self) -> Engine {
        self.start_engine_with(&[])
    }

    pub(crate) fn start_engine_with(&self, more: &[&str]) -> Engine {
        Engine::start(self.command().args(more), self.path("engine.log"))
    }

    /// The same with a variable of its environment.
    pub(crate) fn start_engine_where(&self, variable: &str, value: &str) -> Engine {
        Engine::start(self.command().env(variable, value), self.path("engine.log"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("run");
        for name in ["rules", "workloads", "state"] {
            command.arg(format!("--{name}")).arg(self.path(name));
        }
        command
    }

    /// Puts a task of the demo's kind into the queue, as any program would.
    pub(crate) fn enqueue(&self, id: &str, seconds: f64) {
        let connection = rusqlite::Connection::open(self.path("queue.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(qscaler_protocol::sqlite::TABLES).unwrap();
        let payload = format!("{id} {seconds}");
        connection
            .execute("INSERT INTO qscaler_tasks (queue, payload) VALUES ('work', ?1)", [payload])
            .unwrap();
    }

    /// Lines of all diaries, as they are now.
    pub(crate) fn diaries(&self) -> Vec<Vec<diary::Line>> {
        diary::read(&self.path("diary")).unwrap()
    }

    /// Tasks that have begun and tasks that have ended, each sorted.
    pub(crate) fn attempts(&self) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (vec![], vec![]);
        for line in self.diaries().into_iter().flatten() {
            match line.what {
                What::Start(task, _) => begun.push(task),
                What::End(task, _) => ended.push(task),
                What::Boot(_) | What::Gone => {}
            }
        }
        begun.sort();
        ended.sort();
        (begun, ended)
    }

    /// The engine's state file, once there is one.
    pub(crate) fn state(&self) -> Option<rusqlite::Connection> {
        let file = self.path("state/engine.db");
        let connection = file.exists().then(|| rusqlite::Connection::open(file).unwrap())?;
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        Some(connection)
    }

    /// Changes the state file behind the engine's back.
    pub(crate) fn change_state(&self, text: &str) {
        self.state().unwrap().execute_batch(text).unwrap();
    }

    /// Rows of the workers that are not gone: name, state, process id.
    pub(crate) fn workers(&self) -> Vec<(String, String, u32)> {
        let Some(connection) = self.state() else { return vec![] };
        let Ok(mut statement) =
            connection.prepare("SELECT name, state, IFNULL(pid, 0) FROM workers ORDER BY name")
        else {
            return vec![];
        };
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Waits until exactly so many workers run.
    pub(crate) fn wait_for_running(&self, count: usize) -> Vec<(String, String, u32)> {
        until(&format!("{count} workers run; the engine says:\n{}", self.log()), || {
            let workers = self.workers();
            let running = workers.iter().filter(|(_, state, _)| state == "running").count();
            (running == count && workers.len() == count).then_some(workers)
        })
    }

    /// What the metric of this name and these labels says; the engine must have been started with
    /// `--listen 127.0.0.1:0`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, answer) = get(&self.address()?, "/metrics")?;
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok())
    }

    /// Where the engine serves, once it does; it must have been started with `--listen 127.0.0.1:0`.
    pub(crate) fn address(&self) -> Option<String> {
        served_at(&self.log())
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_for_metric(&self, name: &str, value: f64) {
        let is_so = || self.metric(name).is_some_and(|now| now.total_cmp(&value).is_eq()).then_some(());
        until(&format!("{name} is {value}; the engine says:\n{}", self.log()), is_so);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("engine.log")).unwrap_or_default()
    }
}

/// A running engine; ended with the test, however that ends.
pub(crate) struct Engine {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Engine {
    /// Starts it; what it says goes to the end of `log`.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Self {
        let output = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().unwrap();
        Self { child, log }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the engine to end by itself.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = until("the engine ends", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }

    /// Tells it to stop and waits until all of its workers are gone.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait(), 0, "{}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test that failed leaves no engine and no workers behind.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            self.signal("TERM");
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(5)
                && self.child.try_wait().is_ok_and(|it| it.is_none())
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A server of the test's own, ended with it.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) url: String,
    _folder: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is missing; `cargo ci` brings it");
        let server = Self { child, url: format!("redis://127.0.0.1:{port}"), _folder: folder };
        until("redis-server answers", || server.connection().ok());
        server
    }

    /// Lets it answer nothing.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it answer again.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn connection(&self) -> redis::RedisResult<redis::Connection> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection()?;
        redis::cmd("PING").query::<String>(&mut connection)?;
        Ok(connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
