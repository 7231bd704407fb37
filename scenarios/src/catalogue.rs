//! The scenarios, as data: each with a line that says what it tries.
//!
//! Common to all of them is a small, busy cluster: few keys, so that clients meet on them; snapshots every few hundred
//! entries and small segments, so that snapshots, purges and installs are part of every run.

mod families;

use seedbed_sim::plan::{
    Aim, ClusterRanges, ContendRanges, DiskRanges, Family, FamilyKind, FaultRanges, LeaseRanges, MixRanges,
    NetworkRanges, ProxyRanges, Scenario, WatchRanges, WorkloadRanges,
};

use self::families::*;

/// Every scenario, in the order in which they are listed and run.
pub(crate) static CATALOGUE: [Scenario; 25] = [
    CALM,
    PARTITION,
    FSYNC_DELAY,
    CRASH_RESTART,
    UNFLUSHED_LEADER,
    READ_PATHS,
    READ_STALL,
    DEPOSED_LEADER,
    LEASE_DRIFT,
    LEASE_RESTART,
    LEASE_HAZARD,
    BAD_LINKS,
    CRASH_POINTS,
    BAD_CLOCKS,
    DISK_ERRORS,
    DISK_DAMAGE,
    MEMBERSHIP,
    LOST_DISK,
    WATCH,
    FORGETTING,
    LEASES,
    LEASE_KEEPERS,
    LOCKS,
    PROXY,
    EVERYTHING,
];

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    CATALOGUE.iter().find(|scenario| scenario.name == name)
}

/// Nothing goes wrong. What differs from it is said where a scenario begins.
const CALM: Scenario = Scenario {
    name: "calm",
    summary: "nothing goes wrong: what fails here is no matter of faults",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        election_ms: [150, 400],
        heartbeats: [5, 10],
        snapshot_entries: [80, 300],
        keep_entries: [10, 100],
        segment_bytes: [16 << 10, 64 << 10],
        lease_drift_ppm: None,
        lease_checkpoint_ms: None,
    },
    network: NetworkRanges { latency_us: [100, 800], jitter_us: [0, 1200], loss_permille: [0, 0] },
    disk: DiskRanges { sync_us: [200, 1000], jitter_us: [0, 2000] },
    workload: WorkloadRanges {
        clients: [4, 16],
        grpc_percent: [0, 50],
        operations: [600, 2000],
        keys: [5, 20],
        value_bytes: [16, 256],
        timeout_ms: [400, 2000],
        think_thirds: 2,
        mix: MixRanges {
            get: [10, 40],
            get_serializable: [0, 10],
            range: [0, 15],
            put: [20, 50],
            delete: [0, 15],
            txn: [0, 25],
            compact: [0, 2],
            get_log: [0, 0],
            get_lease: [0, 0],
            lease_grant: [0, 0],
            lease_revoke: [0, 0],
            lease_keep_alive: [0, 0],
            lease_time_to_live: [0, 0],
            lease_list: [0, 0],
        },
        leases: None,
    },
    faults: FaultRanges {
        act_ms: [8_000, 12_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[],
    },
    converge_ms: 15_000,
    read_index_ms: None,
    watch: None,
    contend: None,
    proxy: None,
    services_off_percent: 0,
};

const PARTITION: Scenario = Scenario {
    name: "partition",
    summary: "halves, bridges, lonely members, one-way links, lost messages: who may still answer?",
    cluster: ClusterRanges { members: &[(1, 3), (1, 5)], ..CALM.cluster },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 30,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[HALVES, ISOLATE, ONE_WAY, BRIDGE, LOSS],
    },
    ..CALM
};

const FSYNC_DELAY: Scenario = Scenario {
    name: "fsync-delay",
    summary: "disks are slow or stand still: nothing is promised before it is durable",
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 20,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[SLOW_FSYNC, STALLED_FSYNC],
    },
    ..CALM
};

const CRASH_RESTART: Scenario = Scenario {
    name: "crash-restart",
    summary: "machines lose power, sometimes all at once, and processes die: nothing acknowledged is lost",
    cluster: ClusterRanges { members: &[(2, 1), (5, 3), (3, 5)], ..CALM.cluster },
    // Slower than elsewhere, so that a crash finds something unsynced.
    disk: DiskRanges { sync_us: [1_000, 4_000], jitter_us: [0, 8_000] },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 0,
        reckless_percent: 25,
        moments: [0, 0],
        families: &[Family { count: [4, 10], ..CRASH }, RESTART],
    },
    ..CALM
};

const UNFLUSHED_LEADER: Scenario = Scenario {
    name: "unflushed-leader",
    summary: "the leader crashes with unflushed, replicated entries, and is back before or after the election",
    cluster: ClusterRanges { members: &[(3, 3), (1, 5)], ..CALM.cluster },
    // Stalls are to be shorter than the time-out in some seeds, longer in others.
    workload: WorkloadRanges { clients: [8, 16], timeout_ms: [300, 1_200], ..CALM.workload },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[Family { count: [4, 8], ..CRASH_UNFLUSHED }],
    },
    ..CALM
};

const READ_PATHS: Scenario = Scenario {
    name: "read-paths",
    summary: "reads by every path under pause, partition, loss, crash, drift and fsync stall, each held to its own guarantee",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        lease_drift_ppm: Some([DECLARED_PPM, DECLARED_PPM]),
        ..CALM.cluster
    },
    workload: WorkloadRanges {
        clients: [8, 16],
        mix: MixRanges {
            get: [15, 30],
            get_serializable: [5, 10],
            get_log: [5, 15],
            get_lease: [15, 30],
            range: [0, 5],
            put: [25, 50],
            delete: [0, 10],
            txn: [0, 10],
            compact: [0, 1],
            ..CALM.workload.mix
        },
        ..CALM.workload
    },
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 40,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[
            HALVES,
            Family { count: [2, 6], ..ISOLATE },
            Family { count: [2, 5], ..ONE_WAY },
            LOSS,
            SLOW_LINK,
            SLOW_FSYNC,
            Family { count: [1, 4], ..BRIDGE },
            STALLED_FSYNC,
            Family { brief_percent: 70, ..CRASH },
            Family { count: [2, 5], brief_percent: 10, ..PAUSE },
            DRIFT,
        ],
    },
    ..CALM
};

const READ_STALL: Scenario = Scenario {
    name: "read-stall",
    summary: "no follower's fsync returns: writes wait for it, ReadIndex reads do not",
    cluster: ClusterRanges { members: &[(2, 3), (1, 5)], ..CALM.cluster },
    workload: WorkloadRanges {
        mix: MixRanges { get: [40, 60], get_log: [5, 15], put: [20, 40], txn: [0, 0], ..CALM.workload.mix },
        ..CALM.workload
    },
    faults: FaultRanges {
        act_ms: [8_000, 12_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[Family {
            kind: FamilyKind::FsyncStall,
            count: [2, 4],
            for_ms: [500, 2_500],
            brief_percent: 0,
            aims: &[(1, Aim::Follower), (3, Aim::Followers)],
        }],
    },
    // A follower learns of a commit by the next heartbeat at the latest, and that is 80 ms at most.
    read_index_ms: Some(150),
    ..CALM
};

const DEPOSED_LEADER: Scenario = Scenario {
    name: "deposed-leader",
    summary: "a leader is deposed and does not hear of it, while old answers are still on their way to it",
    cluster: ClusterRanges { members: &[(2, 3), (1, 5)], ..CALM.cluster },
    // Who waits for the old leader moves on soon, so that others come by and read there.
    workload: WorkloadRanges {
        clients: [10, 16],
        timeout_ms: [300, 700],
        mix: MixRanges { get: [50, 80], range: [0, 5], delete: [0, 5], txn: [0, 5], ..CALM.workload.mix },
        ..CALM.workload
    },
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[
            Family {
                kind: FamilyKind::SlowLink { latency_us: [500_000, 1_000_000], jitter_us: [0, 300_000] },
                count: [4, 7],
                for_ms: [800, 3_000],
                brief_percent: 0,
                aims: &[(1, Aim::Leader)],
            },
            Family { count: [4, 7], for_ms: [600, 2_500], brief_percent: 0, aims: &[(1, Aim::Leader)], ..ONE_WAY },
        ],
    },
    ..CALM
};

/// Almost nothing but lease reads, so that a leader that is cut off still has clients: whoever asks it for anything else
/// waits for an answer that does not come, and asks nothing more.
const LEASE_READERS: WorkloadRanges = WorkloadRanges {
    clients: [12, 16],
    operations: [1_500, 2_500],
    think_thirds: 6,
    mix: MixRanges {
        get: [0, 1],
        get_serializable: [0, 1],
        get_log: [0, 1],
        get_lease: [70, 90],
        range: [0, 0],
        put: [4, 8],
        delete: [0, 1],
        txn: [0, 1],
        compact: [0, 0],
        ..CALM.workload.mix
    },
    ..CALM.workload
};

/// Leases long enough that others can be elected, write and be answered within what is left of one.
const LONG_LEASES: ClusterRanges =
    ClusterRanges { members: &[(2, 3), (1, 5)], election_ms: [500, 1_000], ..CALM.cluster };

const LEASE_DRIFT: Scenario = Scenario {
    name: "lease-drift",
    summary: "clocks drift as far as was declared while leaders are cut off: lease reads stay linearizable",
    cluster: ClusterRanges { lease_drift_ppm: Some([500_000, 500_000]), ..LONG_LEASES },
    workload: LEASE_READERS,
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[
            Family { count: [4, 7], for_ms: [1_500, 3_000], brief_percent: 0, aims: &[(1, Aim::Leader)], ..ISOLATE },
            Family {
                kind: FamilyKind::Drift { ppm: [400_000, 500_000] },
                count: [8, 12],
                for_ms: [3_000, 8_000],
                brief_percent: 0,
                aims: &[(2, Aim::Leader), (1, Aim::Member), (1, Aim::Followers)],
            },
        ],
    },
    ..READ_PATHS
};

const LEASE_RESTART: Scenario = Scenario {
    name: "lease-restart",
    summary: "voters restart and forget the lease that they granted to a leader who is cut off meanwhile",
    cluster: ClusterRanges { election_ms: [1_000, 1_500], lease_drift_ppm: Some([0, 10_000]), ..LONG_LEASES },
    workload: LEASE_READERS,
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 0,
        reckless_percent: 0,
        // An isolation and a crash have to meet within a lease.
        moments: [4, 5],
        families: &[
            Family { count: [5, 8], for_ms: [1_200, 2_000], brief_percent: 0, aims: &[(1, Aim::Leader)], ..ISOLATE },
            // Back long before the lease ends.
            Family { count: [5, 8], for_ms: [10, 100], brief_percent: 0, aims: &[(1, Aim::Followers)], ..CRASH },
        ],
    },
    ..READ_PATHS
};

const LEASE_HAZARD: Scenario = Scenario {
    name: "lease-hazard",
    summary: "clocks drift further than was declared: lease reads may be stale, which is counted; no other read may be",
    cluster: ClusterRanges { lease_drift_ppm: Some([0, 1_000]), ..LONG_LEASES },
    ..LEASE_DRIFT
};

const BAD_LINKS: Scenario = Scenario {
    name: "bad-links",
    summary: "messages are late, overtake each other, come twice, get lost or break connections, between members and to clients",
    cluster: ClusterRanges { members: &[(1, 1), (5, 3), (4, 5)], ..CALM.cluster },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 40,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[LATENCY, REORDER, DUPLICATE, RESET, LOSS, RING, SHUT, ISOLATE],
    },
    ..CALM
};

const CRASH_POINTS: Scenario = Scenario {
    name: "crash-points",
    summary: "members die between two steps: append and fsync, fsync and answer, apply, snapshot, install, compaction",
    cluster: ClusterRanges {
        // Small, so that there is a snapshot to build or to install all the time.
        snapshot_entries: [40, 120],
        keep_entries: [5, 30],
        ..CALM.cluster
    },
    workload: WorkloadRanges { mix: MixRanges { compact: [1, 3], ..CALM.workload.mix }, ..CALM.workload },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 20,
        reckless_percent: 25,
        moments: [0, 0],
        families: &[
            Family { count: [4, 8], ..CRASH_AT },
            // Whoever was away needs a snapshot.
            Family { count: [1, 2], brief_percent: 0, ..CRASH },
            Family { count: [3, 6], brief_percent: 0, aims: &[(1, Aim::Leader), (3, Aim::Member)], ..ISOLATE },
            SNAPSHOT,
        ],
    },
    ..CALM
};

const BAD_CLOCKS: Scenario = Scenario {
    name: "bad-clocks",
    summary: "clocks drift, jump and are wrong, processes get the processor by turns: no read but a lease read may notice",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        lease_drift_ppm: Some([0, DECLARED_PPM]),
        ..CALM.cluster
    },
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 25,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[SKEW, JUMP, DRIFT, SLOW_NODE, PAUSE, ISOLATE, TRANSFER],
    },
    ..READ_PATHS
};

const DISK_ERRORS: Scenario = Scenario {
    name: "disk-errors",
    summary: "fsyncs fail and pages are gone, reads and writes fail, disks are full or slow: who stops comes back with all",
    cluster: ClusterRanges { members: &[(2, 1), (5, 3), (3, 5)], ..CALM.cluster },
    workload: WorkloadRanges { think_thirds: 5, ..CALM.workload },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 30,
        reckless_percent: 25,
        moments: [0, 0],
        families: &[FAILED_FSYNC, IO_ERROR, NO_SPACE, SLOW_DISK, CRASH],
    },
    ..CALM
};

const DISK_DAMAGE: Scenario = Scenario {
    name: "disk-damage",
    summary: "bits rot and writes go astray on a minority of the disks: what is damaged is noticed, and never served",
    // Snapshots often, since the store's file is hardly written in between.
    cluster: ClusterRanges { members: &[(2, 3), (3, 5)], snapshot_entries: [40, 120], ..CALM.cluster },
    // What is damaged late has to be met as well.
    workload: WorkloadRanges { think_thirds: 5, ..CALM.workload },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 40,
        reckless_percent: 25,
        moments: [0, 0],
        families: &[ASTRAY, BIT_ROT, CRASH],
    },
    ..CALM
};

const MEMBERSHIP: Scenario = Scenario {
    name: "membership",
    summary: "members come, learn, vote, go and are replaced, while links break and others die: who is a quorum?",
    cluster: ClusterRanges { members: &[(1, 1), (5, 3), (3, 5)], ..CALM.cluster },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges { think_thirds: 4, ..CALM.workload },
    watch: Some(WatchRanges { watchers: [0, 2], ..WATCHING }),
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 35,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            MEMBER_ADD,
            LEARNER_PROMOTION,
            MEMBER_REMOVE,
            MEMBER_REPLACE,
            HALVES,
            ISOLATE,
            CRASH,
            PAUSE,
            TRANSFER,
            SNAPSHOT,
        ],
    },
    ..CALM
};

const LOST_DISK: Scenario = Scenario {
    name: "lost-disk",
    summary: "members lose all they had and start again under their old numbers: they are refused, and may be replaced",
    cluster: ClusterRanges { members: &[(2, 3), (3, 5)], ..CALM.cluster },
    workload: WorkloadRanges { think_thirds: 5, ..CALM.workload },
    faults: FaultRanges {
        act_ms: [8_000, 15_000],
        off_percent: 0,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[LOSE_DISK, MEMBER_ADD, MEMBER_REPLACE, TRANSFER, SNAPSHOT, SLOW_FSYNC],
    },
    ..CALM
};

const WATCHING: WatchRanges =
    WatchRanges { watchers: [2, 6], progress_ms: [50, 800], fragment_bytes: [150, 3_000], piece_changes: [1, 60] };

const WATCH: Scenario = Scenario {
    name: "watch",
    summary: "clients watch, slow ones and fast ones, while members die, lag, take snapshots and forget: who misses an event?",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        snapshot_entries: [40, 150],
        keep_entries: [0, 30],
        ..CALM.cluster
    },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges {
        think_thirds: 3,
        mix: MixRanges { put: [20, 40], delete: [5, 15], txn: [5, 20], compact: [0, 4], ..CALM.workload.mix },
        ..CALM.workload
    },
    watch: Some(WATCHING),
    faults: FaultRanges {
        act_ms: [8_000, 12_000],
        off_percent: 40,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            HALVES, ISOLATE, SHUT, RESET, CRASH, RESTART, CRASH_AT, PAUSE, SLOW_LINK, TRANSFER, SNAPSHOT, COMPACTION,
            DEFRAGMENT,
        ],
    },
    ..CALM
};

/// Little happens, so that a member may die while the last change, which was forgotten at once, is still the last; and there is
/// a snapshot after every few entries, so that it comes back in just that state.
const FORGETTING: Scenario = Scenario {
    name: "forgetting",
    summary: "history is forgotten up to its last change, often a deletion, and members die before the next one: which revision is it?",
    cluster: ClusterRanges {
        members: &[(1, 1), (4, 3), (1, 5)],
        snapshot_entries: [1, 6],
        keep_entries: [0, 6],
        ..CALM.cluster
    },
    workload: WorkloadRanges {
        clients: [1, 2],
        operations: [60, 160],
        keys: [2, 6],
        mix: MixRanges { put: [20, 35], delete: [15, 35], compact: [4, 12], ..CALM.workload.mix },
        ..CALM.workload
    },
    watch: Some(WatchRanges { watchers: [0, 3], ..WATCHING }),
    faults: FaultRanges {
        act_ms: [8_000, 14_000],
        off_percent: 25,
        reckless_percent: 20,
        moments: [0, 0],
        families: &[
            Family { kind: FamilyKind::Compaction { keep: [0, 0] }, count: [4, 10], ..COMPACTION },
            Family { count: [2, 6], ..RESTART },
            Family { count: [2, 6], ..CRASH },
            CRASH_AT,
            SNAPSHOT,
            DEFRAGMENT,
            ISOLATE,
            TRANSFER,
        ],
    },
    ..CALM
};

/// Proxies between most of the clients and the members. They keep answers of fewer ranges than there are keys in some seeds.
const PROXY: Scenario = Scenario {
    name: "proxy",
    summary: "clients go by way of proxies, which are cut off, late and restarted while leaders change: who is shown the past?",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        snapshot_entries: [40, 150],
        keep_entries: [0, 30],
        ..CALM.cluster
    },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges {
        grpc_percent: [70, 100],
        think_thirds: 3,
        mix: MixRanges {
            get: [5, 15],
            get_serializable: [30, 60],
            put: [15, 30],
            delete: [3, 10],
            lease_grant: [3, 8],
            lease_revoke: [0, 3],
            lease_keep_alive: [0, 15],
            lease_time_to_live: [0, 4],
            ..CALM.workload.mix
        },
        leases: Some(LEASING),
        ..CALM.workload
    },
    watch: Some(WatchRanges { watchers: [1, 5], ..WATCHING }),
    contend: Some(ContendRanges { contenders: [0, 3], observers: [0, 1], ..CONTENDING }),
    proxy: Some(ProxyRanges { proxies: [1, 2], staleness_ms: [300, 2_000], ranges: [2, 60], percent: [60, 100] }),
    faults: FaultRanges {
        act_ms: [8_000, 14_000],
        off_percent: 40,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            PROXY_RESTART,
            PROXY_CUT,
            PROXY_SLOW,
            HALVES,
            ISOLATE,
            SHUT,
            RESET,
            CRASH,
            RESTART,
            PAUSE,
            SLOW_LINK,
            SLOW_FSYNC,
            TRANSFER,
            SNAPSHOT,
            COMPACTION,
        ],
    },
    ..CALM
};

const LEASING: LeaseRanges = LeaseRanges { numbers: [2, 20], ttl_s: [1, 2], more_s: [0, 5], leased_percent: [20, 80] };

const LEASES: Scenario = Scenario {
    name: "leases",
    summary: "leases are granted, kept and attached to while leaders change and clocks run wrong: which key goes early, or stays?",
    cluster: ClusterRanges {
        members: &[(1, 1), (6, 3), (3, 5)],
        snapshot_entries: [40, 150],
        keep_entries: [0, 30],
        lease_checkpoint_ms: Some([200, 1_500]),
        ..CALM.cluster
    },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges {
        mix: MixRanges {
            get: [5, 20],
            lease_grant: [5, 15],
            lease_revoke: [0, 4],
            lease_keep_alive: [0, 30],
            lease_time_to_live: [2, 10],
            lease_list: [0, 4],
            ..CALM.workload.mix
        },
        leases: Some(LEASING),
        ..CALM.workload
    },
    watch: Some(WatchRanges { watchers: [0, 2], ..WATCHING }),
    faults: FaultRanges {
        act_ms: [8_000, 14_000],
        off_percent: 45,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            HALVES, ISOLATE, ONE_WAY, SHUT, RESET, CRASH, RESTART, CRASH_AT, PAUSE, SLOW_NODE, SLOW_LINK, SLOW_FSYNC,
            TRANSFER, SNAPSHOT, COMPACTION, DEFRAGMENT, DRIFT, JUMP, SKEW,
        ],
    },
    ..CALM
};

/// Almost nothing but keep-alives, so that a leader that is cut off still has clients: whoever asks it for anything else
/// waits for an answer that does not come, and goes elsewhere. Many leases, so that most are kept now and then.
const LEASE_KEEPERS: Scenario = Scenario {
    name: "lease-keepers",
    summary: "leaders are cut off, paused and deposed while clients keep leases alive: whose promise counts?",
    cluster: ClusterRanges { members: &[(5, 3), (1, 5)], lease_checkpoint_ms: Some([300, 3_000]), ..CALM.cluster },
    workload: WorkloadRanges {
        clients: [8, 16],
        operations: [1_000, 2_000],
        think_thirds: 5,
        mix: MixRanges {
            get: [0, 2],
            get_serializable: [0, 0],
            range: [0, 0],
            put: [4, 8],
            delete: [0, 0],
            txn: [0, 0],
            compact: [0, 0],
            get_log: [0, 0],
            get_lease: [0, 0],
            lease_grant: [8, 15],
            lease_revoke: [0, 0],
            lease_keep_alive: [60, 90],
            lease_time_to_live: [0, 5],
            lease_list: [0, 0],
        },
        leases: Some(LeaseRanges { numbers: [10, 80], ttl_s: [1, 3], more_s: [0, 5], leased_percent: [50, 100] }),
        ..CALM.workload
    },
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 40,
        reckless_percent: 0,
        moments: [0, 0],
        families: &[
            Family { for_ms: [1_000, 4_000], ..HALVES },
            Family { for_ms: [1_500, 4_000], aims: &[(1, Aim::Leader)], ..PAUSE },
            Family { count: [3, 8], ..TRANSFER },
            RESTART,
            SLOW_LINK,
        ],
    },
    ..CALM
};

const CONTENDING: ContendRanges = ContendRanges {
    contenders: [3, 10],
    observers: [1, 3],
    names: [1, 2],
    ttl_s: [1, 1],
    more_s: [0, 3],
    hold_ms: [50, 1_000],
};

const LOCKS: Scenario = Scenario {
    name: "locks",
    summary: "clients contend for locks and offices, sleep through their leases, and write: does a fence let two through?",
    cluster: ClusterRanges { members: &[(1, 1), (6, 3), (3, 5)], snapshot_entries: [40, 150], ..CALM.cluster },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges { operations: [100, 400], ..CALM.workload },
    contend: Some(CONTENDING),
    watch: Some(WatchRanges { watchers: [0, 2], ..WATCHING }),
    faults: FaultRanges {
        act_ms: [8_000, 14_000],
        off_percent: 45,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            HALVES, ISOLATE, SHUT, RESET, CRASH, RESTART, PAUSE, SLOW_LINK, SLOW_FSYNC, TRANSFER, SNAPSHOT, COMPACTION,
            DRIFT, JUMP,
        ],
    },
    ..CALM
};

const EVERYTHING: Scenario = Scenario {
    name: "everything",
    summary: "all families of faults together, and all services, about half of them in each seed",
    // Whoever was away for a moment needs a snapshot more often than not.
    cluster: ClusterRanges {
        members: &[(1, 1), (5, 3), (4, 5)],
        keep_entries: [0, 30],
        lease_checkpoint_ms: Some([200, 1_500]),
        ..CALM.cluster
    },
    network: NetworkRanges { loss_permille: [0, 3], ..CALM.network },
    workload: WorkloadRanges {
        mix: MixRanges {
            // Often enough for members to die of it.
            compact: [1, 4],
            lease_grant: [3, 10],
            lease_revoke: [0, 3],
            lease_keep_alive: [0, 15],
            lease_time_to_live: [0, 5],
            lease_list: [0, 3],
            ..CALM.workload.mix
        },
        leases: Some(LEASING),
        ..CALM.workload
    },
    watch: Some(WatchRanges { watchers: [1, 4], ..WATCHING }),
    contend: Some(ContendRanges { contenders: [2, 6], observers: [0, 2], ..CONTENDING }),
    proxy: Some(ProxyRanges { proxies: [1, 2], staleness_ms: [300, 2_000], ranges: [2, 60], percent: [20, 100] }),
    services_off_percent: 50,
    faults: FaultRanges {
        act_ms: [10_000, 15_000],
        off_percent: 50,
        reckless_percent: 15,
        moments: [0, 0],
        families: &[
            HALVES,
            ISOLATE,
            ONE_WAY,
            BRIDGE,
            LOSS,
            SLOW_LINK,
            SLOW_FSYNC,
            STALLED_FSYNC,
            CRASH,
            RESTART,
            CRASH_UNFLUSHED,
            PAUSE,
            DRIFT,
            RING,
            SHUT,
            LATENCY,
            REORDER,
            DUPLICATE,
            RESET,
            SKEW,
            JUMP,
            CRASH_AT,
            SLOW_NODE,
            TRANSFER,
            SNAPSHOT,
            DEFRAGMENT,
            COMPACTION,
            FAILED_FSYNC,
            IO_ERROR,
            NO_SPACE,
            SLOW_DISK,
            BIT_ROT,
            // Few of them are ever noticed: what they hit is often forgotten, or written anew.
            Family { count: [2, 4], ..ASTRAY },
            MEMBER_ADD,
            LEARNER_PROMOTION,
            MEMBER_REMOVE,
            MEMBER_REPLACE,
            PROXY_RESTART,
            PROXY_CUT,
            PROXY_SLOW,
        ],
    },
    ..CALM
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use seedbed_sim::plan::{FaultKind, Plan, Target};

    use super::*;

    fn plans(scenario: &'static Scenario) -> impl Iterator<Item = Plan> {
        (0..300).map(|seed| scenario.plan(seed))
    }

    #[test]
    fn every_plan_of_every_scenario_is_valid() {
        for scenario in &CATALOGUE {
            for plan in plans(scenario) {
                assert_eq!(plan.faults.is_empty(), scenario.faults.families.is_empty(), "{}", scenario.name);
                assert_eq!(plan.validate(), Ok(()), "{} {}", scenario.name, plan.seed);
            }
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for name in names {
            assert_eq!(find(name).map(|scenario| scenario.name), Some(name));
        }
        assert!(find("gale").is_none());
    }

    #[test]
    fn none_to_half_of_the_clients_speak_grpc() {
        let shares: Vec<_> = plans(&CALM).map(|plan| (plan.workload.grpc_clients, plan.workload.clients)).collect();
        assert!(shares.iter().all(|(grpc, clients)| 2 * grpc <= *clients));
        assert!(shares.iter().any(|(grpc, _)| *grpc == 0) && shares.iter().any(|(grpc, clients)| 2 * grpc == *clients));
    }

    #[test]
    fn scenarios_differ_in_what_they_do_to_the_same_seed() {
        let texts: BTreeSet<String> =
            CATALOGUE.iter().map(|scenario| serde_json::to_string(&scenario.plan(1).faults).expect("plain")).collect();
        assert_eq!(texts.len(), CATALOGUE.len());
    }

    #[test]
    fn a_crash_of_one_member_alone_and_of_everyone_is_tried() {
        let crashes = |plan: &Plan, whom: fn(&Target) -> bool| {
            plan.faults.iter().any(|fault| matches!(&fault.fault, FaultKind::Crash { target } if whom(target)))
        };
        let alone = plans(&CRASH_RESTART).filter(|plan| plan.cluster.members == 1 && crashes(plan, |_| true)).count();
        let everyone = plans(&CRASH_RESTART)
            .filter(|plan| plan.cluster.members > 1 && crashes(plan, |target| *target == Target::Everyone))
            .count();
        assert!(alone > 30 && everyone > 60, "alone in {alone}, everyone in {everyone} of 300");
    }

    #[test]
    fn unflushed_leaders_stall_on_either_side_of_the_time_out_and_return_on_either_side_of_the_election() {
        let mut seen = BTreeSet::new();
        for plan in plans(&UNFLUSHED_LEADER) {
            assert!(plan.cluster.members >= 3, "the others keep a quorum");
            for fault in &plan.faults {
                if let FaultKind::CrashUnflushed { target: Target::Leader, stall_ms } = fault.fault {
                    seen.insert((stall_ms < plan.workload.timeout_ms, fault.for_ms < plan.cluster.election_ms));
                }
            }
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn everything_switches_about_half_of_the_families_off() {
        let families = plans(&EVERYTHING)
            .map(|plan| {
                let kinds: BTreeSet<String> = plan.faults.iter().map(|fault| kind(&fault.fault)).collect();
                kinds.len()
            })
            .collect::<Vec<_>>();
        let mean = families.iter().sum::<usize>() as f64 / families.len() as f64;
        let share = mean / EVERYTHING.faults.families.len() as f64;
        // Somewhat less than half: some need more members than a seed has.
        assert!((0.25..0.54).contains(&share), "{mean} families a seed");
    }

    fn kind(fault: &FaultKind) -> String {
        match serde_json::to_value(fault).expect("plain") {
            serde_json::Value::Object(fields) => fields.keys().next().cloned().expect("a kind has a name"),
            name => name.as_str().expect("a kind without fields is its name").to_owned(),
        }
    }
}
