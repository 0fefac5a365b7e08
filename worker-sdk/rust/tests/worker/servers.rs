//! Tests that need a server of the distribution's packages; `cargo ci` brings it.

mod doubts;
mod login;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qscaler_protocol::name::{WorkerId, WorkloadUid};
use qscaler_worker::{Error, Settings, Task, Worker};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::fixture::{Random, RedisServer, counts, said_seed, testdata, until};
use crate::offers::{Engine, Line, Log};
use crate::sites::{Program, Site, System, WORKLOAD};
use crate::{ends, kills, outages};

fn site() -> Site {
    Site::new(System::Redis(RedisServer::start(&[])))
}

#[test]
fn no_task_is_lost_when_busy_workers_are_killed() {
    kills::kill_busy_workers(&site());
}

#[test]
fn a_worker_that_is_told_to_end_finishes_each_task_or_gives_it_back_once() {
    ends::tell_at_random_moments(&site());
}

#[test]
fn workers_outlive_a_server_that_starts_again_loses_its_data_or_falls_silent() {
    outages::outlive();
}

type Working = JoinHandle<Result<qscaler_worker::Ended, Error>>;

async fn workers(server: &RedisServer, run: usize, done: &Arc<AtomicUsize>) -> Vec<Working> {
    let mut workers = vec![];
    for number in 0..20 {
        let settings = Settings::new(server.url(), [format!("q{run}")])
            .identity(WorkloadUid::new(format!("u{run}")), WorkerId::new(format!("w{run}x{number}")));
        let worker = Worker::connect(settings).await.unwrap();
        let done = Arc::clone(done);
        workers.push(tokio::spawn(worker.run(move |_: Task| {
            let done = Arc::clone(&done);
            async move {
                sleep(Duration::from_millis(20)).await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok::<_, String>(())
            }
        })));
    }
    workers
}

async fn so(what: &str, mut look: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !look() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Two engines show the same offers, each several times and in an order of its own.
async fn project(server: &RedisServer, run: usize, seed: u64) {
    let engine = async |salt: u64| {
        let mut engine = Engine::new(server, &format!("u{run}"));
        let mut random = Random::new(seed + 1_000 * run as u64 + salt);
        for _ in 0..3 {
            let mut offers: Vec<u64> = (1..=13).collect();
            while !offers.is_empty() {
                let place = random.below(offers.len() as u64) as usize;
                let some = (0..=random.below(4)).map(|_| offers[place]).collect::<Vec<_>>();
                offers.swap_remove(place);
                engine.project(&some);
                sleep(random.under(15)).await;
            }
        }
    };
    tokio::join!(engine(1), engine(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_idle_workers_exactly_as_many_leave_as_there_are_offers() {
    let (server, seed) = (RedisServer::start(&[]), said_seed());
    let log = Log::of(&server);
    let mut lines = vec![];
    for run in 0..counts(200) {
        let done = Arc::new(AtomicUsize::new(0));
        let mut working = workers(&server, run, &done).await;
        let mut engine = Engine::new(&server, &format!("u{run}"));
        engine.begin();
        so("all are idle", || engine.reports("idle") == 20).await;
        let mut random = Random::new(seed + run as u64);
        let mut producer = server.connect().unwrap();
        let produce = async {
            for task in 0..10 {
                sleep(random.under(60)).await;
                redis::cmd("LPUSH").arg(format!("q{run}")).arg(task).exec(&mut producer).unwrap();
            }
        };
        tokio::join!(project(&server, run, seed), produce);
        so("all offers are claimed", || engine.offers("claimed:") == 13).await;
        so("all tasks are done", || done.load(Ordering::Relaxed) == 10).await;
        so("thirteen have left", || working.iter().filter(|it| it.is_finished()).count() == 13).await;
        assert_eq!((engine.offers("open"), engine.reports("drained")), (0, 13), "run {run}");
        // The others would leave now if they ever did without an offer; these they take.
        engine.project(&(14..=20).collect::<Vec<_>>());
        let mut claims = BTreeSet::new();
        for worker in working.drain(..) {
            let ended = worker.await.unwrap().unwrap();
            assert_eq!((ended.failed, ended.late_acks), (0, 0));
            claims.insert(ended.claim.unwrap());
        }
        assert_eq!(claims.len(), 20, "run {run}: every worker has an offer of its own");
        lines.extend(log.read(&server));
    }
    judge(&lines);
}

/// No worker fetches after its claim, and a claim comes soon after its offer.
fn judge(lines: &[Line]) {
    let (mut shown, mut claimed, mut waits) = (BTreeMap::new(), BTreeSet::new(), vec![]);
    let mut fetches = 0;
    for line in lines {
        if let Some(offer) = line.shown() {
            shown.entry(offer).or_insert(line.seconds);
        }
        if let Some((worker, offer)) = line.claim() {
            claimed.insert(worker.to_owned());
            waits.push(line.seconds - shown[&offer]);
        }
        if let Some(worker) = line.fetch_by() {
            fetches += 1;
            assert!(!claimed.contains(worker), "{worker} fetches after its claim");
        }
    }
    waits.sort_by(f64::total_cmp);
    let p95 = waits[waits.len() * 95 / 100];
    println!("{} claims, 95% within {p95:.3} s; {fetches} fetches, none after a claim", waits.len());
    assert!(p95 <= 1.0);
}

#[test]
fn of_twenty_worker_processes_exactly_as_many_leave_as_there_are_offers() {
    let site = site();
    let System::Redis(server) = &site.system else { unreachable!() };
    let mut engine = Engine::new(server, WORKLOAD);
    engine.begin();
    let mut workers: Vec<Program> = (0..20).map(|number| site.start(&format!("w{number}"), &[])).collect();
    until("all are idle", || (engine.reports("idle") == 20).then_some(()));
    site.push((0..40).map(|task| format!("t{task} 50")));
    engine.project(&(1..=13).collect::<Vec<_>>());
    until("thirteen have left", || {
        let ended = workers
            .iter_mut()
            .filter(|it| it.lines().last().is_some_and(|it| it.starts_with("left")))
            .count();
        (ended == 13).then_some(())
    });
    until("everything is done", || (site.left() == (vec![], 0)).then_some(()));
    let stay: Vec<_> =
        workers.iter_mut().filter(|it| it.lines().last().unwrap().starts_with("left")).collect();
    assert_eq!(stay.len(), 13);
    for worker in &mut workers {
        if !worker.lines().last().unwrap().starts_with("left") {
            assert!(!worker.has_ended(), "{} left without an offer", worker.name);
            worker.signal("TERM");
        }
        assert!(worker.wait().success());
    }
    assert!(site.stories().values().all(|story| (story.begun.len(), story.ended) == (1, 1)));
}

#[tokio::test]
async fn tls_with_an_own_authority_a_user_and_a_database_work_and_a_stranger_is_refused() {
    let [authority, certificate, key] =
        ["authority.pem", "server.pem", "server.key"].map(|name| testdata(&format!("tls/{name}")));
    let mut arguments = vec![
        "--bind",
        "127.0.0.1",
        "127.0.0.2",
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-auth-clients",
        "no",
    ];
    arguments.extend([
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
    ]);
    arguments.extend(["--tls-ca-cert-file", authority.to_str().unwrap()]);
    let folder = tempfile::tempdir().unwrap();
    let rights = folder.path().join("users");
    let text = "user default off\nuser worker on >secret ~* &* +@all -@admin -@dangerous +info\n";
    std::fs::write(&rights, text).unwrap();
    arguments.extend(["--aclfile", rights.to_str().unwrap()]);
    let server = RedisServer::start_unseen(&arguments);
    let url = format!("rediss://worker:secret@localhost:{}/3", server.port);
    let trusting = |url: &str| Settings::new(url, ["q"]).authorities(&authority);
    let begin = Instant::now();
    let mut tasks = loop {
        assert!(begin.elapsed() < Duration::from_secs(30), "the server does not answer");
        match Worker::connect(trusting(&url)).await {
            Ok(worker) => break worker.tasks(),
            Err(error) => assert!(error.to_string().contains("refused"), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let trusting_url = format!("{url}?ssl_ca_certs={}", authority.display());
    let pushing = qscaler_worker::redis::Server::connect(&trusting_url);
    let push = redis::Cmd::lpush("q", "task");
    assert_eq!(pushing.await.unwrap().ask::<i64>(&push).await.unwrap(), 1);
    assert!(tasks.next_task().await.unwrap().done().await);
    tasks.leave();
    assert_eq!(tasks.ended().await.unwrap().done, 1);

    for (refused, settings) in [
        ("UnknownIssuer", Settings::new(url.as_str(), ["q"])),
        ("AuthenticationFailed", trusting(&url.replace("secret", "other"))),
        ("not valid for name", trusting(&url.replace("localhost", "127.0.0.2"))),
    ] {
        let Err(error) = Worker::connect(settings).await else { panic!("{refused}: it was accepted") };
        let error = error.to_string();
        assert!(error.contains(refused) && !error.contains("other"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_may_drop_keys_is_refused_with_what_to_type() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let Err(error) = Worker::connect(Settings::new(server.url(), ["q"])).await else { panic!("accepted") };
    assert!(error.to_string().contains("set maxmemory-policy noeviction"), "{error}");
}

/// Figures of an idle worker that the documentation names.
#[test]
fn an_idle_worker_asks_its_server_less_than_once_a_second_and_is_small() {
    idle("q");
}

#[test]
fn an_idle_worker_of_several_queues_asks_its_server_less_than_once_a_second_and_is_small() {
    idle("high,normal,low");
}

fn idle(queues: &str) {
    let site = site();
    let System::Redis(server) = &site.system else { unreachable!() };
    let mut worker = site.start("w", &[("DIARIST_LEASE_MS", "30000"), ("QSCALER_QUEUE", queues)]);
    let mut engine = Engine::new(server, WORKLOAD);
    engine.begin();
    until("it is idle", || (engine.reports("idle") == 1).then_some(()));
    let log = Log::of(server);
    std::thread::sleep(Duration::from_secs(10));
    let asked = log.read(server).iter().filter(|line| !line.by_script).count();
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
    println!("{asked} commands in 10 s, {resident} resident");
    let kilobytes: u32 = resident.trim_end_matches(" kB").parse().unwrap();
    assert!(asked <= 10 && kilobytes <= 15 * 1024);
    worker.signal("TERM");
    assert!(worker.wait().success());
}
