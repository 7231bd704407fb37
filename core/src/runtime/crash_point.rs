//! Places at which a simulated member can be made to die: between two steps that only a crash tears apart.
//!
//! Like planted bugs they are a type of the runtime. The server's says [`NoCrashPoints`], and every place folds to
//! nothing.

use std::fmt;
use std::future::{Future, ready};

use serde::{Deserialize, Serialize};

/// A place in the store's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashPoint {
    /// Records are written to the WAL and not synced.
    WalAppend,
    /// Records of the WAL are durable, and nobody has been told.
    WalSync,
    /// Entries are applied, and neither durable in the store nor answered.
    Apply,
    /// The view of a snapshot is taken, and the store is not yet durable up to it.
    SnapshotBuild,
    /// All rows of a received snapshot are read, and it has not replaced the store.
    SnapshotInstall,
    /// A compaction is applied, and the rows that it gave up are not all removed.
    Compaction,
    /// The store's file is made shorter, and that is not durable yet.
    Defragment,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [CrashPoint; 7] = [
        CrashPoint::WalAppend,
        CrashPoint::WalSync,
        CrashPoint::Apply,
        CrashPoint::SnapshotBuild,
        CrashPoint::SnapshotInstall,
        CrashPoint::Compaction,
        CrashPoint::Defragment,
    ];

    /// The name used in plans.
    pub fn name(self) -> &'static str {
        match self {
            CrashPoint::WalAppend => "wal-append",
            CrashPoint::WalSync => "wal-sync",
            CrashPoint::Apply => "apply",
            CrashPoint::SnapshotBuild => "snapshot-build",
            CrashPoint::SnapshotInstall => "snapshot-install",
            CrashPoint::Compaction => "compaction",
            CrashPoint::Defragment => "defragment",
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may end a member's life at such a place.
pub trait CrashPoints: Send + Sync + 'static {
    /// The current task has come there. Does not resolve if the member dies of it.
    fn reached(point: CrashPoint) -> impl Future<Output = ()> + Send;
}

/// Nobody: the only choice of a real server.
#[derive(Clone, Copy, Debug)]
pub enum NoCrashPoints {}

impl CrashPoints for NoCrashPoints {
    #[inline(always)]
    fn reached(_: CrashPoint) -> impl Future<Output = ()> + Send {
        ready(())
    }
}
