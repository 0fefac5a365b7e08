//! Busy workers that are killed lose no task.

use crate::fixture::{Random, counts, said_seed, until};
use crate::sites::{Program, Site, System};

#[test]
fn no_task_is_lost_when_busy_workers_are_killed() {
    kill_busy_workers(&Site::new(System::Sqlite));
}

/// One kill in five hits a worker between the queue system's answer and its own knowledge of the task.
pub(crate) fn kill_busy_workers(site: &Site) {
    let (tasks, kills) = (counts(2_000), counts(100));
    let mut random = Random::new(said_seed());
    site.push((0..tasks).map(|task| format!("t{task} {}", 20 + random.below(80))));
    let mut workers: Vec<Program> = (0..4).map(|number| site.start(&format!("w{number}"), &[])).collect();
    for kill in 0..kills {
        let name = format!("k{kill}");
        if kill % 5 == 4 {
            let mut hanging = site.start(&name, &[("DIARIST_HANGS", "1")]);
            until("it has fetched", || hanging.lines().last()?.strip_prefix("hang ").map(str::to_owned));
            hanging.kill();
            continue;
        }
        let victim = until("a worker is busy", || {
            let place = random.below(workers.len() as u64) as usize;
            workers[place].is_busy().then_some(place)
        });
        std::thread::sleep(random.under(20));
        workers[victim].kill();
        workers[victim] = site.start(&name, &[]);
    }
    until("everything is done", || {
        let (waiting, held) = site.left();
        (waiting.is_empty() && held == 0).then_some(())
    });
    for worker in &mut workers {
        until("it has begun", || worker.lines().first().cloned());
        worker.signal("TERM");
        assert!(worker.wait().success());
    }
    let stories = site.stories();
    let lost = tasks - stories.values().filter(|story| story.ended > 0).count();
    let twice = stories.values().map(|story| story.begun.len() - 1).sum::<usize>();
    let unknown = stories.values().filter(|story| story.begun.windows(2).any(|it| it[0] == it[1])).count();
    println!(
        "{tasks} tasks, {kills} kills: {lost} lost, {twice} begun again, {unknown} of them not known as such"
    );
    assert_eq!(lost, 0);
    assert!(twice <= kills);
    assert_eq!(unknown, 0, "an attempt after the first says so");
}
