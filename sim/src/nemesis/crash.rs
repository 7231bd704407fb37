//! Processes that die.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// The process dies at once and is started again at the end.
pub(super) struct Crash {
    target: Target,
    crashed: Vec<NodeId>,
}

impl Crash {
    pub(super) fn new(target: Target) -> Self {
        Crash { target, crashed: Vec::new() }
    }
}

impl Nemesis for Crash {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.crashed = cluster.resolve(self.target);
        self.crashed.retain(|&id| cluster.crash(id));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.crashed {
            cluster.boot(id);
        }
        !self.crashed.is_empty()
    }
}

/// The disk stalls, so that what is appended stays unflushed while it is replicated; then the process dies.
pub(super) struct CrashUnflushed {
    place: usize,
    target: Target,
    /// Whom it met, with the syncs that their disks had held up before.
    stalled: Vec<(NodeId, u64)>,
    crashed: Vec<NodeId>,
    /// Whether a sync was held up until the crash.
    unflushed: bool,
}

impl CrashUnflushed {
    pub(super) fn new(place: usize, target: Target) -> Self {
        CrashUnflushed { place, target, stalled: Vec::new(), crashed: Vec::new(), unflushed: false }
    }
}

impl Nemesis for CrashUnflushed {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            self.stalled.push((id, cluster.disk(id).stats().stalled_syncs));
            cluster.stall(id, self.place);
        }
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        for &(id, before) in &self.stalled {
            self.unflushed |= cluster.disk(id).stats().stalled_syncs > before;
            if cluster.crash(id) {
                self.crashed.push(id);
            }
            cluster.unstall(id, self.place);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.crashed {
            cluster.boot(id);
        }
        !self.crashed.is_empty() && self.unflushed
    }
}
