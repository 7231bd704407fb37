//! Processes that die on machines that live.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// The process is killed and started again at the end. What it had written is there, synced or not.
pub(super) struct Restart {
    target: Target,
    killed: Vec<NodeId>,
}

impl Restart {
    pub(super) fn new(target: Target) -> Self {
        Restart { target, killed: Vec::new() }
    }
}

impl Nemesis for Restart {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.killed = cluster.resolve(self.target);
        self.killed.retain(|&id| cluster.kill(id));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.killed {
            cluster.boot(id);
        }
        !self.killed.is_empty()
    }
}
