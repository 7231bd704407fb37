//! Messages between members that are lost at random.

use super::Nemesis;
use crate::cluster::Cluster;
use crate::network::FaultId;

/// Each message is lost with some probability.
pub(super) struct Loss {
    permille: u32,
    fault: Option<FaultId>,
}

impl Loss {
    pub(super) fn new(permille: u32) -> Self {
        Loss { permille, fault: None }
    }
}

impl Nemesis for Loss {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.fault = Some(cluster.network.loss(self.permille));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.fault.take().is_some_and(|fault| cluster.network.heal(fault) > 0)
    }
}
