//! What the engine needs of the world, as arguments: the same loop runs on this machine, in tests
//! with paused time, and on a cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use qscaler_core::document::rule::RuleDocument;
use qscaler_core::fleet::{Part, Seen};
use qscaler_core::interrupted::Interruption;
use qscaler_core::ledger::Ledger;
use qscaler_core::plan::Scale;
use qscaler_core::record::Line;
use qscaler_core::resize::{Exact, Hindrance, Range, Used};
use qscaler_core::signal::Measure;
use qscaler_core::time::Time;
use qscaler_core::workload::{self, Workload};
use qscaler_protocol::name::{BootId, Epoch, OfferId, WorkerId, WorkloadUid};
use qscaler_protocol::path::{Offer, Path, Withdrawal};
use qscaler_protocol::report::Received;

use crate::event::Event;

/// Why something outside did not do what was asked: which, and in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct PortError {
    /// What was asked, for whom.
    pub what: String,
    /// The answer.
    pub reason: String,
}

impl PortError {
    /// An error of this part of the world.
    pub fn new(what: impl Into<String>, reason: impl ToString) -> Self {
        Self { what: what.into(), reason: reason.to_string() }
    }
}

/// The result of asking the world.
pub type Asked<T> = Result<T, PortError>;

/// Time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now, on a timeline that never jumps and began at the wall clock.
    fn now(&self) -> Time;
    /// What the clock on the wall says.
    fn wall(&self) -> Time;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Randomness: ids and epochs.
pub trait Randomness: Send + Sync {
    /// 64 bits that nobody can guess.
    fn bits(&self) -> u64;
}

/// A task that runs beside the others.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks.
pub trait Spawn: Send + Sync {
    /// Runs a job beside the others.
    fn spawn(&self, job: Job);
}

/// Hears what happens: logs, counts, and in tests compares.
pub trait Listen: Send + Sync {
    /// Something has happened.
    fn hear(&self, event: &Event);
}

/// The version of a ledger that was read, in its store's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// How new what is read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What a watch has told so far will do: nothing is done on the strength of it alone.
    Seen,
    /// As it is now.
    Live,
}

/// The engine's durable memory.
#[async_trait]
pub trait Store: Send + Sync {
    /// The uid of a workload: the stored one, else `fresh`, which is stored.
    async fn uid(&self, workload: &str, fresh: WorkloadUid) -> Asked<WorkloadUid>;
    /// Whether [`Freshness::Seen`] may be older than [`Freshness::Live`], here or on the platform: then
    /// everything is read again before something is done.
    fn lags(&self) -> bool;
    /// The ledger with its version.
    async fn ledger(&self, uid: &WorkloadUid, freshness: Freshness) -> Asked<(Version, Ledger)>;
    /// Replaces the ledger if it still has the version that was `read`. `false`: it has not.
    async fn commit(&self, uid: &WorkloadUid, read: &Version, ledger: &Ledger) -> Asked<bool>;
    /// How often a checkpoint may be written. What is lost with one costs smoothness, never a worker.
    fn checkpoint_every(&self) -> Duration;
    /// The last checkpoint of a workload's memory.
    async fn checkpoint(&self, uid: &WorkloadUid) -> Asked<Option<String>>;
    /// Replaces the checkpoint.
    async fn keep_checkpoint(&self, uid: &WorkloadUid, text: &str) -> Asked<()>;
    /// Puts a checkpoint that this version cannot read aside, untouched.
    async fn put_aside(&self, uid: &WorkloadUid, text: &str) -> Asked<()>;
    /// Adds a line to the record, with the document of its rule; forgets lines that are too old or too many.
    async fn record(&self, uid: &WorkloadUid, line: &Line, rule: &RuleDocument) -> Asked<()>;
}

/// Reads queues. One poll serves every workload on them.
#[async_trait]
pub trait Source: Send + Sync {
    /// Measures these queues in one go; a queue that nobody has used yet is empty.
    async fn measure(&self, queues: &[String]) -> Asked<BTreeMap<String, Measure>>;
    /// The last times that work on tasks of a queue was cut off, as the last measurement found them, in
    /// rising order; none where the system does not write them down.
    fn interruptions(&self, _queue: &str) -> Arc<Vec<Interruption>> {
        Arc::default()
    }
}

/// Carries offers, claims and reports. Every operation is one atomic step, as in [`Path`].
#[async_trait]
pub trait ControlPath: Send + Sync {
    /// Offers and reports, live.
    async fn read(&self, uid: &WorkloadUid) -> Asked<(Path, BTreeMap<WorkerId, Received>)>;
    /// [`Path::adopt`].
    async fn adopt(&self, uid: &WorkloadUid, adopt: Adopt<'_>) -> Asked<bool>;
    /// [`Path::project`].
    async fn project(
        &self,
        uid: &WorkloadUid,
        epoch: &Epoch,
        offers: &BTreeMap<OfferId, Offer>,
    ) -> Asked<bool>;
    /// [`Path::withdraw`].
    async fn withdraw(&self, uid: &WorkloadUid, epoch: &Epoch, offer: OfferId) -> Asked<Withdrawal>;
    /// [`Path::raise_floor`].
    async fn raise_floor(&self, uid: &WorkloadUid, epoch: &Epoch, floor: OfferId) -> Asked<bool>;
    /// Turns a drained report into "released". `false`: the report says something else by now.
    async fn release(&self, uid: &WorkloadUid, worker: &WorkerId, boot: &BootId) -> Asked<bool>;
    /// Has a worker that has no process yet take nothing from now on, should it get one; before it is removed
    /// where a platform tells late of processes. `false`: it has reported lately, so it has one. Systems of
    /// one machine have nothing to do: there a process is seen at once.
    async fn bar(&self, _uid: &WorkloadUid, _worker: &WorkerId) -> Asked<bool> {
        Ok(true)
    }
    /// Deletes what a worker reported.
    async fn forget(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()>;
    /// Says before interruptions are counted that they are, so that no other engine does, and none after this
    /// one. Returns the number after which to count; when asked again, the same.
    async fn count(&self, _uid: &WorkloadUid, counting: Counting<'_>) -> Asked<u64> {
        Ok(counting.last)
    }
}

/// The arguments of [`Path::adopt`].
#[derive(Clone, Copy, Debug)]
pub struct Adopt<'a> {
    /// The epoch that was read.
    pub seen: Option<&'a Epoch>,
    /// The new one.
    pub epoch: &'a Epoch,
    /// Its floor.
    pub floor: OfferId,
    /// The claims that are known.
    pub claims: &'a BTreeMap<OfferId, WorkerId>,
}

/// The arguments of [`ControlPath::count`].
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// The queue.
    pub queue: &'a str,
    /// The last interruption that was counted. None: this only begins, after the last one that any engine has
    /// counted, else after `last`.
    pub known: Option<u64>,
    /// The last one that is to be counted.
    pub last: u64,
    /// A name for who asks.
    pub by: &'a str,
}

/// A connection to one queue system.
#[derive(Clone)]
pub struct QueueSystem {
    /// Reads its queues.
    pub source: Arc<dyn Source>,
    /// Carries offers through it.
    pub control: Arc<dyn ControlPath>,
}

/// Connects to queue systems.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Connects to a source.
    async fn connect(&self, source: &workload::Source) -> Asked<QueueSystem>;
}

/// What makes a workload's workers, where the engine only says how many, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its scale.
    pub scale: Scale,
    /// Chooses its workers.
    pub selector: String,
    /// Who else scales it, and what to type: then it is not touched.
    pub conflict: Option<String>,
    /// What its workers lack to be asked and to leave as they should, and what to type.
    pub lacks: Option<String>,
    /// How long its workers may take to end after SIGTERM, where they say so.
    pub grace: Option<Duration>,
    /// The containers of its template, where it has one.
    pub parts: Vec<Part>,
}

/// Where workers live.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Every worker of a workload that is not gone, by name. One that is made of something else than what
    /// [`Platform::start`] makes for this workload is outdated.
    async fn fleet(&self, uid: &WorkloadUid, workload: &Workload, freshness: Freshness) -> Asked<Vec<Seen>>;
    /// Creates the worker of this name; that it exists is success. Containers get these sizes, others what
    /// their template says. Returns what kept them from it: then the worker is there with its template's sizes.
    async fn start(
        &self,
        uid: &WorkloadUid,
        workload: &Workload,
        name: &str,
        sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>>;
    /// Removes a worker if still no process of it runs. `false`: it is still there.
    async fn remove(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<bool>;
    /// Deletes a worker that has drained and was released.
    async fn delete(&self, uid: &WorkloadUid, worker: &WorkerId) -> Asked<()>;
    /// Asks a worker to end, and kills it when its grace period is over.
    async fn terminate(&self, uid: &WorkloadUid, worker: &WorkerId, grace: Duration) -> Asked<()>;
    /// What makes the workers; none where [`Platform::start`] does.
    async fn found(&self, _uid: &WorkloadUid, _freshness: Freshness) -> Asked<Option<Found>> {
        Ok(None)
    }
    /// Whether what makes the workers is not there any more: then nothing can be given back to it.
    async fn is_gone(&self, _uid: &WorkloadUid) -> Asked<bool> {
        Ok(false)
    }
    /// Says how many workers there are to be where others look for it, a disruption budget above all; before
    /// anything is done about it. That it stands there already is success.
    async fn announce(&self, _uid: &WorkloadUid, _desired: u32) -> Asked<()> {
        Ok(())
    }
    /// Marks a worker as one to go when fewer are asked for, or takes the mark away.
    async fn mark(&self, uid: &WorkloadUid, _worker: &WorkerId, _marked: bool) -> Asked<()> {
        Err(makes_its_own(uid))
    }
    /// The containers of what [`Platform::start`] makes.
    fn parts(&self, _workload: &Workload) -> Vec<Part> {
        vec![]
    }
    /// What containers use now. It is asked beside the ticks, and may take its time.
    async fn usage(&self, _uid: &WorkloadUid) -> Asked<Used> {
        Ok(Used::new())
    }
    /// Who else sizes the workers, and what to type; none where there is nobody.
    async fn rival(&self, _uid: &WorkloadUid) -> Asked<Option<String>> {
        Ok(None)
    }
    /// What the namespace of the workers allows a container.
    async fn ranges(&self, _uid: &WorkloadUid) -> Asked<Vec<Range>> {
        Ok(vec![])
    }
    /// Gives containers of a worker other amounts while it works on. Returns what kept it from that.
    async fn resize(
        &self,
        uid: &WorkloadUid,
        _worker: &WorkerId,
        _sizes: &BTreeMap<String, Exact>,
    ) -> Asked<Option<Hindrance>> {
        Err(PortError::new(uid.as_str(), "sizes of its workers cannot be changed"))
    }
    /// Asks for `to` workers if nothing has changed since `from` was read live. `false`: something has.
    async fn ask_for(&self, uid: &WorkloadUid, _from: u32, _to: u32) -> Asked<bool> {
        Err(makes_its_own(uid))
    }
}

fn makes_its_own(uid: &WorkloadUid) -> PortError {
    PortError::new(uid.as_str(), "nothing else makes its workers")
}

/// The world, whole.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Randomness>,
    /// Tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Who hears what happens.
    pub listen: Arc<dyn Listen>,
    /// Durable memory.
    pub store: Arc<dyn Store>,
    /// Queue systems.
    pub connect: Arc<dyn Connect>,
    /// Where workers live.
    pub platform: Arc<dyn Platform>,
}
