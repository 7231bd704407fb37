//! Processes that get too little of the processor: they run for a while, stand still for a while, and run again.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// A process runs by turns.
pub(super) struct SlowNode {
    target: Target,
    /// Who.
    slowed: Vec<NodeId>,
    /// Those of them who stand still now.
    stopped: Vec<NodeId>,
    /// Whether anybody ever did.
    felt: bool,
}

impl SlowNode {
    pub(super) fn new(target: Target) -> Self {
        SlowNode { target, slowed: Vec::new(), stopped: Vec::new(), felt: false }
    }
}

impl Nemesis for SlowNode {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.slowed = cluster.resolve(self.target);
    }

    /// The end of a turn: whoever ran stands still, and whoever stood still runs.
    fn proceed(&mut self, cluster: &mut Cluster) {
        if self.stopped.is_empty() {
            self.stopped = self.slowed.iter().copied().filter(|&id| cluster.pause(id)).collect();
            self.felt |= !self.stopped.is_empty();
        } else {
            self.stopped.drain(..).for_each(|id| cluster.resume(id));
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.stopped.drain(..).for_each(|id| cluster.resume(id));
        self.felt
    }
}
