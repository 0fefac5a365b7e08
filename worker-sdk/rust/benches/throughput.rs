//! How many tasks that do nothing a worker takes in a second, beside a bare loop around `BRPOP`, which
//! loses what it holds when it dies: `cargo bench --package qscaler-worker` prints both, round by round
//! on one server, and fails when a worker with eight slots is below its goal.
//!
//! With one slot each task costs one round trip in both. What that takes depends on whether the machine's
//! processors fall asleep in between: where they do, the ratio is higher, because the round trip is longer
//! and what a worker does besides, a script instead of a command, weighs less.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../tests/worker/fixture.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod fixture;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fixture::RedisServer;
use qscaler_worker::{Settings, Worker};
use tokio::sync::Notify;

/// Of the bare loop's tasks a second, at least this share.
const GOAL: f64 = 0.7;
const ROUNDS: usize = 7;
const TASKS: usize = 20_000;

fn main() -> ExitCode {
    let server = RedisServer::start(&[]);
    let mut ratios = Vec::new();
    println!("{TASKS} tasks a round; tasks a second");
    println!(
        "{:>6} {:>9} {:>10} {:>9} {:>6} {:>9} {:>6}",
        "round", "bare", "bare async", "1 slot", "ratio", "8 slots", "ratio"
    );
    for round in 1..=ROUNDS {
        let bare = measured(&server, || bare(&server));
        let bare_async = measured(&server, || in_runtime(bare_async(&server)));
        let one = measured(&server, || in_runtime(worker(&server, 1)));
        let eight = measured(&server, || in_runtime(worker(&server, 8)));
        println!(
            "{round:>6} {bare:>9.0} {bare_async:>10.0} {one:>9.0} {:>6.2} {eight:>9.0} {:>6.2}",
            one / bare,
            eight / bare
        );
        ratios.push((one / bare, eight / bare));
    }
    let median = |pick: fn(&(f64, f64)) -> f64| {
        let mut ratios: Vec<f64> = ratios.iter().map(pick).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ROUNDS / 2]
    };
    let (one, eight) = (median(|it| it.0), median(|it| it.1));
    println!("median ratios: one slot {one:.2}, eight slots {eight:.2}; goal {GOAL}");
    if eight >= GOAL { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tasks a second of one round.
fn measured(server: &RedisServer, run: impl FnOnce()) -> f64 {
    let mut connection = server.connect().unwrap();
    let mut pushing = redis::pipe();
    for number in 0..TASKS {
        pushing.lpush("work", format!("{{\"number\":{number}}}")).ignore();
    }
    pushing.exec(&mut connection).unwrap();
    let begin = Instant::now();
    run();
    let seconds = begin.elapsed().as_secs_f64();
    let left: usize = redis::cmd("LLEN").arg("work").query(&mut connection).unwrap();
    assert_eq!(left, 0, "all were taken");
    TASKS as f64 / seconds
}

fn in_runtime(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
}

fn bare(server: &RedisServer) {
    let mut connection = server.connect().unwrap();
    for _ in 0..TASKS {
        let (_, payload): (String, Vec<u8>) =
            redis::cmd("BRPOP").arg("work").arg(5).query(&mut connection).unwrap();
        std::hint::black_box(payload);
    }
}

async fn bare_async(server: &RedisServer) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for _ in 0..TASKS {
        let (_, payload): (String, Vec<u8>) =
            redis::cmd("BRPOP").arg("work").arg(5).query_async(&mut connection).await.unwrap();
        std::hint::black_box(payload);
    }
}

async fn worker(server: &RedisServer, slots: u32) {
    let settings = Settings::new(server.url(), ["work"]).slots(slots);
    let (done, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, told) = (Arc::clone(&done), Arc::clone(&all));
    let worker = Worker::connect(settings).await.unwrap();
    let running = worker.run(move |task| {
        std::hint::black_box(task.payload);
        if count.fetch_add(1, Ordering::Relaxed) + 1 == TASKS {
            told.notify_one();
        }
        async { Ok::<(), Infallible>(()) }
    });
    tokio::select! {
        _ = running => {}
        () = all.notified() => {}
    }
}
