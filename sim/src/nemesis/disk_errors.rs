//! Disks that refuse, or take their time, for a while. A member that such an error has stopped is started again when the
//! fault ends.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::disk::DiskFault;
use crate::plan::Target;

/// A fault of the target's disk.
pub(super) struct DiskErrors {
    place: usize,
    target: Target,
    fault: DiskFault,
    /// Whom it met, with how often their disks had met such a fault before.
    struck: Vec<(NodeId, u64)>,
}

impl DiskErrors {
    pub(super) fn new(place: usize, target: Target, fault: DiskFault) -> Self {
        DiskErrors { place, target, fault, struck: Vec::new() }
    }
}

impl Nemesis for DiskErrors {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            self.struck.push((id, self.fault.met(&cluster.disk(id).stats())));
            cluster.fault_disk(id, self.place, self.fault);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &(id, _) in &self.struck {
            cluster.mend_disk(id, self.place);
        }
        self.struck.iter().any(|&(id, before)| self.fault.met(&cluster.disk(id).stats()) > before)
    }
}
