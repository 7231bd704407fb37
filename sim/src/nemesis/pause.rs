//! Processes that stop and go on, knowing nothing of it.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// SIGSTOP, and SIGCONT at the end.
pub(super) struct Pause {
    target: Target,
    paused: Vec<NodeId>,
}

impl Pause {
    pub(super) fn new(target: Target) -> Self {
        Pause { target, paused: Vec::new() }
    }
}

impl Nemesis for Pause {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.paused = cluster.resolve(self.target);
        self.paused.retain(|&id| cluster.pause(id));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.paused {
            cluster.resume(id);
        }
        !self.paused.is_empty()
    }
}
