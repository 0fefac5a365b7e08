//! What tests need of the machine: randomness from a seed, waiting for something to be so, a server.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where randomness starts; `cargo ci` prints it.
pub(crate) fn seed() -> u64 {
    std::env::var("QSCALER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// A tenth of a count, or all of it in a full run.
pub(crate) fn counts(whole: usize) -> usize {
    if std::env::var_os("QSCALER_FULL").is_some() { whole } else { whole.div_ceil(10) }
}

/// Xorshift, the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A time under this many milliseconds.
    pub(crate) fn under(&mut self, milliseconds: u64) -> Duration {
        Duration::from_micros(self.below(milliseconds * 1000))
    }
}

/// A failure prints how to repeat it.
pub(crate) fn said_seed() -> u64 {
    println!("seed {}; repeat with QSCALER_SEED={0}", seed());
    seed()
}

/// Waits until something is so, looking often; fails with `what` after a time that no sound machine needs.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(60), what, look)
}

/// The same with a limit that is part of what is tested.
pub(crate) fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// A server of the test's own, ended with it.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    more: Vec<String>,
}

impl RedisServer {
    pub(crate) fn start(more: &[&str]) -> Self {
        let server = Self::start_unseen(more);
        until("redis-server answers", || server.connect().ok());
        server
    }

    /// One that cannot be reached in the usual way.
    pub(crate) fn start_unseen(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let more: Vec<String> = more.iter().map(|it| it.replace("PORT", &port.to_string())).collect();
        let child = Self::spawn(port, &folder, &more);
        Self { child, port, folder, more }
    }

    fn spawn(port: u16, folder: &TempDir, more: &[String]) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is missing; `cargo ci` brings it")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd("PING").query::<String>(&mut connection)?;
        Ok(connection)
    }

    /// Kills it and starts it again over the same data.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.port, &self.folder, &self.more);
        until("redis-server answers again", || self.connect().ok());
    }

    /// It neither answers nor refuses, as behind a cut wire.
    pub(crate) fn silence(&self, time: Duration) {
        signal(&self.child, "STOP");
        std::thread::sleep(time);
        signal(&self.child, "CONT");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
