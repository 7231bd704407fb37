//! The families of faults, each as the scenarios that mix them have it.

use seedbed_sim::CrashPoint;
use seedbed_sim::plan::{Aim, Family, FamilyKind, LinkAim};

/// What all members' clocks keep to in `read-paths`: a lot, so that a lease without a margin for it fails.
pub(super) const DECLARED_PPM: u64 = 200_000;

const ANYBODY: &[(u32, Aim)] = &[(3, Aim::Leader), (1, Aim::Follower), (2, Aim::Member)];
const ANYBODY_OR_ALL: &[(u32, Aim)] = &[(3, Aim::Leader), (1, Aim::Follower), (2, Aim::Member), (2, Aim::Everyone)];

/// For what takes a member from the cluster: one by number more often than not. There is room for a minority of them, and
/// a leader or a follower counts as another one each time.
const ONE: &[(u32, Aim)] = &[(1, Aim::Leader), (1, Aim::Follower), (6, Aim::Member)];

pub(super) const HALVES: Family =
    Family { kind: FamilyKind::Halves, count: [1, 3], for_ms: [300, 3_000], brief_percent: 20, aims: &[] };
pub(super) const ISOLATE: Family =
    Family { kind: FamilyKind::Isolate, count: [1, 4], for_ms: [300, 2_500], brief_percent: 20, aims: ANYBODY };
pub(super) const ONE_WAY: Family =
    Family { kind: FamilyKind::OneWay, count: [1, 4], for_ms: [300, 2_500], brief_percent: 20, aims: ANYBODY };
pub(super) const BRIDGE: Family =
    Family { kind: FamilyKind::Bridge, count: [1, 2], for_ms: [500, 3_000], brief_percent: 0, aims: &[] };
pub(super) const LOSS: Family = Family {
    kind: FamilyKind::Loss { permille: [10, 300] },
    count: [1, 2],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const SLOW_LINK: Family = Family {
    kind: FamilyKind::SlowLink { latency_us: [100_000, 600_000], jitter_us: [100_000, 1_500_000] },
    count: [2, 5],
    for_ms: [500, 3_000],
    brief_percent: 0,
    aims: ANYBODY,
};
pub(super) const RING: Family =
    Family { kind: FamilyKind::Ring, count: [1, 2], for_ms: [500, 3_000], brief_percent: 0, aims: &[] };
pub(super) const SHUT: Family =
    Family { kind: FamilyKind::Shut, count: [1, 3], for_ms: [300, 3_000], brief_percent: 20, aims: ANYBODY };
const ANY_LINKS: &[(u32, LinkAim)] =
    &[(3, LinkAim::Members), (2, LinkAim::Clients), (1, LinkAim::All), (2, LinkAim::One)];
pub(super) const LATENCY: Family = Family {
    kind: FamilyKind::Latency { links: ANY_LINKS, delay_us: [1_000, 40_000], jitter_us: [0, 80_000] },
    count: [1, 3],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const REORDER: Family = Family {
    kind: FamilyKind::Reorder {
        links: ANY_LINKS,
        permille: [20, 400],
        delay_us: [1_000, 100_000],
        jitter_us: [0, 400_000],
    },
    count: [1, 3],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const DUPLICATE: Family = Family {
    kind: FamilyKind::Duplicate {
        links: &[(3, LinkAim::Members), (2, LinkAim::One)],
        permille: [20, 500],
        after_us: [0, 10_000],
        jitter_us: [0, 400_000],
    },
    count: [1, 3],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const RESET: Family = Family {
    kind: FamilyKind::Reset { links: ANY_LINKS, permille: [5, 200] },
    count: [1, 3],
    for_ms: [500, 3_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const SKEW: Family = Family {
    kind: FamilyKind::Skew { by_ms: [100, 3_600_000] },
    count: [1, 3],
    for_ms: [1_000, 6_000],
    brief_percent: 0,
    aims: ANYBODY,
};
pub(super) const JUMP: Family = Family {
    kind: FamilyKind::Jump { by_ms: [10, 3_000] },
    count: [1, 3],
    for_ms: [10, 10],
    brief_percent: 0,
    aims: ANYBODY,
};
pub(super) const SLOW_NODE: Family = Family {
    kind: FamilyKind::SlowNode { run_ms: [5, 60], stop_ms: [5, 200] },
    count: [1, 3],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: ANYBODY,
};
pub(super) const TRANSFER: Family =
    Family { kind: FamilyKind::Transfer, count: [1, 4], for_ms: [200, 1_000], brief_percent: 0, aims: &[] };
pub(super) const SNAPSHOT: Family =
    Family { kind: FamilyKind::Snapshot, count: [1, 4], for_ms: [200, 1_000], brief_percent: 0, aims: ANYBODY_OR_ALL };
pub(super) const DEFRAGMENT: Family = Family {
    kind: FamilyKind::Defragment,
    count: [1, 4],
    for_ms: [200, 1_000],
    brief_percent: 0,
    aims: ANYBODY_OR_ALL,
};
pub(super) const COMPACTION: Family = Family {
    kind: FamilyKind::Compaction { keep: [0, 20] },
    count: [1, 4],
    for_ms: [1_000, 2_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const CRASH_AT: Family = Family {
    // Snapshots and compactions are rare: whoever builds one, installs one or compacts dies the first time.
    kind: FamilyKind::CrashAt {
        points: &[
            (2, (CrashPoint::WalAppend, [1, 30])),
            (2, (CrashPoint::WalSync, [1, 30])),
            (2, (CrashPoint::Apply, [1, 30])),
            (3, (CrashPoint::SnapshotBuild, [1, 2])),
            (5, (CrashPoint::SnapshotInstall, [1, 1])),
            (3, (CrashPoint::Compaction, [1, 2])),
            (2, (CrashPoint::Defragment, [1, 1])),
        ],
    },
    count: [2, 5],
    for_ms: [1_500, 6_000],
    brief_percent: 0,
    aims: &[(2, Aim::Leader), (1, Aim::Follower), (2, Aim::Member), (4, Aim::Everyone)],
};
pub(super) const DRIFT: Family = Family {
    kind: FamilyKind::Drift { ppm: [DECLARED_PPM / 4, DECLARED_PPM] },
    count: [2, 6],
    for_ms: [1_000, 6_000],
    brief_percent: 0,
    aims: ANYBODY,
};
pub(super) const SLOW_FSYNC: Family = Family {
    kind: FamilyKind::FsyncDelay { sync_us: [2_000, 80_000], jitter_us: [0, 120_000] },
    count: [1, 4],
    for_ms: [500, 3_000],
    brief_percent: 10,
    aims: ANYBODY_OR_ALL,
};
pub(super) const STALLED_FSYNC: Family = Family {
    kind: FamilyKind::FsyncStall,
    count: [1, 4],
    for_ms: [100, 2_500],
    brief_percent: 30,
    aims: ANYBODY_OR_ALL,
};
pub(super) const CRASH: Family =
    Family { kind: FamilyKind::Crash, count: [1, 5], for_ms: [200, 2_500], brief_percent: 40, aims: ANYBODY_OR_ALL };
pub(super) const RESTART: Family =
    Family { kind: FamilyKind::Restart, count: [1, 5], for_ms: [50, 2_000], brief_percent: 60, aims: ANYBODY_OR_ALL };
pub(super) const PAUSE: Family =
    Family { kind: FamilyKind::Pause, count: [1, 4], for_ms: [200, 2_500], brief_percent: 20, aims: ANYBODY };
pub(super) const CRASH_UNFLUSHED: Family = Family {
    kind: FamilyKind::CrashUnflushed { stall_ms: [20, 1_500] },
    count: [1, 4],
    for_ms: [200, 2_500],
    // Back before the others elect, it could lead on.
    brief_percent: 55,
    aims: &[(6, Aim::Leader), (1, Aim::Follower)],
};
pub(super) const FAILED_FSYNC: Family = Family {
    kind: FamilyKind::FsyncFailure { permille: [20, 1_000] },
    count: [1, 4],
    for_ms: [100, 2_000],
    brief_percent: 40,
    aims: ANYBODY_OR_ALL,
};
pub(super) const IO_ERROR: Family = Family {
    kind: FamilyKind::IoError { permille: [2, 1_000] },
    count: [1, 4],
    for_ms: [100, 2_000],
    brief_percent: 40,
    aims: ANYBODY_OR_ALL,
};
pub(super) const NO_SPACE: Family =
    Family { kind: FamilyKind::NoSpace, count: [1, 3], for_ms: [100, 2_000], brief_percent: 30, aims: ANYBODY_OR_ALL };
pub(super) const SLOW_DISK: Family = Family {
    kind: FamilyKind::SlowDisk { delay_us: [100, 10_000], jitter_us: [0, 10_000] },
    count: [1, 3],
    for_ms: [500, 3_000],
    brief_percent: 10,
    aims: ANYBODY_OR_ALL,
};
pub(super) const BIT_ROT: Family = Family {
    kind: FamilyKind::BitRot { bits: [1, 3], rest_ms: [0, 2_000] },
    count: [1, 2],
    for_ms: [500, 2_500],
    brief_percent: 0,
    aims: ONE,
};
pub(super) const ASTRAY: Family = Family {
    kind: FamilyKind::MisdirectedWrite { rest_ms: [500, 3_000] },
    count: [1, 2],
    for_ms: [500, 2_500],
    brief_percent: 0,
    aims: ONE,
};
pub(super) const LOSE_DISK: Family =
    Family { kind: FamilyKind::LoseDisk, count: [1, 2], for_ms: [1_500, 4_000], brief_percent: 0, aims: ONE };
pub(super) const MEMBER_ADD: Family =
    Family { kind: FamilyKind::MemberAdd, count: [1, 2], for_ms: [1_000, 4_000], brief_percent: 0, aims: &[] };
pub(super) const LEARNER_PROMOTION: Family = Family {
    kind: FamilyKind::LearnerPromotion { learn_ms: [200, 2_000] },
    count: [1, 2],
    for_ms: [2_500, 6_000],
    brief_percent: 0,
    aims: &[],
};
pub(super) const MEMBER_REMOVE: Family =
    Family { kind: FamilyKind::MemberRemove, count: [1, 2], for_ms: [500, 3_000], brief_percent: 0, aims: ONE };
/// Long enough for a removal, an addition and a snapshot, while other faults hold them up.
pub(super) const MEMBER_REPLACE: Family =
    Family { kind: FamilyKind::MemberReplace, count: [1, 2], for_ms: [2_500, 6_000], brief_percent: 0, aims: ONE };
pub(super) const PROXY_RESTART: Family =
    Family { kind: FamilyKind::ProxyRestart, count: [1, 3], for_ms: [50, 2_000], brief_percent: 30, aims: &[] };
pub(super) const PROXY_CUT: Family =
    Family { kind: FamilyKind::ProxyCut, count: [1, 3], for_ms: [500, 4_000], brief_percent: 20, aims: &[] };
pub(super) const PROXY_SLOW: Family = Family {
    kind: FamilyKind::ProxySlow { latency_us: [5_000, 200_000], jitter_us: [0, 200_000] },
    count: [1, 2],
    for_ms: [500, 4_000],
    brief_percent: 0,
    aims: &[],
};
