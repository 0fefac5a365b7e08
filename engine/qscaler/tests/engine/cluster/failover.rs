//! Engines that are killed: another takes over, and no worker notices.

use std::time::Duration;

use super::qworkers::workers_max;
use super::shop::{Shop, staying};
use crate::fixture::Engine;

/// What an engine says when it begins to act.
const LEADS: &str = "this engine acts";

/// Engines of one cluster, each with its name.
struct Engines<'a> {
    shop: &'a Shop,
    running: Vec<(String, Engine)>,
    started: usize,
}

impl Engines<'_> {
    fn start(&mut self) {
        self.started += 1;
        let name = format!("engine-{}", self.started);
        let engine = self.shop.engine(&name);
        self.running.push((name, engine));
    }

    fn leader(&self) -> Option<usize> {
        self.running.iter().position(|(name, _)| self.shop.log(name).contains(LEADS))
    }

    async fn until_one_leads(&self) {
        self.shop.until("an engine leads", async |_| self.leader().is_some()).await;
    }
}

#[tokio::test]
async fn engines_are_killed_and_no_task_is_interrupted_or_lost() {
    let shop = Shop::open().await;
    let mut engines = Engines { shop: &shop, running: vec![], started: 0 };
    engines.start();
    engines.start();
    engines.until_one_leads().await;
    let max = workers_max() as usize;
    shop.create("mail", workers_max(), |_| ()).await;
    let kills = if std::env::var_os("QSCALER_FULL").is_some() { 9 } else { 2 };
    let mut pushed = 0;
    for _ in 0..kills {
        // Some are to come and some to go while nobody leads.
        shop.push("mail", 2 * max, 1_000..6_000);
        pushed += 2 * max;
        shop.until("tasks are worked on", async |shop| shop.busy() > 0).await;
        tokio::time::sleep(Duration::from_millis(500 + 97 * pushed as u64 % 2_000)).await;
        let leader = engines.leader().unwrap();
        engines.running.remove(leader).1.kill();
        engines.start();
        engines.until_one_leads().await;
        assert!(staying(&shop.pods().await).len() <= max);
    }
    shop.until("all is done", async |shop| {
        assert!(shop.pods().await.len() <= max + max);
        shop.lived().values().map(|task| task.ended as usize).sum::<usize>() == pushed
    })
    .await;
    shop.every_task_was_done_once(pushed);
    shop.until("the pods are gone", async |shop| shop.pods().await.is_empty()).await;
    let leader = engines.leader().unwrap();
    let (_, last) = engines.running.remove(leader);
    drop(engines);
    shop.close(last).await;
}
