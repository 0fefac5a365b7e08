//! Workers outlive their queue system's troubles.

use std::time::Duration;

use crate::fixture::{RedisServer, counts, until, within};
use crate::offers::Engine;
use crate::sites::{Program, Site, System, WORKLOAD};

/// A server that keeps what it has acknowledged starts again, falls silent, and at last loses everything.
pub(crate) fn outlive() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut site = Site::new(System::Redis(server));
    let mut workers: Vec<Program> = (0..4).map(|number| site.start(&format!("w{number}"), &[])).collect();
    let tasks = counts(2_000);
    let mut pushed = 0;

    for trouble in ["start again", "silence"] {
        site.push((pushed..pushed + tasks).map(|task| format!("t{task} 40")));
        pushed += tasks;
        until("they work", || workers.iter().all(Program::is_busy).then_some(()));
        let System::Redis(server) = &mut site.system else { unreachable!() };
        if trouble == "silence" {
            server.silence(Duration::from_secs(counts(60) as u64));
        } else {
            server.restart();
        }
        work_again(trouble, &site, &mut workers);
        done(&site, pushed);
    }

    site.push((pushed..pushed + tasks).map(|task| format!("t{task} 40")));
    until("they work", || workers.iter().all(Program::is_busy).then_some(()));
    let System::Redis(server) = &site.system else { unreachable!() };
    redis::cmd("FLUSHALL").exec(&mut server.connect().unwrap()).unwrap();
    // Only what was pushed afterwards is owed.
    let first = pushed + tasks;
    site.push((first..first + tasks).map(|task| format!("t{task} 40")));
    work_again("loss", &site, &mut workers);
    until("all that came after the loss is done", || {
        let stories = site.stories();
        let is_done = |task| stories.get(&format!("t{task}")).is_some_and(|story| story.ended > 0);
        (first..first + tasks).all(is_done).then_some(())
    });
    let mut engine = Engine::new(server, WORKLOAD);
    within(Duration::from_secs(10), "all report again", || (engine.reports("idle") == 4).then_some(()));

    for worker in &mut workers {
        assert!(!worker.has_ended(), "{} left, and nobody had asked it to", worker.name);
        worker.signal("TERM");
        assert!(worker.wait().success());
    }
    let twice: usize = site.stories().values().map(|story| story.begun.len() - 1).sum();
    println!("{} tasks, {twice} begun again, {} late acknowledgements", first + tasks, site.late_acks());
    assert!(twice as u64 <= site.late_acks(), "a task that ran twice is known as such");
}

fn work_again(trouble: &str, site: &Site, workers: &mut [Program]) {
    let before: Vec<usize> = workers.iter().map(|worker| worker.lines().len()).collect();
    within(Duration::from_secs(10), &format!("each works again after: {trouble}"), || {
        // One that found nothing left to do has nothing to show.
        let idle = site.left() == (vec![], 0);
        let more = workers.iter().zip(&before).all(|(worker, before)| worker.lines().len() > before + 1);
        (more || idle).then_some(())
    });
}

fn done(site: &Site, tasks: usize) {
    until("everything is done", || (site.left() == (vec![], 0)).then_some(()));
    let stories = site.stories();
    assert_eq!(stories.values().filter(|story| story.ended > 0).count(), tasks, "some are lost");
}
