//! Workers that are told to end at any moment finish each task or give it back exactly once.

use std::collections::BTreeSet;

use crate::fixture::{Random, counts, said_seed, until};
use crate::sites::{Site, System};

#[test]
fn a_worker_that_is_told_to_end_finishes_each_task_or_gives_it_back_once() {
    tell_at_random_moments(&Site::new(System::Sqlite));
}

pub(crate) fn tell_at_random_moments(site: &Site) {
    let (times, tasks) = (counts(300), counts(300) * 8);
    let seed = said_seed();
    let mut random = Random::new(seed);
    let length = |random: &mut Random| {
        let longest = if random.below(8) == 0 { 600 } else { 150 };
        10 + random.below(longest)
    };
    site.push((0..tasks).map(|task| format!("t{task} {}", length(&mut random))));
    std::thread::scope(|scope| {
        for lane in 0..4 {
            scope.spawn(move || {
                let mut random = Random::new(seed + lane as u64);
                for turn in (lane..times).step_by(4) {
                    tell_once(site, &format!("w{turn}"), &mut random);
                }
            });
        }
    });
    let (waiting, held) = site.left();
    let stories = site.stories();
    let ended: BTreeSet<_> =
        stories.iter().filter(|(_, story)| story.ended > 0).map(|(task, _)| task.clone()).collect();
    let back: Vec<_> = waiting.iter().map(|task| task.split(' ').next().unwrap().to_owned()).collect();
    let both = back.iter().filter(|task| ended.contains(*task)).count();
    println!(
        "{times} times, {tasks} tasks: {} finished, {} begun and given back",
        ended.len(),
        stories.values().map(|story| story.begun.len() - story.ended).sum::<usize>()
    );
    assert_eq!(held, 0, "nobody is left who could hold one");
    assert!(stories.values().all(|story| story.ended <= 1), "finished twice");
    assert!(stories.values().all(|story| story.begun.iter().all(|attempt| *attempt == 1)), "nobody failed");
    assert_eq!((both, back.len() + ended.len()), (0, tasks));
    assert_eq!(back.iter().collect::<BTreeSet<_>>().len(), back.len(), "given back twice");
    assert_eq!(site.late_acks(), 0);
}

fn tell_once(site: &Site, name: &str, random: &mut Random) {
    // One in four has no time at all.
    let grace = if random.below(4) == 0 { "0" } else { "1" };
    let mut worker = site.start(name, &[("QSCALER_GRACE_SECONDS", grace), ("QSCALER_SLOTS", "2")]);
    until("it has begun", || worker.lines().get(1).cloned());
    std::thread::sleep(random.under(150));
    worker.signal("TERM");
    if random.below(3) == 0 {
        std::thread::sleep(random.under(60));
        if !worker.has_ended() {
            worker.signal(if random.below(2) == 0 { "TERM" } else { "INT" });
        }
    }
    assert!(worker.wait().success(), "{:?}", worker.lines());
    let lines = worker.lines();
    assert!(lines.last().unwrap().starts_with("left 0 "), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == "hook").count(), 1, "{lines:?}");
}
