//! Wall clocks that are wrong.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// A wall clock is off, and right again at the end.
pub(super) struct Skew {
    target: Target,
    by_ms: i64,
    skewed: Vec<NodeId>,
}

impl Skew {
    pub(super) fn new(target: Target, by_ms: i64) -> Self {
        Skew { target, by_ms, skewed: Vec::new() }
    }
}

impl Nemesis for Skew {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.skewed = cluster.resolve(self.target);
        self.skewed.iter().for_each(|&id| cluster.clock(id).shift_wall(self.by_ms));
    }

    /// It always takes effect on whom it meets: the clock is wrong whoever looks.
    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.skewed.iter().for_each(|&id| cluster.clock(id).shift_wall(-self.by_ms));
        !self.skewed.is_empty()
    }
}
