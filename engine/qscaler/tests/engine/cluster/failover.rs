//! Engines that are killed: another takes over, and no worker notices.

use std::path::PathBuf;
use std::time::Duration;

use super::qworkers::workers_max;
use super::shop::{MadeBy, Shop};
use crate::fixture::Engine;

/// What an engine says when it begins to act.
const LEADS: &str = "this engine acts";

/// Engines of one cluster, each with its name.
pub(super) struct Engines<'a> {
    shop: &'a Shop,
    /// How they reach it.
    kubeconfig: PathBuf,
    running: Vec<(String, Engine)>,
    started: usize,
}

impl<'a> Engines<'a> {
    /// Two, of which one leads.
    pub(super) async fn start(shop: &'a Shop, kubeconfig: PathBuf) -> Self {
        let mut engines = Self { shop, kubeconfig, running: vec![], started: 0 };
        engines.start_one();
        engines.start_one();
        engines.until_one_leads().await;
        engines
    }

    fn start_one(&mut self) {
        self.started += 1;
        let name = format!("engine-{}", self.started);
        let engine = self.shop.engine_by(&name, &self.kubeconfig);
        self.running.push((name, engine));
    }

    fn leader(&self) -> Option<usize> {
        self.running.iter().position(|(name, _)| self.shop.log(name).contains(LEADS))
    }

    async fn until_one_leads(&mut self) {
        let shop = self.shop;
        shop.until("an engine leads", async |_| self.do_lead()).await;
    }

    /// Whether one leads. Where one has ended by itself, another one is started, as a Deployment would.
    pub(super) fn do_lead(&mut self) -> bool {
        let before = self.running.len();
        self.running.retain_mut(|(_, engine)| engine.child.try_wait().unwrap().is_none());
        (self.running.len()..before).for_each(|_| self.start_one());
        self.leader().is_some()
    }

    /// Kills the one that leads; another one is started for it.
    pub(super) fn kill_leader(&mut self) {
        let leader = self.leader().unwrap();
        self.running.remove(leader).1.kill();
        self.start_one();
    }

    /// How many were started.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// The one that leads; the others are ended.
    pub(super) fn last(mut self) -> Engine {
        let leader = self.leader().unwrap();
        self.running.remove(leader).1
    }
}

#[tokio::test]
async fn engines_are_killed_and_no_task_is_interrupted_or_lost() {
    are_killed(MadeBy::QWorker).await;
}

#[tokio::test]
async fn engines_that_scale_a_deployment_are_killed_and_no_task_is_interrupted_or_lost() {
    are_killed(MadeBy::Deployment).await;
}

async fn are_killed(by: MadeBy) {
    let shop = Shop::open().await;
    let mut engines = Engines::start(&shop, shop.kubeconfig()).await;
    let max = workers_max() as usize;
    shop.create_mail(by, workers_max()).await;
    let kills = if std::env::var_os("QSCALER_FULL").is_some() { 9 } else { 2 };
    let mut pushed = 0;
    for _ in 0..kills {
        // Some are to come and some to go while nobody leads.
        shop.push("mail", 2 * max, 1_000..6_000);
        pushed += 2 * max;
        shop.until("tasks are worked on", async |shop| shop.busy() > 0).await;
        tokio::time::sleep(Duration::from_millis(500 + 97 * pushed as u64 % 2_000)).await;
        engines.kill_leader();
        engines.until_one_leads().await;
        let there = shop.unclaimed().await;
        assert!(there.len() <= max, "{there:?}");
        // A worker of a QWorker that has left ends, and may be started again before it is deleted.
        assert!(by == MadeBy::QWorker || shop.restarts().await == 0);
    }
    shop.until("all is done", async |shop| {
        assert!(shop.pods().await.len() <= max + max);
        shop.lived().values().map(|task| task.ended as usize).sum::<usize>() == pushed
    })
    .await;
    shop.every_task_was_done_once(pushed);
    assert_eq!(shop.interrupted("mail"), 0);
    shop.until("the pods are gone", async |shop| shop.pods().await.is_empty()).await;
    let last = engines.last();
    shop.close_workloads(last).await;
}
