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
    stalled: Vec<NodeId>,
    crashed: Vec<NodeId>,
    lost: bool,
}

impl CrashUnflushed {
    pub(super) fn new(place: usize, target: Target) -> Self {
        CrashUnflushed { place, target, stalled: Vec::new(), crashed: Vec::new(), lost: false }
    }
}

impl Nemesis for CrashUnflushed {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.stalled = cluster.resolve(self.target);
        for &id in &self.stalled {
            cluster.stall(id, self.place);
        }
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        for &id in &self.stalled {
            self.lost |= cluster.disk(id).unsynced() > 0;
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
        !self.crashed.is_empty() && self.lost
    }
}
