//! What the engine is to look after on a cluster: its QWorkers with their ScalerConfigs, and its Workloads,
//! watched.

mod finalizer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use qscaler_core::catalog::{Assignment, Catalog};
use qscaler_core::document::workload::Mode as Consent;
use qscaler_core::workload::{Made, Workload};

use super::api::{self, QWorker, ScalerConfig};
use super::objects::{Kind, Object, Objects};
use super::pods::{OWNER_LABEL, announced_hash, is_labelled};
use super::status::Reporter;
use super::translate::{Unfit, of_target, workload};
use crate::engine::Mode;
use crate::ports::{Asked, PortError};

/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Everything is looked at this often without any change: what failed is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What the watches tell.
#[derive(Clone)]
pub struct Stores {
    /// QWorkers.
    pub qworkers: Store<QWorker>,
    /// Workloads.
    pub workloads: Store<api::Workload>,
    /// ScalerConfigs.
    pub configs: Store<ScalerConfig>,
    /// The pods that QWorkers own.
    pub pods: Store<Pod>,
}

/// The objects of a cluster that say what to look after.
pub struct Watched {
    client: Client,
    objects: Objects,
    stores: Stores,
    stir: Arc<Notify>,
    /// What each object said when it could be read last.
    good: Mutex<BTreeMap<String, Arc<Workload>>>,
}

/// An object as it was read.
struct Item {
    metadata: ObjectMeta,
    object: Object,
    /// What it says, or what it said before something went wrong with it.
    workload: Option<Arc<Workload>>,
    unfit: Option<Unfit>,
}

impl Item {
    /// Whether deleting the object must wait until what the engine has done is undone.
    fn must_be_held(&self) -> bool {
        self.workload.as_ref().is_some_and(|it| it.mode == Consent::Act)
    }
}

impl Watched {
    /// Watches all namespaces, or one. Ready when everything was read once.
    pub async fn start(client: Client, namespace: Option<&str>, objects: Objects) -> Asked<Self> {
        let stir = Arc::new(Notify::new());
        let stores = Stores {
            qworkers: watch(api_in(&client, namespace), "", Some(&stir)),
            workloads: watch(api_in(&client, namespace), "", Some(&stir)),
            configs: watch(api_in(&client, namespace), "", Some(&stir)),
            pods: watch(api_in(&client, namespace), OWNER_LABEL, None),
        };
        let gone = |error: reflector::store::WriterDropped| PortError::new("watch the cluster", error);
        stores.qworkers.wait_until_ready().await.map_err(gone)?;
        stores.workloads.wait_until_ready().await.map_err(gone)?;
        stores.configs.wait_until_ready().await.map_err(gone)?;
        stores.pods.wait_until_ready().await.map_err(gone)?;
        Ok(Self { client, objects, stores, stir, good: Mutex::default() })
    }

    /// What the watches tell.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }

    /// Waits until something has changed, or it is time to look again.
    pub async fn changed(&self) {
        let again = Instant::now() + AGAIN;
        if timeout_at(again, self.stir.notified()).await.is_ok() {
            sleep(TOGETHER).await;
        }
    }

    /// Everything that is to be looked after now, and how.
    pub async fn assignments(&self, catalog: &Catalog, reporter: &Reporter) -> Vec<(Assignment, Mode)> {
        let items = self.items();
        let keys: BTreeSet<_> = items.iter().map(|item| item.object.key()).collect();
        let uids: BTreeSet<_> = items.iter().map(|item| &item.object.uid).collect();
        reporter.keep_only(|key| keys.contains(key));
        self.lock_good().retain(|uid, _| uids.contains(uid));
        let mut assignments = vec![];
        for item in &items {
            let key = item.object.key();
            self.objects.note(item.object.clone());
            let mut unfit = item.unfit.clone();
            let mode = match self.mode(&item.metadata, &item.object, item.must_be_held()).await {
                Ok(mode) => mode,
                Err(error) => {
                    unfit = unfit.or_else(|| Some(Unfit::new("CannotAct", error.to_string())));
                    None
                }
            };
            if mode == Some(Mode::Drain) && item.workload.is_none() && self.is_at_rest(&item.object) {
                // It cannot be read, and nobody has to be waited for.
                if let Err(error) = self.let_go(&key).await {
                    unfit = unfit.or_else(|| Some(Unfit::new("CannotAct", error.to_string())));
                }
            }
            if let (Some(workload), Some(mode)) = (&item.workload, mode) {
                let kind = item.object.reference().kind.unwrap_or_default();
                let assignment = catalog.assign_found(&format!("{kind} {key}"), workload);
                unfit = unfit.or_else(|| no_policy(&assignment));
                assignments.push((assignment, mode));
            }
            let hash = self.announced_hash(item);
            reporter.judge(&key, item.metadata.generation, hash.as_deref(), unfit.as_ref());
        }
        assignments
    }

    /// What the status of a QWorker says its pods are made of; nothing new before all of them are known, or
    /// workers of the first SDK would leave.
    fn announced_hash(&self, item: &Item) -> Option<String> {
        let hash = item.workload.as_ref()?.target.made.hash()?;
        if !self.objects.is_adopted(&item.object) {
            return None;
        }
        let pods = self.stores.pods.state_filter(|pod| is_labelled(pod, &item.object));
        Some(announced_hash(&pods, hash).to_owned())
    }

    /// Whether an object has no workers of its own, and nobody who has left what it scales.
    fn is_at_rest(&self, object: &Object) -> bool {
        let is_it = |metadata: &ObjectMeta| metadata.uid.as_ref() == Some(&object.uid);
        match object.kind {
            Kind::QWorker => self.stores.pods.find(|pod| is_labelled(pod, object)).is_none(),
            Kind::Workload { .. } => {
                let workload = self.stores.workloads.find(|it| is_it(&it.metadata));
                let ledger = workload.and_then(|it| it.status.as_ref()?.ledger.clone());
                ledger.is_none_or(|it| it["offers"].as_object().is_none_or(serde_json::Map::is_empty))
            }
        }
    }

    fn items(&self) -> Vec<Item> {
        let qworkers = self.stores.qworkers.state();
        let mut items: Vec<_> = qworkers.iter().filter_map(|it| self.of_qworker(it)).collect();
        let names: BTreeSet<_> = items.iter().map(|item| item.object.key()).collect();
        let mut workloads = self.stores.workloads.state();
        // The older of two has what both want; of one second, the first by name.
        workloads.sort_by_key(|it| (it.metadata.creation_timestamp.clone(), it.metadata.name.clone()));
        let mut targets = BTreeMap::new();
        for it in workloads {
            let Some(mut item) = self.of_workload(&it) else { continue };
            if names.contains(&item.object.key()) {
                // One key, one keeper: it cannot even be told of beside the other.
                tracing::warn!(workload = item.object.key(), "a QWorker has this name: rename the Workload");
                continue;
            }
            let target = item.workload.as_ref().map(|it| (it.namespace.clone(), it.target.made.clone()));
            if let Some((namespace, Made::Replica(target))) = target {
                let name = item.object.name.clone();
                let owner = targets.entry((namespace, target)).or_insert_with(|| name.clone());
                if *owner != name {
                    let message =
                        format!("the Workload `{owner}` scales the same target: delete one of the two");
                    item.unfit = Some(Unfit::new("Conflict", message));
                    item.workload = None;
                }
            }
            items.push(item);
        }
        items
    }

    fn of_qworker(&self, qworker: &QWorker) -> Option<Item> {
        let object = Object::of(Kind::QWorker, &qworker.metadata)?;
        let config = |name: &str| {
            let reference = reflector::ObjectRef::new(name).within(&object.namespace);
            self.stores.configs.get(&reference).map(|config| ScalerConfig::clone(&config))
        };
        let (workload, unfit) = self.read(&object, workload(qworker, config));
        Some(Item { metadata: qworker.metadata.clone(), object, workload, unfit })
    }

    fn of_workload(&self, it: &api::Workload) -> Option<Item> {
        let object = Object::of(Kind::Workload { target: None }, &it.metadata)?;
        let (workload, unfit) = self.read(&object, of_target(it));
        let target = workload.as_ref().and_then(|workload| match &workload.target.made {
            Made::Replica(target) => Some(target.clone()),
            Made::Process(_) | Made::Pod(_) => None,
        });
        let object = Object { kind: Kind::Workload { target }, ..object };
        Some(Item { metadata: it.metadata.clone(), object, workload, unfit })
    }

    /// What an object says, or what it said before something went wrong with it, and what that is.
    fn read(&self, object: &Object, read: Result<Workload, Unfit>) -> (Option<Arc<Workload>>, Option<Unfit>) {
        let mut good = self.lock_good();
        match read {
            Ok(workload) => {
                let workload = Arc::new(workload);
                good.insert(object.uid.clone(), Arc::clone(&workload));
                (Some(workload), None)
            }
            Err(unfit) => (good.get(&object.uid).cloned(), Some(unfit)),
        }
    }

    fn lock_good(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Workload>>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a workload has no policy, if it has none.
fn no_policy(assignment: &Assignment) -> Option<Unfit> {
    let problem = assignment.problems.first().filter(|_| assignment.policy.is_none())?;
    let help = problem.help.as_ref().map(|help| format!(": {help}")).unwrap_or_default();
    Some(Unfit::new("NoRule", format!("{}{help}", problem.message)))
}

fn api_in<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches the objects of a kind that have this label, as long as the program runs.
fn watch<K>(api: Api<K>, label: &str, stir: Option<&Arc<Notify>>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let events = watcher(api, watcher::Config::default().labels(label)).default_backoff().reflect(writer);
    let stir = stir.cloned();
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => stir.iter().for_each(|stir| stir.notify_one()),
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "the watch is begun again"),
            }
        }
    });
    reader
}
