//! Processes that die at a place in their own code.

use seedbed_core::runtime::CrashPoint;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::crash_points;
use crate::plan::Target;

/// The process dies where the plan says, if it comes there, and is started again at the end.
pub(super) struct CrashAt {
    place: usize,
    target: Target,
    point: CrashPoint,
    nth: u32,
}

impl CrashAt {
    pub(super) fn new(place: usize, target: Target, point: CrashPoint, nth: u32) -> Self {
        CrashAt { place, target, point, nth }
    }
}

impl Nemesis for CrashAt {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            crash_points::arm(self.place, id, cluster.sim_node(id), self.point, self.nth);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let died = crash_points::disarm(self.place);
        died.iter().for_each(|&id| cluster.boot(id));
        !died.is_empty()
    }
}
