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
        // Whom the others have not heard of yet cannot be told from one who is new, here or in etcd.
        let mut met = cluster.resolve(self.target).into_iter();
        self.lost = met.find(|&id| cluster.ids().contains(&id) && known(cluster, id));
        if let Some(id) = self.lost {
            cluster.crash(id);
            cluster.wipe(id);
        }
    }

    fn come_back(&mut self, cluster: &mut Cluster) {
        if let Some(id) = self.lost.filter(|&id| known(cluster, id)) {
            cluster.boot(id);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let refused = |id: &NodeId| cluster.refusal(*id).is_some_and(|error| error.contains(DISK_LOST));
        self.lost.as_ref().is_some_and(refused)
    }
}

/// Whether all others that run know a member, and there is one.
fn known(cluster: &Cluster, id: NodeId) -> bool {
    let others = cluster.ids().into_iter().filter(|other| *other != id).filter_map(|other| cluster.node(other));
    let known: Vec<bool> = others.map(|other| other.knows(id).unwrap_or(false)).collect();
    !known.is_empty() && !known.contains(&false)
}
