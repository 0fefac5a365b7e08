//! Hot reload of an engine that runs: what it takes over, what it keeps, and how it says so.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Engine, PROGRAM, Site, until};
use crate::watch::{LONG_PAUSE, Mount, SEEN_MAX};

/// A rule of this name that wants so many workers.
fn rule(name: &str, workers: u32) -> String {
    format!(
        "apiVersion: qscaler.dev/v1alpha1
kind: ScalingRule
metadata: {{name: {name}}}
spec:
  replicas: {{desired: {workers}, max: 50}}
  behavior: {{scaleDown: {{stabilizationWindow: 0s}}}}
"
    )
}

/// A workload that is only looked at.
fn workload(name: &str, rule: &str) -> String {
    format!(
        "apiVersion: qscaler.dev/v1alpha1
kind: Workload
metadata: {{name: {name}}}
spec:
  target: {{command: [sleep, '1000']}}
  source: {{type: sqlite, url: 'sqlite:@queue'}}
  queues: [{{name: {name}}}]
  rule: {rule}
  mode: observe
"
    )
}

/// A site with the workloads `mail` and `news`, each with a rule of its name in a file of its own.
fn observed_site() -> (Site, Engine) {
    let site = Site::new();
    for name in ["mail", "news"] {
        site.write(&format!("rules/{name}.yaml"), &rule(name, 1));
        let queue = site.path("queue.db").display().to_string();
        site.write(&format!("workloads/{name}.yaml"), &workload(name, name).replace("@queue", &queue));
    }
    let engine = site.start_engine_with(&["--listen", "127.0.0.1:0"]);
    wait_for_desired(&site, "mail", 1);
    wait_for_desired(&site, "news", 1);
    (site, engine)
}

fn wait_for_desired(site: &Site, workload: &str, workers: u32) {
    let name = format!("qscaler_workers_desired{{workload=\"default/{workload}\"}}");
    site.wait_for_metric(&name, f64::from(workers));
}

/// Decisions of `news` that its rule has settled.
fn decisions(site: &Site) -> f64 {
    let name = "qscaler_decisions_total{workload=\"default/news\",because=\"target\"}";
    site.metric(name).unwrap_or(0.0)
}

/// How `qscaler check` of the site's files ends.
fn check(site: &Site) -> Option<i32> {
    let mut command = Command::new(PROGRAM);
    command.arg("check").arg(site.path("rules")).arg(site.path("workloads"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}

/// A way of saving the rule `mail`.
type Way<'a> = (&'a str, fn(&Site, &str));

#[test]
fn an_engine_that_runs_follows_every_way_of_saving() {
    let (site, engine) = observed_site();
    let ways: [Way; 3] = [
        ("write and rename", |site, text| {
            site.write("rules/.mail.yaml.swp", text);
            fs::rename(site.path("rules/.mail.yaml.swp"), site.path("rules/mail.yaml")).unwrap();
        }),
        ("truncate and write in place", |site, text| site.write("rules/mail.yaml", text)),
        ("rename of the rule's file", |site, text| {
            site.write("rules/mail.off", text);
            fs::remove_file(site.path("rules/mail.yaml")).unwrap();
            fs::rename(site.path("rules/mail.off"), site.path("rules/letters.yaml")).unwrap();
        }),
    ];
    for (place, (what, write)) in (2_u32..).zip(ways) {
        let begin = Instant::now();
        write(&site, &rule("mail", place));
        wait_for_desired(&site, "mail", place);
        println!("{what}: decided anew after {} ms", begin.elapsed().as_millis());
        assert!(begin.elapsed() < SEEN_MAX, "{what}: only seen when nobody had told");
    }
    // The folder becomes the mount of a ConfigMap, which is then swapped.
    fs::remove_dir_all(site.path("rules")).unwrap();
    fs::create_dir(site.path("rules")).unwrap();
    let mount = Mount { folder: site.path("rules") };
    mount.fill(&[("mail.yaml", &rule("mail", 7)), ("news.yaml", &rule("news", 8))]);
    wait_for_desired(&site, "mail", 7);
    let begin = Instant::now();
    mount.swap("..v2", &[("mail.yaml", &rule("mail", 9)), ("news.yaml", &rule("news", 10))]);
    wait_for_desired(&site, "mail", 9);
    println!("swap of a ConfigMap: decided anew after {} ms", begin.elapsed().as_millis());
    assert!(begin.elapsed() < SEEN_MAX, "only seen when nobody had told");
    wait_for_desired(&site, "news", 10);
    engine.stop();
}

#[test]
fn a_bad_file_keeps_its_rules_while_others_change_and_log_metric_and_check_say_so() {
    let (site, engine) = observed_site();
    assert_eq!(check(&site), Some(0));
    site.write("rules/mail.yaml", &rule("mail", 5).replace(", max: 50", ""));
    site.write("rules/news.yaml", &rule("news", 6));
    wait_for_desired(&site, "news", 6);
    wait_for_desired(&site, "mail", 1);
    site.wait_for_metric("qscaler_file_errors", 1.0);
    site.wait_for_metric("qscaler_files_kept", 1.0);
    site.wait_for_metric("qscaler_rules", 2.0);
    let kept = format!("kept=[\"{}\"]", site.path("rules/mail.yaml").display());
    for part in ["error[Q105]: the field `max` is missing", "bad files keep what they said before", &kept] {
        assert!(site.log().contains(part), "{part}: {}", site.log());
    }
    assert_eq!(check(&site), Some(1));

    // The file goes through another bad state before it is mended; then its new text holds.
    site.write("rules/mail.yaml", "kind: [");
    site.wait_for_metric("qscaler_file_errors", 1.0);
    site.write("rules/mail.yaml", &rule("mail", 7));
    wait_for_desired(&site, "mail", 7);
    site.wait_for_metric("qscaler_file_errors", 0.0);
    site.wait_for_metric("qscaler_files_kept", 0.0);
    assert_eq!(check(&site), Some(0));
    engine.stop();
}

#[test]
fn files_that_contradict_each_other_are_refused_whole() {
    let (site, engine) = observed_site();
    // A second rule of one name; what else has changed at the same time does not hold either.
    fs::rename(site.path("rules"), site.path("before")).unwrap();
    fs::create_dir(site.path("next")).unwrap();
    for (file, text) in [("mail", rule("mail", 5)), ("news", rule("news", 6)), ("twin", rule("mail", 7))] {
        site.write(&format!("next/{file}.yaml"), &text);
    }
    fs::rename(site.path("next"), site.path("rules")).unwrap();
    site.wait_for_metric("qscaler_files_refused", 1.0);
    assert!(site.log().contains("error[Q303]: the rule `mail` is also in"), "{}", site.log());
    assert!(site.log().contains("refused: the files contradict each other"), "{}", site.log());
    let before = decisions(&site);
    until("it goes on deciding", || (decisions(&site) >= before + 3.0).then_some(()));
    wait_for_desired(&site, "mail", 1);
    wait_for_desired(&site, "news", 1);
    assert_eq!(check(&site), Some(1));
    fs::remove_file(site.path("rules/twin.yaml")).unwrap();
    wait_for_desired(&site, "mail", 5);
    wait_for_desired(&site, "news", 6);
    site.wait_for_metric("qscaler_files_refused", 0.0);
    engine.stop();
}

#[test]
fn an_engine_runs_no_half_of_a_file_however_long_the_writer_pauses() {
    let (site, engine) = observed_site();
    for (round, pause) in [Duration::from_millis(80), LONG_PAUSE].into_iter().enumerate() {
        // The half would be a good rule, too.
        let mut file = File::create(site.path("rules/mail.yaml")).unwrap();
        file.write_all(rule("mail", 40).as_bytes()).unwrap();
        std::thread::sleep(pause);
        let last = 2 + round as u32;
        file.write_all(format!("# {}\n---\n{}", "rest ".repeat(20), rule("letters", last)).as_bytes())
            .unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(rule("mail", last).replace("desired: ", "desired:  ").as_bytes()).unwrap();
        drop(file);
        wait_for_desired(&site, "mail", last);
    }
    let wrong: u32 = site
        .state()
        .unwrap()
        .query_row("SELECT COUNT(*) FROM records WHERE line LIKE '%\"replicas\":40%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(wrong, 0, "{}", site.log());
    engine.stop();
}

/// The last recorded decision of `mail`.
fn latest(site: &Site) -> Option<Value> {
    let mut command = Command::new(PROGRAM);
    command.args(["explain", "mail", "--format", "json", "--state"]).arg(site.path("state"));
    serde_json::from_slice(&command.output().unwrap().stdout).ok()
}

#[test]
fn a_rule_that_is_edited_finds_its_windows_again_and_another_window_begins_anew() {
    let (site, engine) = observed_site();
    let with = |window: &str, max: u32| {
        rule("mail", 0)
            .replace("desired: 0", &format!("desired: \"{window}\""))
            .replace("50", &max.to_string())
    };
    let (kept, fresh) = ("max_over_time(queue.length, '10m')", "max_over_time(queue.length, '11m')");
    let queue = rusqlite::Connection::open(site.path("queue.db")).unwrap();
    queue.busy_timeout(Duration::from_secs(5)).unwrap();
    for task in 0..5 {
        queue.execute("INSERT INTO qscaler_tasks (queue, payload) VALUES ('mail', ?1)", [task]).unwrap();
    }
    site.write("rules/mail.yaml", &with(kept, 50));
    wait_for_desired(&site, "mail", 5);
    let before = latest(&site).unwrap();
    assert_eq!(before["question"]["windows"].as_object().unwrap().len(), 1);

    // Nothing waits any more; only the window still knows of the five.
    queue.execute("DELETE FROM qscaler_tasks", []).unwrap();
    site.write("rules/mail.yaml", &with(&format!("{kept} + 2 * {fresh}"), 40));
    let after = until("the edited rule decides", || {
        latest(&site).filter(|line| line["ruleHash"] != before["ruleHash"])
    });
    let windows: Vec<_> = after["question"]["windows"].as_object().unwrap().values().cloned().collect();
    assert_eq!(windows, [json!(5.0), json!(0.0)], "{after}");
    assert_eq!(after["decision"]["replicas"], 5);
    // Another file's change does not touch them at all.
    site.write("rules/news.yaml", &rule("news", 3));
    wait_for_desired(&site, "news", 3);
    wait_for_desired(&site, "mail", 5);
    engine.stop();
}
