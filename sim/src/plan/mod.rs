//! A run as data: the cluster, its weather, the work, the faults.
//!
//! A seed *generates* a plan; running a plan is a pure function. Replaying, shrinking and keeping a regression all work
//! on plans. The JSON form refuses fields that it does not know.
//!
//! ```text
//!   Scenario (ranges) + seed ── generate ──► Plan ◄── from_json, validate ── a file
//! ```

mod generate;
mod scenario;
mod validate;

use seedbed_core::runtime::CrashPoint;
use serde::{Deserialize, Serialize};

pub use self::scenario::{
    Aim, ClusterRanges, ContendRanges, DiskRanges, Family, FamilyKind, FaultRanges, LeaseRanges, LinkAim, MixRanges,
    NetworkRanges, ProxyRanges, Scenario, Span, WatchRanges, WorkloadRanges,
};
pub use self::validate::PlanError;

/// The version of the JSON form.
pub const VERSION: u32 = 1;

/// Everything that one run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The scenario that it was generated from.
    pub scenario: String,
    /// The seed that every random stream of the run is derived from.
    pub seed: u64,
    /// The planted bug that is switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// The commit of the source at which it was made. A run does not depend on it; what a seed means may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The members.
    pub cluster: ClusterPlan,
    /// The network in fair weather.
    pub network: NetworkPlan,
    /// The disks in fair weather.
    pub disk: DiskPlan,
    /// What clients do.
    pub workload: WorkloadPlan,
    /// What is watched, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchPlan>,
    /// What is contended for, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contend: Option<ContendPlan>,
    /// The proxies between some of the clients and the members, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyPlan>,
    /// What goes wrong, in the order of its beginning.
    pub faults: Vec<Fault>,
    /// After everything is healed, how long the cluster has to converge and serve again.
    pub converge_ms: u64,
    /// By when a ReadIndex read has to be answered, whatever the faults; no promise if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_index_ms: Option<u64>,
}

impl Plan {
    /// Whether some clock drifts further than was declared for lease reads.
    pub fn breaks_leases(&self) -> bool {
        let declared = self.cluster.lease_drift_ppm.unwrap_or(0);
        self.faults.iter().any(|fault| match fault.fault {
            FaultKind::Drift { ppm, .. } => ppm.unsigned_abs() > u64::from(declared),
            // Of all at once, which no rate accounts for.
            FaultKind::Jump { .. } => true,
            _ => false,
        })
    }

    /// Whether others take part in the end than in the beginning.
    pub fn changes_members(&self) -> bool {
        self.faults.iter().any(|fault| fault.fault.changes_members())
    }

    /// Whether there is a member of this number, at some time.
    pub(crate) fn has_member(&self, member: u64) -> bool {
        (1..=self.cluster.members).contains(&member)
            || self.faults.iter().any(|fault| fault.fault.newcomer() == Some(member))
    }

    /// How far clocks may drift, in parts in a million of any time.
    pub fn drift_ppm_max(&self) -> u64 {
        let drifts = self.faults.iter().filter_map(|fault| match fault.fault {
            FaultKind::Drift { ppm, .. } => Some(ppm.unsigned_abs()),
            _ => None,
        });
        drifts.max().unwrap_or(0)
    }

    /// The longest time for which any client asks for a lease, in seconds; none, if nobody does.
    pub fn lease_ttl_max_s(&self) -> Option<u64> {
        let contended = self.contend.map(|contend| contend.ttl_s[1]);
        self.workload.leases.map(|leases| leases.ttl_s[1]).max(contended)
    }

    /// Whether the medium of some disk is damaged.
    pub fn damages_disks(&self) -> bool {
        self.faults.iter().any(|fault| fault.fault.damages().is_some())
    }
}

/// The members of the cluster, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    /// How many: 1, 3 or 5.
    pub members: u64,
    /// A leader's heartbeat interval.
    pub heartbeat_ms: u64,
    /// How long a follower hears nothing of a leader before it campaigns: 1.5 to 2 times this.
    pub election_ms: u64,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// Log entries that stay behind a snapshot, for followers that lag.
    pub keep_entries: u64,
    /// The size at which the WAL begins another segment.
    pub segment_bytes: u64,
    /// Lease reads are offered, and clocks are declared to drift no more than so many parts in a million. Where a fault
    /// lets one drift further, lease reads are promised nothing: stale ones are counted, and are no violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_drift_ppm: Option<u32>,
    /// How often what is left of leases is noted in the log; never, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_checkpoint_ms: Option<u64>,
}

/// The network in fair weather, the same for each link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    /// The one-way delay of a message, least and greatest.
    pub latency_us: [u64; 2],
    /// Messages lost in a thousand.
    pub loss_permille: u32,
}

/// The disks in fair weather, the same for each member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlan {
    /// How long an fsync takes, least and greatest.
    pub sync_us: [u64; 2],
}

/// What clients do. Each client has one operation under way at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPlan {
    /// How many clients.
    pub clients: u32,
    /// How many of them, the first ones, speak gRPC over HTTP/2; the others call the services directly.
    #[serde(default)]
    pub grpc_clients: u32,
    /// Operations of all clients together.
    pub operations: u32,
    /// How many different keys.
    pub keys: u32,
    /// Bytes of a value, at least the operation's own number.
    pub value_bytes: u32,
    /// Pause between two operations of a client, least and greatest.
    pub think_ms: [u64; 2],
    /// After which time an operation without an answer counts as unknown.
    pub timeout_ms: u64,
    /// How often each kind of operation is drawn.
    pub mix: Mix,
    /// The leases that clients grant, keep and attach keys to; none, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<LeasePlan>,
    /// Which of the operations that clients would draw are carried out, and when, in the order of their times; all of
    /// them, one after the other, if it is left out. With a script `operations` is its length, and `think_ms` is not
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Vec<Step>>,
}

/// Clients that contend for locks and offices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContendPlan {
    /// How many there are.
    pub contenders: u32,
    /// How many watch who holds an office.
    pub observers: u32,
    /// How many locks there are, and as many offices.
    pub names: u32,
    /// For how long a contender asks for a lease, least and greatest, in seconds.
    pub ttl_s: [u64; 2],
    /// How long a holder waits after each change that it makes, least and greatest.
    pub hold_ms: [u64; 2],
}

/// Proxies, and who goes by way of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyPlan {
    /// How many there are.
    pub proxies: u32,
    /// How stale an answer from what a proxy keeps may be.
    pub staleness_ms: u64,
    /// Of how many ranges a proxy keeps answers.
    pub ranges: u64,
    /// Of a hundred clients that speak gRPC, watch or contend, how many go by way of proxies.
    pub percent: u32,
}

/// What clients do with leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasePlan {
    /// How many numbers of leases clients have in common, from 1. A grant may find that there is one already.
    pub numbers: u32,
    /// For how long leases are asked for, least and greatest, in seconds.
    pub ttl_s: [u64; 2],
    /// Of a hundred puts, how many have a lease.
    pub leased_percent: u32,
}

/// Clients that watch, and how members serve them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchPlan {
    /// How many there are, each with a stream of several watches at a time.
    pub watchers: u32,
    /// How long a watch hears nothing until it is told of progress.
    pub progress_ms: u64,
    /// Bytes of a response beyond which a watch that allows it gets the rest in another.
    pub fragment_bytes: u64,
    /// Changes of the history that a member reads at once for a stream.
    pub piece_changes: u64,
}

/// One operation of a script. What it asks is what the client would have asked at that place among all its operations,
/// so that taking others away does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When it begins, since the first leader; later, if the client's operation before it has not ended by then.
    pub at_us: u64,
    /// The client, numbered from 1.
    pub client: u32,
    /// Its place among the operations that the client draws, from 1.
    pub nth: u32,
    /// The member that is asked.
    pub member: u64,
}

/// Weights of the kinds of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Linearizable read of one key.
    pub get: u32,
    /// Serializable read of one key.
    pub get_serializable: u32,
    /// Linearizable range, with options.
    pub range: u32,
    /// Put.
    pub put: u32,
    /// Delete of a key or a range.
    pub delete: u32,
    /// Transaction.
    pub txn: u32,
    /// Compaction of the history.
    pub compact: u32,
    /// Linearizable read of one key, through the log.
    pub get_log: u32,
    /// Linearizable read of one key, by the leader's lease.
    pub get_lease: u32,
    /// Grant of a lease.
    pub lease_grant: u32,
    /// Revocation of a lease.
    pub lease_revoke: u32,
    /// Keep-alive of a lease.
    pub lease_keep_alive: u32,
    /// Question how long a lease lives, and with which keys.
    pub lease_time_to_live: u32,
    /// List of all leases.
    pub lease_list: u32,
}

impl Mix {
    /// Without operations of leases.
    fn without_leases(self) -> Mix {
        Mix { lease_grant: 0, lease_revoke: 0, lease_keep_alive: 0, lease_time_to_live: 0, lease_list: 0, ..self }
    }

    /// All weights, in the order of the fields.
    pub(crate) fn weights(&self) -> [u32; 14] {
        [
            self.get,
            self.get_serializable,
            self.range,
            self.put,
            self.delete,
            self.txn,
            self.compact,
            self.get_log,
            self.get_lease,
            self.lease_grant,
            self.lease_revoke,
            self.lease_keep_alive,
            self.lease_time_to_live,
            self.lease_list,
        ]
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it begins, since the first operation.
    pub at_ms: u64,
    /// How long it lasts. A member that has died is started again at the end of it.
    pub for_ms: u64,
    /// Which random stream it draws from while it lasts; its place in the list, from 0, if that is left out. It stays when
    /// others are taken out, so that what is left draws what it drew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    /// What it is.
    pub fault: FaultKind,
}

impl Fault {
    /// The random stream that it draws from, at this place of a plan.
    pub fn stream(&self, place: usize) -> u64 {
        self.stream.map_or(place as u64, u64::from)
    }
}

/// Whom a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Whoever leads when the fault begins.
    Leader,
    /// The first member, by number, that does not lead when the fault begins.
    Follower,
    /// All members that do not lead when the fault begins.
    Followers,
    /// One member.
    Member(u64),
    /// All of them.
    Everyone,
}

/// Links that a fault meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LinkSet {
    /// Those between members.
    #[default]
    Members,
    /// Those between clients and members.
    Clients,
    /// All of them.
    All,
    /// One direction between two members.
    One {
        /// Who sends.
        from: u64,
        /// Who is sent to.
        to: u64,
    },
}

impl LinkSet {
    fn is_members(&self) -> bool {
        *self == LinkSet::Members
    }
}

/// The kinds of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The members in `side` and the others do not hear each other.
    Halves {
        /// One side, by number.
        side: Vec<u64>,
    },
    /// Nobody hears the target, and it hears nobody.
    Isolate {
        /// Who is alone.
        target: Target,
    },
    /// What the target sends is lost; what is sent to it arrives.
    OneWay {
        /// Whose messages are lost.
        target: Target,
    },
    /// Two halves that hear each other only by way of one member, who hears all.
    Bridge {
        /// The member between.
        bridge: u64,
        /// One side, by number, without the bridge.
        side: Vec<u64>,
    },
    /// Each message is lost with this probability.
    Loss {
        /// Messages lost in a thousand.
        permille: u32,
        /// On which links.
        #[serde(default, skip_serializing_if = "LinkSet::is_members")]
        links: LinkSet,
    },
    /// The members stand in a ring, and each hears only the two beside it. Of three members all are neighbours.
    Ring {
        /// All members by number, each beside the next, the last beside the first.
        order: Vec<u64>,
    },
    /// No client reaches the target, and it answers none; members hear it.
    Shut {
        /// Whom clients do not reach.
        target: Target,
    },
    /// Messages are under way for longer.
    Latency {
        /// On which links.
        links: LinkSet,
        /// What it adds to the one-way delay, least and greatest.
        delay_us: [u64; 2],
    },
    /// Some messages are held up, so that later ones overtake them. The bytes of a stream stay in order.
    Reorder {
        /// On which links.
        links: LinkSet,
        /// Messages held up in a thousand.
        permille: u32,
        /// For how long, least and greatest.
        delay_us: [u64; 2],
    },
    /// Some messages between members arrive twice: requests that may be carried out twice, and replies.
    Duplicate {
        /// On which links.
        links: LinkSet,
        /// Messages in a thousand that arrive twice.
        permille: u32,
        /// How long after the first the second arrives, least and greatest.
        after_us: [u64; 2],
    },
    /// Some messages break the call or the connection that they belong to.
    Reset {
        /// On which links.
        links: LinkSet,
        /// Messages in a thousand that do.
        permille: u32,
    },
    /// The wall clock is off by so much, forth, or back if negative. Monotonic time is as it was.
    Skew {
        /// Whose.
        target: Target,
        /// By how much.
        by_ms: i64,
    },
    /// The monotonic clock jumps forward when the fault begins, as that of a machine which was suspended, and stays there.
    Jump {
        /// Whose.
        target: Target,
        /// By how much.
        by_ms: u64,
    },
    /// The process dies when it comes to a place in its code, if it does while the fault lasts, and is started again at the
    /// end of it. Whoever is to die while it builds a snapshot, or defragments, is asked to.
    CrashAt {
        /// Who; of everyone, also those who come later.
        target: Target,
        /// Where.
        point: CrashPoint,
        /// The how many-th time that it comes there.
        nth: u32,
    },
    /// Whoever leads hands leadership over to another.
    Transfer,
    /// A snapshot is built out of turn.
    Snapshot {
        /// By whom.
        target: Target,
    },
    /// The store's file is made shorter, out of turn.
    Defragment {
        /// Whose.
        target: Target,
    },
    /// The history is compacted, by way of whoever leads: an operation like those of clients, and as them in the history
    /// that is judged. It counts if it is answered while the fault lasts.
    Compaction {
        /// How many of the newest revisions stay readable beside the newest of all.
        keep: u64,
    },
    /// The process gets the processor by turns only.
    SlowNode {
        /// Who.
        target: Target,
        /// How long it runs in each turn.
        run_ms: u64,
        /// How long it then stands still.
        stop_ms: u64,
    },
    /// Fsync takes longer.
    FsyncDelay {
        /// On whose disk.
        target: Target,
        /// How long one takes, least and greatest.
        sync_us: [u64; 2],
    },
    /// Fsync does not return until the fault ends.
    FsyncStall {
        /// On whose disk.
        target: Target,
    },
    /// The machine loses power: the process dies, and what was not synced is kept, lost or torn.
    Crash {
        /// Who.
        target: Target,
    },
    /// The process dies, and its machine lives: what it had written is there, synced or not.
    Restart {
        /// Who.
        target: Target,
    },
    /// The process stops and goes on later, knowing nothing of it (SIGSTOP).
    Pause {
        /// Who.
        target: Target,
    },
    /// The target's fsync stalls; after `stall_ms` it crashes, its appended entries replicated but not flushed. It
    /// is down for `for_ms`, so that all of it takes `stall_ms + for_ms`.
    CrashUnflushed {
        /// Who.
        target: Target,
        /// How long it goes on with a stalled disk.
        stall_ms: u64,
    },
    /// What other members send to the target is under way for so long; what it sends is not.
    SlowLink {
        /// Who is late to hear.
        target: Target,
        /// The one-way delay of a message, least and greatest.
        latency_us: [u64; 2],
    },
    /// The clock runs fast by so many parts in a million, or slow if negative.
    Drift {
        /// Whose.
        target: Target,
        /// How much.
        ppm: i64,
    },
    /// Some fsyncs fail, and the pages that they were to write back are gone: neither readable nor written.
    FsyncFailure {
        /// On whose disk.
        target: Target,
        /// Of a thousand.
        permille: u32,
    },
    /// Some operations fail with an input/output error.
    IoError {
        /// On whose disk.
        target: Target,
        /// Of a thousand that read.
        reads_permille: u32,
        /// Of a thousand that write, and change names.
        writes_permille: u32,
    },
    /// No file grows, and none is made.
    NoSpace {
        /// On whose disk.
        target: Target,
    },
    /// Every read, write and fsync takes longer.
    SlowDisk {
        /// On whose disk.
        target: Target,
        /// By how much, least and greatest. A read and a write cannot wait: the next fsync does, for all of them.
        delay_us: [u64; 2],
    },
    /// Bits of a file flip, at rest. The target goes on for `rest_ms`, then it crashes. It is down for half of `for_ms`, and
    /// has the other half to read what it has. If it refuses to start, or stops, it stays out.
    BitRot {
        /// On whose disk: one member's.
        target: Target,
        /// In which files. Of the log what the last fsync of a file has brought is spared: it cannot be told from what a
        /// crash has cut short.
        part: Part,
        /// How many, in one sector.
        bits: u32,
        /// How long the target goes on.
        rest_ms: u64,
    },
    /// A write lands elsewhere, in the same file or in another; its place stays as it was. Otherwise as a bit-rot.
    MisdirectedWrite {
        /// On whose disk: one member's.
        target: Target,
        /// To which files it was meant to go. The last one before the crash is where it belongs, as with a bit-rot.
        part: Part,
        /// How long the target goes on.
        rest_ms: u64,
    },
    /// The process dies, and everything on its disk is gone. It is down for half of `for_ms`, and then started again as if it
    /// were new: it has to be refused, and stays out. A refusal takes others that know it and are heard: a plan may not have
    /// it beside faults that keep them from it.
    LoseDisk {
        /// Who: one member.
        target: Target,
    },
    /// A new member is added, starts on an empty disk, and is made a voter once it is in sync, if that comes about while the
    /// fault lasts.
    MemberAdd {
        /// Its number, which nobody has had before: beyond those of the cluster.
        member: u64,
    },
    /// A new member is added, stays a learner for a while, and is made a voter then.
    LearnerPromotion {
        /// Its number, as of a `member-add`.
        member: u64,
        /// How long it stays a learner.
        learn_ms: u64,
    },
    /// A member is removed. Its process runs on until the end of the fault, and then dies for good.
    MemberRemove {
        /// Who: one member.
        target: Target,
    },
    /// A member is removed, and its process ends at once; a new one is added in its place, and made a voter.
    MemberReplace {
        /// Who goes: one member.
        target: Target,
        /// The number of the one that comes, as of a `member-add`.
        member: u64,
    },
    /// A proxy's process dies, and is started again at the end of the fault.
    ProxyRestart {
        /// Which, from 1.
        proxy: u32,
    },
    /// Nothing passes between a proxy and the members; its clients reach it.
    ProxyCut {
        /// Which, from 1.
        proxy: u32,
    },
    /// What members send to a proxy is under way for so long; what it sends is not.
    ProxySlow {
        /// Which, from 1.
        proxy: u32,
        /// The one-way delay of a message, least and greatest.
        latency_us: [u64; 2],
    },
}

impl FaultKind {
    /// How long the first stage lasts, of kinds that have two.
    pub(crate) fn first_stage_ms(&self) -> Option<u64> {
        match *self {
            FaultKind::CrashUnflushed { stall_ms, .. } => Some(stall_ms),
            FaultKind::BitRot { rest_ms, .. } | FaultKind::MisdirectedWrite { rest_ms, .. } => Some(rest_ms),
            _ => None,
        }
    }

    /// Whom it meets, if it is aimed at somebody.
    pub(crate) fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            FaultKind::Halves { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring { .. }
            | FaultKind::Loss { .. }
            | FaultKind::Latency { .. }
            | FaultKind::Reorder { .. }
            | FaultKind::Duplicate { .. }
            | FaultKind::Reset { .. }
            | FaultKind::Transfer
            | FaultKind::Compaction { .. }
            | FaultKind::MemberAdd { .. }
            | FaultKind::LearnerPromotion { .. }
            | FaultKind::ProxyRestart { .. }
            | FaultKind::ProxyCut { .. }
            | FaultKind::ProxySlow { .. } => None,
            FaultKind::Isolate { target }
            | FaultKind::OneWay { target }
            | FaultKind::Shut { target }
            | FaultKind::SlowLink { target, .. }
            | FaultKind::FsyncDelay { target, .. }
            | FaultKind::FsyncStall { target }
            | FaultKind::FsyncFailure { target, .. }
            | FaultKind::IoError { target, .. }
            | FaultKind::NoSpace { target }
            | FaultKind::SlowDisk { target, .. }
            | FaultKind::BitRot { target, .. }
            | FaultKind::MisdirectedWrite { target, .. }
            | FaultKind::LoseDisk { target }
            | FaultKind::MemberRemove { target }
            | FaultKind::MemberReplace { target, .. }
            | FaultKind::Crash { target }
            | FaultKind::Restart { target }
            | FaultKind::CrashAt { target, .. }
            | FaultKind::CrashUnflushed { target, .. }
            | FaultKind::Pause { target }
            | FaultKind::SlowNode { target, .. }
            | FaultKind::Snapshot { target }
            | FaultKind::Defragment { target }
            | FaultKind::Drift { target, .. }
            | FaultKind::Skew { target, .. }
            | FaultKind::Jump { target, .. } => Some(target),
        }
    }

    /// The proxy that it meets, from 1, if it meets one.
    pub(crate) fn proxy(&self) -> Option<u32> {
        match *self {
            FaultKind::ProxyRestart { proxy } | FaultKind::ProxyCut { proxy } | FaultKind::ProxySlow { proxy, .. } => {
                Some(proxy)
            }
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn proxy_mut(&mut self) -> Option<&mut u32> {
        match self {
            FaultKind::ProxyRestart { proxy } | FaultKind::ProxyCut { proxy } | FaultKind::ProxySlow { proxy, .. } => {
                Some(proxy)
            }
            _ => None,
        }
    }

    /// The number of the member that comes with it.
    pub(crate) fn newcomer(&self) -> Option<u64> {
        match *self {
            FaultKind::MemberAdd { member }
            | FaultKind::LearnerPromotion { member, .. }
            | FaultKind::MemberReplace { member, .. } => Some(member),
            _ => None,
        }
    }

    /// Whether others take part afterwards than before.
    pub(crate) fn changes_members(&self) -> bool {
        self.newcomer().is_some() || matches!(self, FaultKind::MemberRemove { .. })
    }

    /// Who is lost to the cluster for good: its disk is not what it was, or gone, or it is no member any more.
    pub(crate) fn loses(&self) -> Option<Target> {
        match *self {
            FaultKind::LoseDisk { target }
            | FaultKind::MemberRemove { target }
            | FaultKind::MemberReplace { target, .. } => Some(target),
            _ => self.damages(),
        }
    }

    /// Whose disk is not the same any more afterwards.
    pub(crate) fn damages(&self) -> Option<Target> {
        match *self {
            FaultKind::BitRot { target, .. } | FaultKind::MisdirectedWrite { target, .. } => Some(target),
            _ => None,
        }
    }
}

/// A part of what a member keeps on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The write-ahead log.
    Log,
    /// The store's file.
    Store,
}
