//! Many QWorkers: one that hangs and one that cannot be looked after keep nobody from being looked after.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use serde_json::json;

use super::shop::{Shop, ready};

/// So many more decisions of those that are well are a window. One takes half a second where nothing is slow.
const WINDOW: u64 = 16;

/// Decisions of one window, by QWorker.
struct Window {
    decisions: BTreeMap<String, u64>,
    took: Duration,
}

impl Window {
    /// Lasts until half of the QWorkers whose names begin with `mail-` have decided so often.
    async fn of(shop: &Shop) -> Self {
        let (begin, before) = (Instant::now(), decisions(shop));
        loop {
            let mut now = decisions(shop);
            for (name, count) in &mut now {
                *count -= before.get(name).unwrap_or(&0);
            }
            let window = Self { decisions: now, took: begin.elapsed() };
            let mut well: Vec<_> = window.well().collect();
            well.sort_unstable();
            if well[well.len() / 2] >= WINDOW {
                return window;
            }
            assert!(begin.elapsed() < Duration::from_secs(90), "{:?}\n{}", well, shop.log("engine"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn well(&self) -> impl Iterator<Item = u64> {
        self.decisions.iter().filter(|(name, _)| name.starts_with("mail-")).map(|(_, count)| *count)
    }

    fn least(&self) -> u64 {
        self.well().min().unwrap()
    }
}

fn decisions(shop: &Shop) -> BTreeMap<String, u64> {
    shop.counted("engine", "qscaler_decisions_total")
}

#[tokio::test]
async fn one_that_hangs_and_one_without_its_scaler_config_do_not_hold_up_the_others() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let well = if std::env::var_os("QSCALER_FULL").is_some() { 48 } else { 8 };
    for number in 1..=well {
        shop.create(&format!("mail-{number}"), 1, |_| ()).await;
    }
    shop.until("all are decided", async |shop| decisions(shop).len() == well).await;
    let before = Window::of(&shop).await;

    // The system takes the connection, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    shop.create_config_with("silent", |config| config["port"] = json!(port)).await;
    for (name, config) in [("lost", "elsewhere"), ("hangs", "silent")] {
        shop.create(name, 1, |it| it["spec"]["scaleConfig"]["scalerConfigRef"] = json!(config)).await;
    }
    for (name, told) in [("lost", "elsewhere"), ("hangs", "no answer within")] {
        shop.until("both say what is wrong", async |shop| {
            ready(&shop.qworker(name).await)
                .is_some_and(|(holds, _, message)| holds == "False" && message.contains(told))
        })
        .await;
    }
    let during = Window::of(&shop).await;
    println!(
        "least of a window: {} in {:?} before, {} in {:?} while two are broken, {:?} of the one that hangs",
        before.least(),
        before.took,
        during.least(),
        during.took,
        during.decisions.get("hangs"),
    );
    // In the gate other tests come and go meanwhile, and both windows are as long as those let them be.
    if std::env::var_os("QSCALER_FULL").is_some() {
        assert!(during.took < 3 * before.took, "{:?} after {:?}", during.took, before.took);
    }
    assert!(during.least() >= WINDOW / 2, "{:?}", during.decisions);
    // Whoever waited for the one that hangs would decide as seldom.
    let hanging = during.decisions.get("hangs").copied().unwrap_or_default();
    assert!(2 * hanging <= during.least(), "{:?}", during.decisions);
    assert_eq!(during.decisions.get("lost"), None, "{:?}", during.decisions);
    // Whoever gives up may delete it: it never had a worker to wait for.
    shop.qworkers().delete("lost", &DeleteParams::default()).await.unwrap();
    shop.until("it is gone", async |shop| shop.qworkers().get_opt("lost").await.unwrap().is_none()).await;
    shop.push("mail-1", 1, 100..200);
    shop.until("a task is done", async |shop| shop.ended() == 1).await;
    shop.close(engine).await;
}
