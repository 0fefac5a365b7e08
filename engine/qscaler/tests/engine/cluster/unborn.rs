//! Workers that never came up: when fewer are wanted they go, and those that work are not asked.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::shop::{Shop, staying};

/// How many workers of each kind.
struct Counts {
    /// They end as soon as they are started: the first names.
    failing: usize,
    /// They work: the names after.
    working: usize,
    /// For them no node has room: the last names.
    waiting: usize,
}

impl Counts {
    fn here() -> Self {
        if std::env::var_os("QSCALER_FULL").is_some() {
            Self { failing: 3, working: 9, waiting: 8 }
        } else {
            Self { failing: 1, working: 4, waiting: 3 }
        }
    }

    fn all(&self) -> usize {
        self.failing + self.working + self.waiting
    }

    /// Names of those that work.
    fn names(&self) -> impl Iterator<Item = String> {
        (self.failing + 1..=self.failing + self.working).map(|number| format!("mail-{number}"))
    }
}

/// A resource of the node, of which it has so much as there is to be room for workers.
pub(super) struct Room {
    nodes: Api<Node>,
    node: String,
    resource: String,
}

impl Room {
    pub(super) async fn make(shop: &Shop, workers: usize) -> Self {
        let nodes: Api<Node> = Api::all(shop.cluster.client.clone());
        let node = nodes.list(&ListParams::default()).await.unwrap().items[0].name_any();
        let room = Self { nodes, node, resource: format!("qscaler.dev/{}", shop.cluster.namespace) };
        room.set(json!(workers.to_string())).await;
        room
    }

    /// Has a container need the room for one worker.
    pub(super) fn ask_for_one(&self, container: &mut Value) {
        for amount in ["requests", "limits"] {
            container["resources"][amount][&self.resource] = json!("1");
        }
    }

    pub(super) async fn set(&self, amount: Value) {
        let has = json!({self.resource.clone(): amount});
        let status = json!({"status": {"capacity": has, "allocatable": has}});
        self.nodes.patch_status(&self.node, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Its process has ended, and was started again in vain.
fn is_failing(pod: &Pod) -> bool {
    container(pod).is_some_and(|it| it.restart_count > 0 && !it.ready)
}

fn is_without_room(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|it| it.type_ == "PodScheduled" && it.reason.as_deref() == Some("Unschedulable"))
    })
}

/// Pods of those that work, each with its uid and how often it was restarted.
async fn working(shop: &Shop, counts: &Counts) -> BTreeSet<(String, Option<String>, i32)> {
    let names: BTreeSet<_> = counts.names().collect();
    let pods = shop.pods().await;
    let of_them = pods.iter().filter(|pod| names.contains(&pod.name_any()));
    of_them.map(|pod| (pod.name_any(), pod.uid(), container(pod).map_or(0, |it| it.restart_count))).collect()
}

fn bounds(workers: usize) -> Value {
    json!({"spec": {"scaleConfig": {"minReplicas": workers, "maxReplicas": workers}}})
}

#[tokio::test]
async fn who_never_came_up_goes_and_who_works_is_not_asked() {
    let shop = Shop::open().await;
    let engine = shop.engine("engine");
    let counts = Counts::here();
    let room = Room::make(&shop, counts.failing + counts.working).await;
    // A worker without a folder for its diary ends at once.
    counts.names().for_each(|name| fs::create_dir(shop.diary().join(name)).unwrap());
    shop.create("mail", (counts.failing + counts.working) as u32, |it| {
        it["spec"]["scaleConfig"]["minReplicas"] = it["spec"]["scaleConfig"]["maxReplicas"].clone();
        let container = &mut it["spec"]["podSpec"]["containers"][0];
        container["volumeMounts"] = json!([{"name": "diary", "mountPath": "/diary"}]);
        container["env"] = json!([
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "DIARIST_LEASE_MS", "value": "10000"},
            {"name": "DIARIST_FOLDER", "value": "/diary/$(NAME)"},
        ]);
        room.ask_for_one(container);
    })
    .await;
    shop.until("some run and some cannot", async |shop| {
        let failing = shop.pods().await.iter().filter(|pod| is_failing(pod)).count();
        (shop.begun().len(), failing) == (counts.working, counts.failing)
    })
    .await;
    shop.change("mail", bounds(counts.all())).await;
    shop.until("for some there is no room", async |shop| {
        let pods = shop.pods().await;
        pods.iter().filter(|pod| is_without_room(pod)).count() == counts.waiting
    })
    .await;
    let tasks = 3 * counts.working;
    shop.push("mail", tasks, 2_000..4_000);
    shop.until("all that can work do", async |shop| shop.busy() == counts.working).await;
    let before = working(&shop, &counts).await;
    assert_eq!(staying(&shop.pods().await).len(), counts.all());

    shop.change("mail", bounds(counts.working)).await;
    shop.until("the others are gone", async |shop| shop.pods().await.len() == counts.working).await;
    shop.until("the tasks are done", async |shop| shop.ended() == tasks).await;
    shop.every_task_was_done_once(tasks);
    assert_eq!(working(&shop, &counts).await, before, "the same pods, none restarted");
    assert_eq!(shop.offers("mail").await, Vec::<String>::new());
    assert!(shop.claimed("mail").await.is_empty());
    let ledger = shop.qworker("mail").await.status.unwrap().ledger.unwrap();
    assert_eq!((&ledger["offers"], &ledger["next"]), (&json!({}), &json!(1)), "no offer was ever granted");
    shop.close(engine).await;
    room.set(Value::Null).await;
}
