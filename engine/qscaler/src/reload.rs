//! Watches folders of rules and workloads and gives their files whenever they have changed.
//!
//! Folders are watched, never files: an editor's rename and a ConfigMap's swap replace the file that
//! would have been watched. What an event says matters little; after any of them everything is read
//! again and compared. Three things keep a half-written file from being taken: one that somebody has
//! open for writing is left as it was, the folder must have been quiet for a moment, and two reads
//! must agree. Where the operating system cannot watch, the folders are polled.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use qscaler_core::catalog::Found;

use crate::folder;

/// After an event nothing must happen for this long before the files are read,
const QUIET: Duration = Duration::from_millis(100);
/// or this much time must have passed since the first of them.
const QUIET_MAX: Duration = Duration::from_millis(600);
/// Two reads this far apart must agree.
const AGREE: Duration = Duration::from_millis(50);
/// The folders are read this often without any event: a network file system may not tell.
const BACKSTOP: Duration = Duration::from_secs(30);
/// And this often where the operating system cannot watch.
const POLL: Duration = Duration::from_millis(300);

/// The folders, watched.
pub struct Watcher {
    folders: Vec<PathBuf>,
    events: UnboundedReceiver<notify::Result<notify::Event>>,
    /// Keeps the watch alive; none where the operating system cannot watch.
    watch: Option<RecommendedWatcher>,
    /// Files that somebody has open for writing.
    open: BTreeSet<PathBuf>,
    last: Vec<Found>,
}

impl Watcher {
    /// Watches these folders and reads them for the first time.
    pub fn start(folders: Vec<PathBuf>) -> Result<Self, String> {
        Self::start_with(folders, true)
    }

    /// The same without the operating system's help.
    pub fn start_polling(folders: Vec<PathBuf>) -> Result<Self, String> {
        Self::start_with(folders, false)
    }

    fn start_with(folders: Vec<PathBuf>, by_system: bool) -> Result<Self, String> {
        let (sender, events) = unbounded_channel();
        let watch = if by_system { watch(&folders, sender) } else { None };
        if watch.is_none() {
            tracing::info!("the folders are polled every {POLL:?}");
        }
        let last = read_all(&folders)?;
        Ok(Self { folders, events, watch, open: BTreeSet::new(), last })
    }

    /// The files as they were read last.
    pub fn files(&self) -> Vec<Found> {
        self.last.clone()
    }

    /// Waits until the files are others than before, and gives them.
    pub async fn changed(&mut self) -> Vec<Found> {
        loop {
            self.wait_for_quiet().await;
            let Some(found) = self.read_settled().await else { continue };
            if found != self.last {
                self.last.clone_from(&found);
                return found;
            }
        }
    }

    /// Waits for an event, or for the time to look without one, and then for the folders to be quiet.
    async fn wait_for_quiet(&mut self) {
        let look = if self.watch.is_some() { BACKSTOP } else { POLL };
        match timeout(look, self.events.recv()).await {
            Ok(Some(event)) => self.note(event),
            // Without a watch nobody sends.
            Ok(None) => sleep(look).await,
            Err(_) => return,
        }
        let at_the_latest = Instant::now() + QUIET_MAX;
        while let Ok(Ok(Some(event))) = timeout_at(at_the_latest, timeout(QUIET, self.events.recv())).await {
            self.note(event);
        }
    }

    fn note(&mut self, event: notify::Result<notify::Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the watch of the folders says");
                return;
            }
        };
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.open.extend(event.paths),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                event.paths.iter().for_each(|path| {
                    self.open.remove(path);
                });
            }
            EventKind::Modify(ModifyKind::Name(_)) => event.paths.iter().for_each(|path| {
                self.open.remove(path);
            }),
            _ => {}
        }
    }

    /// Reads everything twice; none when the reads differ or something cannot be read just now.
    async fn read_settled(&self) -> Option<Vec<Found>> {
        let first = read_all(&self.folders).ok()?;
        // Without events there is no telling who writes, so the reads are further apart.
        sleep(if self.watch.is_some() { AGREE } else { POLL }).await;
        let second = read_all(&self.folders).ok()?;
        (first == second).then(|| self.with_open_files_as_they_were(second))
    }

    fn with_open_files_as_they_were(&self, found: Vec<Found>) -> Vec<Found> {
        let is_open = |found: &Found| {
            let name = PathBuf::from(&found.path);
            self.open.iter().any(|open| open.file_name() == name.file_name())
        };
        let before = |found: &Found| self.last.iter().find(|known| known.path == found.path).cloned();
        found
            .into_iter()
            .filter_map(|found| if is_open(&found) { before(&found) } else { Some(found) })
            .collect()
    }
}

fn watch(
    folders: &[PathBuf],
    sender: UnboundedSender<notify::Result<notify::Event>>,
) -> Option<RecommendedWatcher> {
    let tell = move |event| {
        let _ = sender.send(event);
    };
    let started = notify::recommended_watcher(tell).and_then(|mut watcher| {
        folders
            .iter()
            .try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive))
            .map(|()| watcher)
    });
    started.inspect_err(|error| tracing::warn!(%error, "the operating system cannot watch the folders")).ok()
}

fn read_all(folders: &[PathBuf]) -> Result<Vec<Found>, String> {
    let mut found = vec![];
    for folder in folders {
        found.extend(folder::read(folder)?.into_iter().filter(|file| !folder::is_test(&file.path)));
    }
    Ok(found)
}
