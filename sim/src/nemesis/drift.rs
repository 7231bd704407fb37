//! Clocks that run fast or slow.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// A clock runs at another rate than true time.
pub(super) struct Drift {
    place: usize,
    target: Target,
    ppm: i64,
    drifting: Vec<NodeId>,
}

impl Drift {
    pub(super) fn new(place: usize, target: Target, ppm: i64) -> Self {
        Drift { place, target, ppm, drifting: Vec::new() }
    }
}

impl Nemesis for Drift {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            cluster.drift(id, self.place, self.ppm);
            self.drifting.push(id);
        }
    }

    /// It always takes effect on whom it meets: time passes.
    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.drifting {
            cluster.undrift(id, self.place);
        }
        !self.drifting.is_empty()
    }
}
