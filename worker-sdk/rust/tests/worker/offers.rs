//! What an engine does to a control path in Redis, by the protocol's texts, and what the server saw.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use qscaler_protocol::name::WorkloadUid;
use qscaler_protocol::redis::{self as texts, PathKeys};

use crate::fixture::RedisServer;

/// An engine's view of one workload's path.
pub(crate) struct Engine {
    connection: redis::Connection,
    keys: PathKeys,
}

impl Engine {
    pub(crate) fn new(server: &RedisServer, workload: &str) -> Self {
        Self { connection: server.connect().unwrap(), keys: PathKeys::of(&WorkloadUid::new(workload)) }
    }

    pub(crate) fn begin(&mut self) {
        let script = redis::Script::new(texts::ADOPT);
        let begun: i64 =
            script.key(&self.keys.offers).arg("").arg("epoch").arg(0).invoke(&mut self.connection).unwrap();
        assert_eq!(begun, 1);
    }

    pub(crate) fn project(&mut self, offers: &[u64]) {
        let script = redis::Script::new(texts::PROJECT);
        let mut call = script.key(&self.keys.offers);
        call.arg("epoch");
        for offer in offers {
            call.arg(*offer).arg("open");
        }
        assert_eq!(call.invoke::<i64>(&mut self.connection).unwrap(), 1);
    }

    /// How many offers are in a state that begins so.
    pub(crate) fn offers(&mut self, state: &str) -> usize {
        let fields: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(&self.keys.offers).query(&mut self.connection).unwrap();
        fields.iter().filter(|(name, it)| name.starts_with("o:") && it.starts_with(state)).count()
    }

    /// How many workers reported last that they are in this state.
    pub(crate) fn reports(&mut self, state: &str) -> usize {
        let reports: Vec<String> =
            redis::cmd("HVALS").arg(&self.keys.reports).query(&mut self.connection).unwrap();
        reports.iter().filter(|it| it.contains(&format!(r#""state":"{state}""#))).count()
    }
}

/// Everything that a server is asked, by itself.
pub(crate) struct Log {
    lines: Receiver<String>,
}

impl Log {
    pub(crate) fn of(server: &RedisServer) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        assert_eq!(first, "+OK\r\n");
        let (write, lines) = channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if write.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// All lines until now.
    pub(crate) fn read(&self, server: &RedisServer) -> Vec<Line> {
        let _: String = redis::cmd("ECHO").arg("so far").query(&mut server.connect().unwrap()).unwrap();
        let mut lines = vec![];
        loop {
            let line = self.lines.recv().unwrap();
            if line.contains(r#""ECHO" "so far""#) {
                return lines;
            }
            lines.extend(Line::parse(&line));
        }
    }
}

/// One command: when, whether a script asked it, and its words.
pub(crate) struct Line {
    pub(crate) by_script: bool,
    pub(crate) seconds: f64,
    pub(crate) words: Vec<String>,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (seconds, rest) = line.strip_prefix('+')?.split_once(' ')?;
        let (by, words) = rest.split_once("] ")?;
        let words = words.trim_matches('"').split(r#"" ""#).map(str::to_owned).collect();
        Some(Self { by_script: by.ends_with("lua"), seconds: seconds.parse().ok()?, words })
    }

    fn is(&self, name: &str) -> bool {
        self.words[0].eq_ignore_ascii_case(name)
    }

    /// A worker's move of a task to its own list.
    pub(crate) fn fetch_by(&self) -> Option<&str> {
        (self.is("BLMOVE") || self.is("LMOVE")).then(|| self.words[2].rsplit(':').next())?
    }

    /// A claim: whose, and of which offer of which path.
    pub(crate) fn claim(&self) -> Option<(&str, (String, String))> {
        let worker = self.words.get(3)?.strip_prefix("claimed:")?;
        self.is("HSET").then(|| (worker, (self.words[1].clone(), self.words[2].clone())))
    }

    /// An offer that was shown.
    pub(crate) fn shown(&self) -> Option<(String, String)> {
        self.is("HSETNX").then(|| (self.words[1].clone(), self.words[2].clone()))
    }
}
