//! Links on which messages are long under way. They arrive, and may be old by then: the answer to a question that nobody
//! asks any more.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::network::Address;
use crate::plan::Target;

/// What other members send to the target takes its time; what it sends does not.
pub(super) struct SlowLink {
    place: usize,
    target: Target,
    latency_us: [u64; 2],
    /// Who, and how many messages had been slow on the way to him before.
    slowed: Vec<(NodeId, u64)>,
}

impl SlowLink {
    pub(super) fn new(place: usize, target: Target, latency_us: [u64; 2]) -> Self {
        SlowLink { place, target, latency_us, slowed: Vec::new() }
    }
}

impl Nemesis for SlowLink {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            self.slowed.push((id, cluster.network.weathered(Address::Member(id))));
            cluster.slow_links(id, self.place, self.latency_us);
        }
    }

    /// It has had an effect if something was sent on these links meanwhile.
    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let mut felt = false;
        for &(id, before) in &self.slowed {
            cluster.unslow_links(id, self.place);
            felt |= cluster.network.weathered(Address::Member(id)) > before;
        }
        felt
    }
}
