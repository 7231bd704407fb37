//! Disks that take their time.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// Each fsync takes longer.
pub(super) struct FsyncDelay {
    place: usize,
    target: Target,
    sync_us: [u64; 2],
    /// Whom it met, with the syncs that their disks had begun before.
    slowed: Vec<(NodeId, u64)>,
}

impl FsyncDelay {
    pub(super) fn new(place: usize, target: Target, sync_us: [u64; 2]) -> Self {
        FsyncDelay { place, target, sync_us, slowed: Vec::new() }
    }
}

impl Nemesis for FsyncDelay {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            self.slowed.push((id, cluster.disk(id).stats().syncs));
            cluster.slow(id, self.place, self.sync_us);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &(id, _) in &self.slowed {
            cluster.unslow(id, self.place);
        }
        self.slowed.iter().any(|&(id, syncs)| cluster.disk(id).stats().syncs > syncs)
    }
}

/// No fsync returns until the end.
pub(super) struct FsyncStall {
    place: usize,
    target: Target,
    /// Whom it met, with the syncs that their disks had held up before.
    stalled: Vec<(NodeId, u64)>,
}

impl FsyncStall {
    pub(super) fn new(place: usize, target: Target) -> Self {
        FsyncStall { place, target, stalled: Vec::new() }
    }
}

impl Nemesis for FsyncStall {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            self.stalled.push((id, cluster.disk(id).stats().stalled_syncs));
            cluster.stall(id, self.place);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        for &(id, _) in &self.stalled {
            cluster.unstall(id, self.place);
        }
        self.stalled.iter().any(|&(id, before)| cluster.disk(id).stats().stalled_syncs > before)
    }
}
