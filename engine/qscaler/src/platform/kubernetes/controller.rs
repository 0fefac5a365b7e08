//! What the engine is to look after on a cluster: its QWorkers and ScalerConfigs, watched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use qscaler_core::catalog::{Assignment, Catalog};
use qscaler_core::workload::{Made, Workload};
use qscaler_protocol::name::WorkloadUid;

use super::api::{QWorker, ScalerConfig};
use super::failed;
use super::objects::{Object, Objects};
use super::pods::OWNER_LABEL;
use super::status::Reporter;
use super::translate::{Unfit, workload};
use crate::engine::Mode;
use crate::ports::{Asked, PortError};

/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Everything is looked at this often without any change: what failed is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// While a QWorker has it, deleting it lets its workers finish first.
const FINALIZER: &str = "quickube.com/drain";

/// The objects of a cluster that say what to look after.
pub struct Watched {
    client: Client,
    objects: Objects,
    qworkers: Store<QWorker>,
    configs: Store<ScalerConfig>,
    pods: Store<Pod>,
    stir: Arc<Notify>,
    /// What each QWorker said when it could be read last.
    good: Mutex<BTreeMap<WorkloadUid, Arc<Workload>>>,
}

impl Watched {
    /// Watches all namespaces, or one. Ready when everything was read once.
    pub async fn start(client: Client, namespace: Option<&str>, objects: Objects) -> Asked<Self> {
        let stir = Arc::new(Notify::new());
        let qworkers = watch(api_in(&client, namespace), "", Some(&stir));
        let configs = watch(api_in(&client, namespace), "", Some(&stir));
        let pods = watch(api_in(&client, namespace), OWNER_LABEL, None);
        let gone = |error: reflector::store::WriterDropped| PortError::new("watch the cluster", error);
        qworkers.wait_until_ready().await.map_err(gone)?;
        configs.wait_until_ready().await.map_err(gone)?;
        pods.wait_until_ready().await.map_err(gone)?;
        Ok(Self { client, objects, qworkers, configs, pods, stir, good: Mutex::default() })
    }

    /// The QWorkers as they are told.
    pub fn qworkers(&self) -> Store<QWorker> {
        self.qworkers.clone()
    }

    /// The pods that QWorkers own, as they are told.
    pub fn pods(&self) -> Store<Pod> {
        self.pods.clone()
    }

    /// Waits until something has changed, or it is time to look again.
    pub async fn changed(&self) {
        let again = Instant::now() + AGAIN;
        if timeout_at(again, self.stir.notified()).await.is_ok() {
            sleep(TOGETHER).await;
        }
    }

    /// The ScalerConfigs as they are told.
    pub fn configs(&self) -> Store<ScalerConfig> {
        self.configs.clone()
    }

    /// Everything that is to be looked after now, and how.
    pub async fn assignments(&self, catalog: &Catalog, reporter: &Reporter) -> Vec<(Assignment, Mode)> {
        let qworkers = self.qworkers.state();
        let with_object = |it: Arc<QWorker>| Object::of(&it.metadata).map(|object| (it, object));
        let qworkers: Vec<_> = qworkers.into_iter().filter_map(with_object).collect();
        let keys: BTreeSet<_> = qworkers.iter().map(|(_, object)| object.key()).collect();
        let uids: BTreeSet<_> = qworkers.iter().map(|(_, object)| &object.uid).collect();
        reporter.keep_only(|key| keys.contains(key));
        self.lock_good().retain(|uid, _| uids.contains(uid));
        let mut assignments = vec![];
        for (qworker, object) in &qworkers {
            let key = object.key();
            let (read, mut unfit) = self.read(qworker, object);
            let hash = read.as_ref().and_then(|workload| match &workload.target.made {
                Made::Pod(template) => Some(template.hash.clone()),
                Made::Process(_) => None,
            });
            self.objects.note(Object { hash: hash.clone(), ..object.clone() });
            let mode = match self.mode(qworker, object).await {
                Ok(mode) => mode,
                Err(error) => {
                    unfit = unfit.or_else(|| Some(Unfit::new("CannotAct", error.to_string())));
                    None
                }
            };
            if let (Some(workload), Some(mode)) = (read, mode) {
                let assignment = catalog.assign_found(&format!("QWorker {key}"), &workload);
                unfit = unfit.or_else(|| no_policy(&assignment));
                assignments.push((assignment, mode));
            }
            reporter.judge(&key, hash.as_deref(), unfit.as_ref());
        }
        assignments
    }

    /// What a QWorker says, or what it said before something went wrong with it, and what that is.
    fn read(&self, qworker: &QWorker, object: &Object) -> (Option<Arc<Workload>>, Option<Unfit>) {
        let config = |name: &str| {
            let reference = reflector::ObjectRef::new(name).within(&object.namespace);
            self.configs.get(&reference).map(|config| ScalerConfig::clone(&config))
        };
        let mut good = self.lock_good();
        match workload(qworker, config) {
            Ok(workload) => {
                let workload = Arc::new(workload);
                good.insert(object.uid.clone(), Arc::clone(&workload));
                (Some(workload), None)
            }
            Err(unfit) => (good.get(&object.uid).cloned(), Some(unfit)),
        }
    }

    fn lock_good(&self) -> MutexGuard<'_, BTreeMap<WorkloadUid, Arc<Workload>>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a QWorker is to be looked after; not at all while nothing makes its deletion wait for its tasks.
    async fn mode(&self, qworker: &QWorker, object: &Object) -> Asked<Option<Mode>> {
        let is_deleted = qworker.metadata.deletion_timestamp.is_some();
        let is_held = qworker.finalizers().iter().any(|it| it == FINALIZER);
        match (is_deleted, is_held) {
            (true, true) => Ok(Some(Mode::Drain)),
            (false, true) => Ok(Some(Mode::Keep)),
            (true, false) => Ok(None),
            // The watch tells when it is there.
            (false, false) => self.hold(qworker, object).await.map(|()| None),
        }
    }

    /// Sees to it that deleting a QWorker lets its workers finish.
    async fn hold(&self, qworker: &QWorker, object: &Object) -> Asked<()> {
        let finalizers = [qworker.finalizers(), &[FINALIZER.to_owned()]].concat();
        self.set_finalizers(qworker, object, &finalizers).await
    }

    /// All workers of a workload are gone: if its QWorker is being deleted, it may go.
    pub async fn let_go(&self, key: &str) -> Asked<()> {
        let of_key =
            |qworker: &&Arc<QWorker>| Object::of(&qworker.metadata).is_some_and(|it| it.key() == key);
        let qworkers = self.qworkers.state();
        let Some(qworker) = qworkers.iter().find(of_key) else { return Ok(()) };
        let (Some(_), Some(object)) = (&qworker.metadata.deletion_timestamp, Object::of(&qworker.metadata))
        else {
            return Ok(());
        };
        let finalizers: Vec<_> = qworker.finalizers().iter().filter(|it| *it != FINALIZER).cloned().collect();
        self.set_finalizers(qworker, &object, &finalizers).await
    }

    async fn set_finalizers(&self, qworker: &QWorker, object: &Object, finalizers: &[String]) -> Asked<()> {
        let version = qworker.metadata.resource_version.as_deref();
        let patch = json!({
            "metadata": {"uid": object.uid.as_str(), "resourceVersion": version, "finalizers": finalizers},
        });
        let api = object.api(&self.client);
        match api.patch(&object.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It has changed meanwhile, or is gone: the watch tells.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
            Err(error) => Err(failed(&format!("write the finalizers of {}", object.key()), &error)),
        }
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
