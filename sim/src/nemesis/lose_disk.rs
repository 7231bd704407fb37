//! Members that lose everything they had on their disk, and start again under their old numbers.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::{Cluster, DISK_LOST};
use crate::plan::Target;

/// The process dies, its disk is emptied, and it is started again half-way. It has to be refused, and stays out.
pub(super) struct LoseDisk {
    target: Target,
    lost: Option<NodeId>,
}

impl LoseDisk {
    pub(super) fn new(target: Target) -> Self {
        LoseDisk { target, lost: None }
    }
}

impl Nemesis for LoseDisk {
    fn begin(&mut self, cluster: &mut Cluster) {
        let ids = cluster.ids();
        // Whom the others have not heard of yet cannot be told from one who is new, here or in etcd.
        let known = |id: NodeId| {
            let mut others = ids.iter().filter(|other| **other != id).filter_map(|other| cluster.node(*other));
            others.all(|other| other.knows(id).unwrap_or(false))
        };
        self.lost = cluster.resolve(self.target).into_iter().find(|id| ids.contains(id) && known(*id));
        if let Some(id) = self.lost {
            cluster.crash(id);
            cluster.wipe(id);
        }
    }

    fn come_back(&mut self, cluster: &mut Cluster) {
        self.lost.iter().for_each(|&id| cluster.boot(id));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let refused = |id: &NodeId| cluster.refusal(*id).is_some_and(|error| error.contains(DISK_LOST));
        self.lost.as_ref().is_some_and(refused)
    }
}
