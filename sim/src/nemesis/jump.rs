//! Monotonic clocks that jump forward, as when a machine was suspended: all at once, deadlines have passed.

use std::time::Duration;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::evidence;
use crate::plan::Target;

/// A clock jumps forward when the fault begins.
pub(super) struct Jump {
    target: Target,
    by_ms: u64,
    /// Whether anybody's did.
    jumped: bool,
}

impl Jump {
    pub(super) fn new(target: Target, by_ms: u64) -> Self {
        Jump { target, by_ms, jumped: false }
    }
}

impl Nemesis for Jump {
    fn begin(&mut self, cluster: &mut Cluster) {
        let by = Duration::from_millis(self.by_ms);
        for id in cluster.resolve(self.target) {
            cluster.clock(id).jump(by);
            evidence::jumped(by);
            self.jumped = true;
        }
    }

    /// Nothing to heal: a monotonic clock does not go back.
    fn end(&mut self, _: &mut Cluster) -> bool {
        self.jumped
    }
}
