//! A scenario: what a seed may draw a plan from, as data.

use seedbed_core::runtime::CrashPoint;

use super::generate;
use super::{LinkSet, Plan, Target};
use crate::nemesis;

/// A range of whole numbers, both ends included.
pub type Span = [u64; 2];

/// A family of plans with one intent.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name on the command line.
    pub name: &'static str,
    /// One line that says what it tries.
    pub summary: &'static str,
    /// The members.
    pub cluster: ClusterRanges,
    /// The network in fair weather.
    pub network: NetworkRanges,
    /// The disks in fair weather.
    pub disk: DiskRanges,
    /// What clients do.
    pub workload: WorkloadRanges,
    /// What is watched, if anything is.
    pub watch: Option<WatchRanges>,
    /// What is contended for, if anything is.
    pub contend: Option<ContendRanges>,
    /// The proxies, if there are any.
    pub proxy: Option<ProxyRanges>,
    /// Of a hundred seeds, how many do without a given one of these: watching, leases, contending, proxies.
    pub services_off_percent: u64,
    /// What goes wrong.
    pub faults: FaultRanges,
    /// After everything is healed, how long the cluster has to converge and serve again.
    pub converge_ms: u64,
    /// By when a ReadIndex read has to be answered, whatever the faults.
    pub read_index_ms: Option<u64>,
}

impl Scenario {
    /// The plan of a seed: the same for ever, and valid.
    pub fn plan(&self, seed: u64) -> Plan {
        generate::plan(self, seed)
    }
}

/// What clusters are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRanges {
    /// Numbers of members, each with the weight that it is drawn with.
    pub members: &'static [(u32, u64)],
    /// The least election time-out.
    pub election_ms: Span,
    /// Heartbeats in the least election time-out.
    pub heartbeats: Span,
    /// Log entries between two snapshots.
    pub snapshot_entries: Span,
    /// Log entries that stay behind a snapshot.
    pub keep_entries: Span,
    /// The size at which the WAL begins another segment.
    pub segment_bytes: Span,
    /// What clocks are declared to drift at most, in parts in a million, where lease reads are offered.
    pub lease_drift_ppm: Option<Span>,
    /// How often what is left of leases is noted in the log, in half of the seeds.
    pub lease_checkpoint_ms: Option<Span>,
}

/// What the network is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct NetworkRanges {
    /// The least one-way delay.
    pub latency_us: Span,
    /// What the greatest one-way delay adds to the least.
    pub jitter_us: Span,
    /// Messages lost in a thousand.
    pub loss_permille: Span,
}

/// What disks are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct DiskRanges {
    /// The least time of an fsync.
    pub sync_us: Span,
    /// What the greatest time of an fsync adds to the least.
    pub jitter_us: Span,
}

/// What the work is drawn from. The pause between operations follows from the rest, so that the work lasts about as
/// long as the faults.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadRanges {
    /// How many clients.
    pub clients: Span,
    /// Of a hundred clients, how many speak gRPC over HTTP/2.
    pub grpc_percent: Span,
    /// Operations of all clients together.
    pub operations: Span,
    /// How many different keys.
    pub keys: Span,
    /// Bytes of a value.
    pub value_bytes: Span,
    /// When an operation without an answer counts as unknown.
    pub timeout_ms: Span,
    /// The longest pause between two operations of a client, in thirds of the time that the act has for each: 2 where
    /// answers and time-outs take the rest, 6 where they take next to nothing.
    pub think_thirds: u64,
    /// How often each kind of operation is drawn.
    pub mix: MixRanges,
    /// What clients do with leases, if they do anything.
    pub leases: Option<LeaseRanges>,
}

/// What leases are drawn from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of LeasePlan, where they are explained")]
pub struct LeaseRanges {
    pub numbers: Span,
    /// The shortest that is asked for, in seconds.
    pub ttl_s: Span,
    /// What the longest adds to it.
    pub more_s: Span,
    pub leased_percent: Span,
}

/// What contending is drawn from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of ContendPlan, where they are explained")]
pub struct ContendRanges {
    pub contenders: Span,
    pub observers: Span,
    pub names: Span,
    /// The shortest that is asked for, in seconds.
    pub ttl_s: Span,
    /// What the longest adds to it.
    pub more_s: Span,
    /// The longest that a holder waits.
    pub hold_ms: Span,
}

/// What proxies are drawn from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of ProxyPlan, where they are explained")]
pub struct ProxyRanges {
    pub proxies: Span,
    pub staleness_ms: Span,
    pub ranges: Span,
    pub percent: Span,
}

/// What watching is drawn from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of WatchPlan, where they are explained")]
pub struct WatchRanges {
    pub watchers: Span,
    pub progress_ms: Span,
    pub fragment_bytes: Span,
    pub piece_changes: Span,
}

/// Weights of the kinds of operations, as in [`Mix`](super::Mix).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of Mix, where they are explained")]
pub struct MixRanges {
    pub get: Span,
    pub get_serializable: Span,
    pub range: Span,
    pub put: Span,
    pub delete: Span,
    pub txn: Span,
    pub compact: Span,
    pub get_log: Span,
    pub get_lease: Span,
    pub lease_grant: Span,
    pub lease_revoke: Span,
    pub lease_keep_alive: Span,
    pub lease_time_to_live: Span,
    pub lease_list: Span,
}

/// What faults are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct FaultRanges {
    /// How long the act of faults lasts.
    pub act_ms: Span,
    /// Of a hundred seeds, how many do without a given family (swarm testing: a fault that is always there hides what
    /// needs its absence).
    pub off_percent: u64,
    /// Of a hundred seeds, how many may have more than a minority of members down at a time by separate faults.
    pub reckless_percent: u64,
    /// Around how many moments the faults gather, since disasters rarely come alone; 0: each anywhere in the act.
    pub moments: Span,
    /// The families.
    pub families: &'static [Family],
}

/// Faults of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The kind, with its intensity.
    pub kind: FamilyKind,
    /// How many of them in an act.
    pub count: Span,
    /// How long one lasts; for a member that dies, how long it is down.
    pub for_ms: Span,
    /// Of a hundred, how many are over before an election time-out has passed.
    pub brief_percent: u64,
    /// Whom they meet, each with its weight. Unused by kinds that meet no single target.
    pub aims: &'static [(u32, Aim)],
}

/// The kinds of [`FaultKind`](super::FaultKind), with what their parameters are drawn from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of FaultKind and DiskRanges, where they are explained")]
pub enum FamilyKind {
    Halves,
    Isolate,
    OneWay,
    Bridge,
    Loss {
        permille: Span,
    },
    Ring,
    Shut,
    Latency {
        links: &'static [(u32, LinkAim)],
        delay_us: Span,
        jitter_us: Span,
    },
    Reorder {
        links: &'static [(u32, LinkAim)],
        permille: Span,
        delay_us: Span,
        jitter_us: Span,
    },
    Duplicate {
        links: &'static [(u32, LinkAim)],
        permille: Span,
        after_us: Span,
        jitter_us: Span,
    },
    Reset {
        links: &'static [(u32, LinkAim)],
        permille: Span,
    },
    /// Off by so much, forth or back.
    Skew {
        by_ms: Span,
    },
    Jump {
        by_ms: Span,
    },
    /// Each place with its weight, and with how often a member comes there until it dies.
    CrashAt {
        points: &'static [(u32, (CrashPoint, Span))],
    },
    Transfer,
    Snapshot,
    Defragment,
    Compaction {
        keep: Span,
    },
    SlowNode {
        run_ms: Span,
        stop_ms: Span,
    },
    FsyncDelay {
        sync_us: Span,
        jitter_us: Span,
    },
    FsyncStall,
    Crash,
    Restart,
    Pause,
    CrashUnflushed {
        stall_ms: Span,
    },
    SlowLink {
        latency_us: Span,
        jitter_us: Span,
    },
    /// Fast or slow by so many parts in a million.
    Drift {
        ppm: Span,
    },
    FsyncFailure {
        permille: Span,
    },
    /// Reads, writes or both.
    IoError {
        permille: Span,
    },
    NoSpace,
    SlowDisk {
        delay_us: Span,
        jitter_us: Span,
    },
    BitRot {
        bits: Span,
        rest_ms: Span,
    },
    MisdirectedWrite {
        rest_ms: Span,
    },
    LoseDisk,
    MemberAdd,
    LearnerPromotion {
        learn_ms: Span,
    },
    MemberRemove,
    MemberReplace,
    ProxyRestart,
    ProxyCut,
    ProxySlow {
        latency_us: Span,
        jitter_us: Span,
    },
}

impl FamilyKind {
    /// A word for it, which names its random stream too: changing it changes what every seed means.
    pub(super) fn name(self) -> &'static str {
        match self {
            FamilyKind::Halves => "halves",
            FamilyKind::Isolate => "isolate",
            FamilyKind::OneWay => "one-way",
            FamilyKind::Bridge => "bridge",
            FamilyKind::Loss { .. } => "loss",
            FamilyKind::Ring => "ring",
            FamilyKind::Shut => "shut",
            FamilyKind::Latency { .. } => "latency",
            FamilyKind::Reorder { .. } => "reorder",
            FamilyKind::Duplicate { .. } => "duplicate",
            FamilyKind::Reset { .. } => "reset",
            FamilyKind::Skew { .. } => "skew",
            FamilyKind::Jump { .. } => "jump",
            FamilyKind::CrashAt { .. } => "crash-at",
            FamilyKind::Transfer => "transfer",
            FamilyKind::Snapshot => "snapshot",
            FamilyKind::Defragment => "defragment",
            FamilyKind::Compaction { .. } => "compaction",
            FamilyKind::SlowNode { .. } => "slow-node",
            FamilyKind::FsyncDelay { .. } => "fsync-delay",
            FamilyKind::FsyncStall => "fsync-stall",
            FamilyKind::Crash => "crash",
            FamilyKind::Restart => "restart",
            FamilyKind::Pause => "pause",
            FamilyKind::CrashUnflushed { .. } => "crash-unflushed",
            FamilyKind::Drift { .. } => "drift",
            FamilyKind::SlowLink { .. } => "slow-link",
            FamilyKind::FsyncFailure { .. } => "fsync-failure",
            FamilyKind::IoError { .. } => "io-error",
            FamilyKind::NoSpace => "no-space",
            FamilyKind::SlowDisk { .. } => "slow-disk",
            FamilyKind::BitRot { .. } => "bit-rot",
            FamilyKind::MisdirectedWrite { .. } => "misdirected-write",
            FamilyKind::LoseDisk => "lose-disk",
            FamilyKind::MemberAdd => "member-add",
            FamilyKind::LearnerPromotion { .. } => "learner-promotion",
            FamilyKind::MemberRemove => "member-remove",
            FamilyKind::MemberReplace => "member-replace",
            FamilyKind::ProxyRestart => "proxy-restart",
            FamilyKind::ProxyCut => "proxy-cut",
            FamilyKind::ProxySlow { .. } => "proxy-slow",
        }
    }

    /// Under which names its faults are counted.
    pub fn families(self) -> Vec<&'static str> {
        match self {
            FamilyKind::CrashAt { points, .. } => {
                points.iter().map(|(_, (point, _))| nemesis::crash_at(*point)).collect()
            }
            _ => vec![self.name()],
        }
    }

    /// How many members it takes for it to do anything.
    pub(super) fn least_members(self) -> u64 {
        match self {
            FamilyKind::Ring => 4,
            _ if self.between_members() || self.loses() => 2,
            _ => 1,
        }
    }

    /// Whether it takes proxies for it to do anything.
    pub(super) fn meets_proxies(self) -> bool {
        matches!(self, FamilyKind::ProxyRestart | FamilyKind::ProxyCut | FamilyKind::ProxySlow { .. })
    }

    fn between_members(self) -> bool {
        matches!(
            self,
            FamilyKind::Halves
                | FamilyKind::Isolate
                | FamilyKind::OneWay
                | FamilyKind::Bridge
                | FamilyKind::Loss { .. }
                | FamilyKind::Duplicate { .. }
                | FamilyKind::Transfer
                | FamilyKind::SlowLink { .. }
        )
    }

    /// Whether it takes what a member has, and so needs others that have the same data.
    pub(super) fn loses(self) -> bool {
        matches!(
            self,
            FamilyKind::BitRot { .. }
                | FamilyKind::MisdirectedWrite { .. }
                | FamilyKind::LoseDisk
                | FamilyKind::MemberRemove
                | FamilyKind::MemberReplace
        )
    }
}

/// Links that a fault is aimed at, as in [`LinkSet`](super::LinkSet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants of LinkSet, where they are explained")]
pub enum LinkAim {
    Members,
    Clients,
    All,
    One,
}

impl LinkAim {
    /// The links in a cluster, of which `pair` are two different members.
    pub(super) fn links(self, [from, to]: [u64; 2]) -> LinkSet {
        match self {
            LinkAim::Members => LinkSet::Members,
            LinkAim::Clients => LinkSet::Clients,
            LinkAim::All => LinkSet::All,
            LinkAim::One => LinkSet::One { from, to },
        }
    }
}

/// Whom a fault is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Whoever leads.
    Leader,
    /// A follower.
    Follower,
    /// All followers.
    Followers,
    /// A member, whatever it does.
    Member,
    /// All of them.
    Everyone,
}

impl Aim {
    /// The target in a cluster of that size; `any` is a member's number.
    pub(super) fn target(self, members: u64, any: u64) -> Target {
        match self {
            Aim::Leader => Target::Leader,
            // A cluster of one has no follower.
            Aim::Follower if members > 1 => Target::Follower,
            Aim::Followers if members > 1 => Target::Followers,
            Aim::Follower | Aim::Followers | Aim::Member => Target::Member(any),
            Aim::Everyone => Target::Everyone,
        }
    }
}
