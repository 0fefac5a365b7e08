//! What tasks and workers write down themselves, each worker in a file of its own: nothing of it goes
//! through the SDK or the engine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use qscaler_core::time::Time;

use crate::clock::wall_clock;

/// One line of a diary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What happened.
    pub what: What,
    /// When, by the clock on the wall.
    pub at: Time,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The worker of this name has begun: its first line.
    Boot(String),
    /// A task's body has begun, on this attempt.
    Start(String, u32),
    /// A task's body has ended, on this attempt.
    End(String, u32),
    /// The worker is about to end: its last line.
    Gone,
}

/// A diary that is being written.
pub struct Diary(Mutex<File>);

impl Diary {
    /// The diary of one worker.
    pub fn open(folder: &Path, worker: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = OpenOptions::new().create(true).append(true).open(folder.join(worker))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes a line, at once and whole.
    pub fn write(&self, what: &What) -> io::Result<()> {
        let now = wall_clock().0;
        let line = match what {
            What::Boot(name) => format!("boot {name} - {now}\n"),
            What::Start(task, attempt) => format!("start {task} {attempt} {now}\n"),
            What::End(task, attempt) => format!("end {task} {attempt} {now}\n"),
            What::Gone => format!("gone - - {now}\n"),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// Reads the diaries of all workers, by file.
pub fn read(folder: &Path) -> Result<Vec<Vec<Line>>, String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    let mut diaries = vec![];
    if !folder.exists() {
        return Ok(diaries);
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let text = fs::read_to_string(entry.map_err(failed)?.path()).map_err(failed)?;
        diaries.push(
            whole_lines(&text)
                .map(parse)
                .collect::<Option<Vec<_>>>()
                .ok_or("a diary holds a line that is none")?,
        );
    }
    Ok(diaries)
}

/// The lines of a file that somebody writes meanwhile: one without its end is still being written.
pub fn whole_lines(text: &str) -> std::str::Lines<'_> {
    text.rfind('\n').map_or("", |end| &text[..end]).lines()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (kind, name, attempt, at) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let attempt = || attempt.parse().ok();
    let what = match kind {
        "boot" => What::Boot(name.to_owned()),
        "start" => What::Start(name.to_owned(), attempt()?),
        "end" => What::End(name.to_owned(), attempt()?),
        "gone" => What::Gone,
        _ => return None,
    };
    Some(Line { what, at: Time(at.parse().ok()?) })
}
