//! Watches folders of rules and workloads and gives their files whenever they have changed.
//!
//! Folders are watched, never files: an editor's rename and a ConfigMap's swap replace the file that
//! would have been watched. What an event says matters little; after any of them everything is read
//! again and compared. Three things keep a half-written file from being taken: one that somebody has
//! open for writing is left as it was, the folder must have been quiet for a moment, and two reads
//! must agree. Where the operating system cannot watch, the folders are polled.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync;
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

/// Whether the operating system says when somebody closes a file. Where it does not, nothing is taken
/// to be open: it would be so for ever.
const TELLS_OF_CLOSING: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The folders, watched.
pub struct Watcher {
    folders: Vec<PathBuf>,
    by_system: bool,
    events: UnboundedReceiver<notify::Result<Event>>,
    /// Keeps the watch alive; none where the operating system cannot watch.
    watch: Option<RecommendedWatcher>,
    /// What the folders were when the watch began: a folder that is replaced must be watched anew.
    watched: Vec<Option<Identity>>,
    /// Files that somebody has open for writing.
    open: BTreeSet<PathBuf>,
    last: Vec<Found>,
}

/// Device and number of a folder.
type Identity = (u64, u64);

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
        if let Some(file) = folders.iter().find(|folder| folder.is_file()) {
            return Err(format!("{}: this is a file and no folder", file.display()));
        }
        // A folder that is not there is told before anything else is.
        read_all(&folders)?;
        let (_, events) = unbounded_channel();
        let (watch, watched, open, last) = (None, vec![], BTreeSet::new(), vec![]);
        let mut watcher = Self { folders, by_system, events, watch, watched, open, last };
        watcher.watch_anew();
        watcher.last = read_all(&watcher.folders)?;
        Ok(watcher)
    }

    fn watch_anew(&mut self) {
        self.watched = identities(&self.folders);
        let (sender, events) = unbounded_channel();
        self.events = events;
        self.open.clear();
        self.watch = if self.by_system { watch(&self.folders, sender) } else { None };
        if self.watch.is_none() {
            tracing::info!("the folders are polled every {POLL:?}");
        }
    }

    /// The files as they were read last.
    pub fn files(&self) -> Vec<Found> {
        self.last.clone()
    }

    /// The files as they are now and whenever they are others, looked at in a task of its own: who waits
    /// for many things at once would stop waiting for [`Watcher::changed`] again and again, and it would
    /// never be quiet for long enough.
    pub fn share(mut self) -> sync::watch::Receiver<Vec<Found>> {
        let (sender, files) = sync::watch::channel(self.files());
        tokio::spawn(async move { while sender.send(self.changed().await).is_ok() {} });
        files
    }

    /// Waits until the files are others than before, and gives them. Who stops waiting may miss a change.
    pub async fn changed(&mut self) -> Vec<Found> {
        let mut stirred = false;
        loop {
            if !stirred {
                self.wait_for_event().await;
            }
            self.wait_for_quiet().await;
            if identities(&self.folders) != self.watched {
                self.watch_anew();
            }
            let read = self.read_settled().await;
            stirred = read.stirred;
            if let Some(files) = read.files.filter(|files| *files != self.last) {
                self.last.clone_from(&files);
                return files;
            }
        }
    }

    /// Waits for an event, or for the time to look without one.
    async fn wait_for_event(&mut self) {
        let is_watched = self.watch.is_some() && self.watched.iter().all(Option::is_some);
        let look = if is_watched { BACKSTOP } else { POLL };
        match timeout(look, self.events.recv()).await {
            Ok(Some(event)) => self.note(event),
            // Without a watch nobody sends.
            Ok(None) => sleep(look).await,
            Err(_) => {}
        }
    }

    /// Waits for the folders to be quiet.
    async fn wait_for_quiet(&mut self) {
        let at_the_latest = Instant::now() + QUIET_MAX;
        while let Ok(Ok(Some(event))) = timeout_at(at_the_latest, timeout(QUIET, self.events.recv())).await {
            self.note(event);
        }
    }

    fn note(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the watch of the folders says");
                return;
            }
        };
        if event.need_rescan() {
            // Events were lost, among them perhaps the end of a writing.
            self.open.clear();
        }
        let moves = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        if moves && self.folders.iter().any(|folder| event.paths.contains(&absolute(folder))) {
            // A new folder in its place may well get its number.
            self.watched.clear();
        }
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) if TELLS_OF_CLOSING => self.open.extend(event.paths),
            // Whoever made an empty file is about to write it; a link is there at once.
            EventKind::Create(CreateKind::File) if TELLS_OF_CLOSING => {
                self.open.extend(event.paths.into_iter().filter(is_empty_file));
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => event.paths.iter().for_each(|path| {
                self.open.remove(path);
            }),
            _ => {}
        }
    }

    /// Reads everything twice.
    async fn read_settled(&mut self) -> Reading {
        let Ok(first) = read_all(&self.folders) else { return Reading::default() };
        // Without events there is no telling who writes, so the reads are further apart.
        sleep(if self.watch.is_some() { AGREE } else { POLL }).await;
        let Ok(second) = read_all(&self.folders) else { return Reading::default() };
        if first != second {
            return Reading { files: None, stirred: true };
        }
        // Somebody may have begun to write just before the first read.
        let mut stirred = BTreeSet::new();
        while let Ok(event) = self.events.try_recv() {
            stirred.extend(event.iter().flat_map(|event| event.paths.iter().cloned()));
            self.note(event);
        }
        let unsettled = self.open.union(&stirred).cloned().collect();
        let files = self.with_files_as_they_were(second, &unsettled);
        Reading { files: Some(files), stirred: !stirred.is_empty() }
    }

    fn with_files_as_they_were(&self, found: Vec<Found>, these: &BTreeSet<PathBuf>) -> Vec<Found> {
        let is_among = |found: &Found| these.contains(&absolute(Path::new(&found.path)));
        let before = |found: &Found| self.last.iter().find(|known| known.path == found.path).cloned();
        found
            .into_iter()
            .filter_map(|found| if is_among(&found) { before(&found) } else { Some(found) })
            .collect()
    }
}

/// What a look at the folders gave.
#[derive(Default)]
struct Reading {
    /// The files as far as nobody is writing them; none when two reads differ or one has failed.
    files: Option<Vec<Found>>,
    /// Something happened meanwhile: another look is due at once.
    stirred: bool,
}

fn is_empty_file(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0)
}

fn identities(folders: &[PathBuf]) -> Vec<Option<Identity>> {
    let identity = |folder: &PathBuf| fs::metadata(folder).ok().map(|it| (it.dev(), it.ino()));
    folders.iter().map(identity).collect()
}

fn watch(folders: &[PathBuf], sender: UnboundedSender<notify::Result<Event>>) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<Event>| {
        // Our own reading opens the files, too; it would be followed by another reading for ever.
        let is_ours = |event: &Event| matches!(event.kind, EventKind::Access(AccessKind::Open(_)));
        if !event.as_ref().is_ok_and(is_ours) {
            let _ = sender.send(event);
        }
    };
    let started = notify::recommended_watcher(tell).and_then(|mut watcher| {
        folders
            .iter()
            .filter(|folder| folder.is_dir())
            .try_for_each(|folder| watcher.watch(&absolute(folder), RecursiveMode::NonRecursive))
            .map(|()| watcher)
    });
    started.inspect_err(|error| tracing::warn!(%error, "the operating system cannot watch the folders")).ok()
}

/// Events and files are compared by their paths.
fn absolute(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn read_all(folders: &[PathBuf]) -> Result<Vec<Found>, String> {
    let mut found = vec![];
    for folder in folders {
        found.extend(folder::read(folder)?.into_iter().filter(|file| !folder::is_test(&file.path)));
    }
    Ok(found)
}
