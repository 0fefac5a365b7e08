//! Texts for Redis: names of keys, and scripts, each one atomic step.
//!
//! Keys of a queue carry its name in braces, so that a cluster keeps them where the queue is. The
//! queue itself is the plain list that producers `LPUSH` to.

macro_rules! texts {
    ($($name:ident = $($file:literal)+;)*) => {$(
        #[doc = concat!("What it does, its keys, arguments and result stand at its head:" $(, " `", $file, "`")+)]
        pub const $name: &str = concat!($(include_str!(concat!("../redis/", $file))),+);
    )*};
}

texts! {
    ACK = "ack.lua";
    RETURN = "interrupted.lua" "return.lua";
    BURY = "bury.lua";
    HOLD = "hold.lua";
    LEAVE = "leave.lua";
    REAP = "interrupted.lua" "reap.lua";
    ATTEMPTS = "attempts.lua";
    TAKE = "next.lua" "take.lua";
    TURN = "next.lua" "turn.lua";
    FENCE = "next.lua" "fence.lua";
    MEASURE = "measure.lua";
    ADOPT = "server.lua" "adopt.lua";
    PROJECT = "server.lua" "project.lua";
    WITHDRAW = "server.lua" "withdraw.lua";
    FLOOR = "server.lua" "floor.lua";
    CLAIM = "server.lua" "opening.lua" "claim.lua";
    REPORT = "server.lua" "opening.lua" "report.lua";
    PATH = "server.lua" "path.lua";
    RELEASE = "release.lua";
    BAR = "bar.lua";
    FORGET = "forget.lua";
    COUNT = "count.lua";
}

/// Keys of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    /// The list that producers push to.
    pub queue: String,
    /// Sorted set: until when each holder keeps what it holds, in the server's milliseconds.
    pub leases: String,
    /// What the lists of tasks that holders hold begin with; the holder follows.
    pub processing: String,
    /// What the hashes of holders' turns begin with; the holder and its process follow. The last turn of
    /// each slot.
    pub turns: String,
    /// Sorted set: tasks that wait for a moment.
    pub delayed: String,
    /// Hash: failed attempts by digest of the payload.
    pub attempts: String,
    /// Hash: `departed`, the tasks that left for good; `interrupted`, the number of the last interruption.
    pub counters: String,
    /// List: tasks that failed for good.
    pub dead: String,
    /// List: why, in the same order, as JSON.
    pub errors: String,
    /// List: times when a holder's work was cut off, `NUMBER:WHY:TASKS:HOLDER`, the newest first.
    pub interrupted: String,
}

impl QueueKeys {
    /// The keys of this queue.
    pub fn of(queue: &str) -> Self {
        let key = |name: &str| format!("qscaler:{{{queue}}}:{name}");
        Self {
            queue: queue.to_owned(),
            leases: key("leases"),
            processing: key("processing:"),
            turns: key("turns:"),
            delayed: key("delayed"),
            attempts: key("attempts"),
            counters: key("counters"),
            dead: key("dead"),
            errors: key("errors"),
            interrupted: key("interrupted"),
        }
    }
}

/// Keys of a workload's control path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathKeys {
    /// Hash: `epoch`, `server`, `floor`, and `o:ID` with each offer's state: `open`, `open:WORKER`,
    /// `claimed:WORKER` or `withdrawn`.
    pub offers: String,
    /// Hash: by worker, `MILLISECONDS:EPOCH:REPORT`.
    pub reports: String,
    /// Set: workers that were released.
    pub released: String,
    /// Hash: by queue, the interruption up to which the workload has counted them, `NUMBER:BEFORE:WHO`.
    pub counted: String,
}

impl PathKeys {
    /// The keys of this workload.
    pub fn of(workload: &crate::name::WorkloadUid) -> Self {
        let key = |name: &str| format!("qscaler:{{{workload}}}:{name}");
        Self {
            offers: key("offers"),
            reports: key("reports"),
            released: key("released"),
            counted: key("counted"),
        }
    }
}
