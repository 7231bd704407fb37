//! Links that carry nothing. Where they are those between members, clients still reach every member: a leader that is cut
//! off from the others and still answers clients is the one that serves stale reads.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::network::FaultId;
use crate::plan::FaultKind;

/// Links that are cut.
pub(super) struct Partition {
    kind: FaultKind,
    cuts: Vec<FaultId>,
}

impl Partition {
    pub(super) fn new(kind: FaultKind) -> Self {
        Partition { kind, cuts: Vec::new() }
    }
}

impl Nemesis for Partition {
    fn begin(&mut self, cluster: &mut Cluster) {
        let network = &cluster.network;
        let ids = |side: &[u64]| side.iter().map(|&id| NodeId(id)).collect::<Vec<_>>();
        self.cuts = match &self.kind {
            FaultKind::Halves { side } => vec![network.halves(&ids(side))],
            FaultKind::Bridge { bridge, side } => vec![network.bridge(NodeId(*bridge), &ids(side))],
            FaultKind::Ring { order } => vec![network.ring(&ids(order))],
            FaultKind::Shut { target } => cluster.resolve(*target).into_iter().map(|id| network.shut(id)).collect(),
            FaultKind::Isolate { target } => {
                cluster.resolve(*target).into_iter().map(|id| network.isolate(id)).collect()
            }
            FaultKind::OneWay { target } => {
                cluster.resolve(*target).into_iter().map(|id| network.one_way(id)).collect()
            }
            other => panic!("not a partition: {other:?}"),
        };
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let dropped: u64 = self.cuts.drain(..).map(|cut| cluster.network.heal(cut)).sum();
        dropped > 0
    }
}
