//! Links on which messages are long under way. They arrive, and may be old by then: the answer to a question that nobody
//! asks any more.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// What other members send to the target takes its time; what it sends does not.
pub(super) struct SlowLink {
    place: usize,
    target: Target,
    latency_us: [u64; 2],
    slowed: Vec<NodeId>,
    /// Messages sent in the whole network before.
    sent: u64,
}

impl SlowLink {
    pub(super) fn new(place: usize, target: Target, latency_us: [u64; 2]) -> Self {
        SlowLink { place, target, latency_us, slowed: Vec::new(), sent: 0 }
    }
}

impl Nemesis for SlowLink {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.sent = cluster.network.stats().sent;
        self.slowed = cluster.resolve(self.target);
        for &id in &self.slowed {
            cluster.slow_links(id, self.place, self.latency_us);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &id in &self.slowed {
            cluster.unslow_links(id, self.place);
        }
        !self.slowed.is_empty() && cluster.network.stats().sent > self.sent
    }
}
