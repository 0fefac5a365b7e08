//! The watch of folders on real files: what an editor, a deployment and a ConfigMap mount do to one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use notify::Watcher as _;
use qscaler::reload::Watcher;
use qscaler_core::catalog::Found;
use tempfile::TempDir;

use crate::fixture::{counts, seed};
use crate::world::Random;

/// No sound machine needs so long to see a change. It is shorter than the time after which the watcher
/// looks without having been told, so that a watch that is lost does not pass.
pub(crate) const SEEN_MAX: Duration = Duration::from_secs(20);
/// Longer than the watcher's quiet time and than the distance of its two reads, together.
pub(crate) const LONG_PAUSE: Duration = Duration::from_millis(900);

const OLD: &str = "# the old text\n";
const NEW: &str = "# the new text, which is longer\n# than the old one\n";

fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Name and text of what was found.
fn texts(found: &[Found]) -> Vec<(String, String)> {
    let name = |found: &Found| Path::new(&found.path).file_name().unwrap().to_str().unwrap().to_owned();
    found.iter().map(|found| (name(found), found.text.clone().unwrap())).collect()
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Takes changes until the files are these; returns every state on the way.
async fn seen(watcher: &mut Watcher, wanted: &[(&str, &str)]) -> Vec<Vec<(String, String)>> {
    let mut states = vec![];
    while states.last() != Some(&owned(wanted)) {
        let Ok(found) = tokio::time::timeout(SEEN_MAX, watcher.changed()).await else {
            panic!("not seen: {wanted:?}; but {states:?}");
        };
        states.push(texts(&found));
    }
    states
}

/// A change of a folder that happens in one step: its name, the step, and what the folder then holds.
type Change<'a> = (&'a str, fn(&Path), &'a [(&'a str, &'a str)]);

fn write_and_rename(folder: &Path) {
    fs::write(folder.join(".a.yaml.swp"), NEW).unwrap();
    fs::rename(folder.join(".a.yaml.swp"), folder.join("a.yaml")).unwrap();
}

/// As an editor does that keeps a backup: the old file goes away, then the new one is written.
fn move_away_and_write(folder: &Path) {
    fs::rename(folder.join("a.yaml"), folder.join("a.yaml~")).unwrap();
    fs::write(folder.join("a.yaml"), NEW).unwrap();
}

fn write_in_place(folder: &Path) {
    let mut file = File::options().write(true).truncate(true).open(folder.join("a.yaml")).unwrap();
    file.write_all(NEW.as_bytes()).unwrap();
}

/// Shorter than the watcher's quiet time.
const OTHER_THINGS: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_change_is_seen_by_one_who_has_other_things_to_do_all_the_time() {
    let folder = folder_with(&[("a.yaml", OLD)]);
    let mut files = Watcher::start(vec![folder.path().to_owned()]).unwrap().share();
    write_and_rename(folder.path());
    let begin = Instant::now();
    while texts(&files.borrow_and_update()) != owned(&[("a.yaml", NEW)]) {
        assert!(begin.elapsed() < SEEN_MAX, "it is not seen");
        let _ = tokio::time::timeout(OTHER_THINGS, files.changed()).await;
    }
}

#[tokio::test]
async fn what_an_editor_does_is_seen_in_one_step() {
    let changes: [Change; 6] = [
        ("write and rename", write_and_rename, &[("a.yaml", NEW), ("b.yaml", OLD)]),
        ("move away and write", move_away_and_write, &[("a.yaml", NEW), ("b.yaml", OLD)]),
        ("truncate and write in place", write_in_place, &[("a.yaml", NEW), ("b.yaml", OLD)]),
        (
            "rename",
            |folder| fs::rename(folder.join("a.yaml"), folder.join("c.yaml")).unwrap(),
            &[("b.yaml", OLD), ("c.yaml", OLD)],
        ),
        (
            "rename so that it is a rule no more",
            |folder| fs::rename(folder.join("a.yaml"), folder.join("a.off")).unwrap(),
            &[("b.yaml", OLD)],
        ),
        ("remove", |folder| fs::remove_file(folder.join("a.yaml")).unwrap(), &[("b.yaml", OLD)]),
    ];
    for polls in [false, true] {
        for (what, step, wanted) in &changes {
            let folder =
                folder_with(&[("a.yaml", OLD), ("b.yaml", OLD), ("b.test.yaml", OLD), ("b.txt", OLD)]);
            let start = if polls { Watcher::start_polling } else { Watcher::start };
            let mut watcher = start(vec![folder.path().to_owned()]).unwrap();
            assert_eq!(texts(&watcher.files()), owned(&[("a.yaml", OLD), ("b.yaml", OLD)]));
            let begin = Instant::now();
            step(folder.path());
            let states = seen(&mut watcher, wanted).await;
            let by = if polls { "by polling" } else { "by the system" };
            println!("{what}, {by}: seen after {} ms", begin.elapsed().as_millis());
            assert_eq!(states, [owned(wanted)], "{what}: nothing between the old and the new is given");
            assert_eq!(texts(&watcher.files()), owned(wanted));
        }
    }
}

/// A folder as the kubelet makes it: files are links through `..data`, which is a link to the version.
pub(crate) struct Mount {
    pub(crate) folder: PathBuf,
}

impl Mount {
    pub(crate) fn fill(&self, files: &[(&str, &str)]) {
        self.swap("..v1", files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), self.path(name)).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes another version and turns the link to it, in the order of the kubelet's AtomicWriter.
    pub(crate) fn swap(&self, version: &str, files: &[(&str, &str)]) {
        fs::create_dir(self.path(version)).unwrap();
        for (name, text) in files {
            fs::write(self.path(version).join(name), text).unwrap();
        }
        symlink(version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }
}

#[tokio::test]
async fn a_config_map_that_is_swapped_is_seen_whole_with_files_that_come_and_go() {
    for start in [Watcher::start, Watcher::start_polling] {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount { folder: folder.path().to_owned() };
        mount.fill(&[("a.yaml", OLD), ("b.yaml", OLD)]);
        let mut watcher = start(vec![mount.folder.clone()]).unwrap();
        let first = watcher.files();
        assert_eq!(texts(&first), owned(&[("a.yaml", OLD), ("b.yaml", OLD)]));
        let begin = Instant::now();
        mount.swap("..v2", &[("a.yaml", NEW), ("b.yaml", NEW)]);
        fs::remove_dir_all(mount.path("..v1")).unwrap();
        let states = seen(&mut watcher, &[("a.yaml", NEW), ("b.yaml", NEW)]).await;
        println!("swap of a ConfigMap: seen after {} ms", begin.elapsed().as_millis());
        assert_eq!(states.len(), 1, "two versions are never mixed: {states:?}");
        assert_eq!(watcher.files()[0].path, first[0].path, "a file keeps its name through a swap");
        mount.swap("..v3", &[("b.yaml", NEW), ("c.yaml", NEW)]);
        symlink("..data/c.yaml", mount.path("c.yaml")).unwrap();
        seen(&mut watcher, &[("b.yaml", NEW), ("c.yaml", NEW)]).await;
    }
}

#[tokio::test]
async fn a_half_written_file_is_never_given() {
    let (half, rest) = NEW.split_at(NEW.len() / 2);
    // The pause within the quiet time; and one that is longer, while the writer keeps the file open.
    for pause in [Duration::from_millis(80), LONG_PAUSE] {
        for (name, other) in [("a.yaml", OLD), ("new.yaml", "")] {
            let folder = folder_with(&[("a.yaml", OLD)]);
            let mut watcher = Watcher::start(vec![folder.path().to_owned()]).unwrap();
            let path = folder.path().join(name);
            let writer = tokio::task::spawn_blocking(move || {
                let mut file = File::create(path).unwrap();
                file.write_all(half.as_bytes()).unwrap();
                std::thread::sleep(pause);
                file.write_all(rest.as_bytes()).unwrap();
            });
            let wanted =
                if other.is_empty() { vec![("a.yaml", OLD), (name, NEW)] } else { vec![(name, NEW)] };
            assert_eq!(seen(&mut watcher, &wanted).await, [owned(&wanted)], "{name}, pause {pause:?}");
            writer.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_half_written_file_keeps_no_other_from_changing_not_even_its_namesake() {
    let (rules, workloads) =
        (folder_with(&[("a.yaml", OLD), ("b.yaml", OLD)]), folder_with(&[("a.yaml", OLD)]));
    let folders = vec![rules.path().to_owned(), workloads.path().to_owned()];
    let mut watcher = Watcher::start(folders).unwrap();
    let mut file = File::create(rules.path().join("a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    fs::write(rules.path().join("b.yaml"), NEW).unwrap();
    fs::write(workloads.path().join("a.yaml"), NEW).unwrap();
    let wanted = [("a.yaml", OLD), ("b.yaml", NEW), ("a.yaml", NEW)];
    for state in seen(&mut watcher, &wanted).await {
        assert_eq!(state[0], owned(&wanted)[0], "the half-written file");
    }
    drop(file);
    seen(&mut watcher, &[("a.yaml", "half"), ("b.yaml", NEW), ("a.yaml", NEW)]).await;
}

/// Files are rewritten in place at any moment of the watcher's waiting and reading, each half first and
/// with the other half after a pause that is random too: whatever is given is whole.
#[tokio::test]
async fn whenever_a_writer_begins_no_half_of_its_file_is_given() {
    let mut random = Random::new(seed());
    let folder = folder_with(&[("a.yaml", "0 0\n"), ("b.yaml", "0 0\n")]);
    let path = folder.path().to_owned();
    let mut watcher = Watcher::start(vec![path.clone()]).unwrap();
    let rounds = counts(200);
    let writer = tokio::task::spawn_blocking(move || {
        for round in 1..=rounds {
            // The one file stirs the watcher, the other is written in halves some time later.
            fs::write(path.join("b.yaml"), format!("{round} {round}\n")).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(200)));
            let mut file = File::create(path.join("a.yaml")).unwrap();
            write!(file, "{round} ").unwrap();
            std::thread::sleep(Duration::from_millis(random.below(300)));
            writeln!(file, "{round}").unwrap();
        }
    });
    let last = format!("{rounds} {rounds}\n");
    for state in seen(&mut watcher, &[("a.yaml", &last), ("b.yaml", &last)]).await {
        for (name, text) in state {
            let halves: Vec<_> = text.split_whitespace().collect();
            assert!(halves.len() == 2 && halves[0] == halves[1], "seed {}: {name}: {text:?}", seed());
        }
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_on() {
    let parent = tempfile::tempdir().unwrap();
    let (rules, next) = (parent.path().join("rules"), parent.path().join("next"));
    for (folder, text) in [(&rules, OLD), (&next, NEW)] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("a.yaml"), text).unwrap();
    }
    let mut watcher = Watcher::start(vec![rules.clone()]).unwrap();
    fs::rename(&rules, parent.path().join("before")).unwrap();
    fs::rename(&next, &rules).unwrap();
    seen(&mut watcher, &[("a.yaml", NEW)]).await;
    fs::write(rules.join("a.yaml"), OLD).unwrap();
    seen(&mut watcher, &[("a.yaml", OLD)]).await;
    // It is gone for a while, as a checkout of another branch leaves it.
    fs::remove_dir_all(&rules).unwrap();
    tokio::time::sleep(LONG_PAUSE).await;
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("b.yaml"), NEW).unwrap();
    seen(&mut watcher, &[("b.yaml", NEW)]).await;
    // Or another one is there at once, mostly with the number of the old one.
    for text in ["1", "2", "3", "4", "5"] {
        fs::remove_dir_all(&rules).unwrap();
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("c.yaml"), text).unwrap();
        seen(&mut watcher, &[("c.yaml", text)]).await;
        let begin = Instant::now();
        fs::write(rules.join("c.yaml"), NEW).unwrap();
        seen(&mut watcher, &[("c.yaml", NEW)]).await;
        println!("in a folder that was replaced: seen after {} ms", begin.elapsed().as_millis());
    }
    assert!(Watcher::start(vec![parent.path().join("nowhere")]).is_err());
}

#[tokio::test]
async fn the_watchers_own_reading_does_not_wake_it() {
    let folder = folder_with(&[("a.yaml", OLD)]);
    let mut watcher = Watcher::start(vec![folder.path().to_owned()]).unwrap();
    fs::write(folder.path().join("a.yaml"), NEW).unwrap();
    seen(&mut watcher, &[("a.yaml", NEW)]).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let mut bystander = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        count.fetch_add(usize::from(event.is_ok_and(|event| event.kind.is_access())), Ordering::Relaxed);
    })
    .unwrap();
    bystander.watch(&folder.path().join("a.yaml"), notify::RecursiveMode::NonRecursive).unwrap();
    assert!(tokio::time::timeout(2 * LONG_PAUSE, watcher.changed()).await.is_err(), "nothing has changed");
    let opened = opened.load(Ordering::Relaxed);
    assert!(opened <= 4, "it was opened {opened} times");
}
