//! Processes that die at a place in their own code.

use std::collections::BTreeSet;

use seedbed_core::raft::NodeId;
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
    armed: BTreeSet<NodeId>,
    /// Who has been asked to come there.
    asked: BTreeSet<NodeId>,
}

impl CrashAt {
    pub(super) fn new(place: usize, target: Target, point: CrashPoint, nth: u32) -> Self {
        CrashAt { place, target, point, nth, armed: BTreeSet::new(), asked: BTreeSet::new() }
    }
}

impl CrashAt {
    /// What nobody does by himself often enough, or at all, is asked of whoever runs. It does not end well.
    fn ask(&mut self, cluster: &Cluster) {
        let asked = self.armed.iter().filter(|id| cluster.node(**id).is_some() && self.asked.insert(**id));
        for &id in asked {
            match self.point {
                CrashPoint::SnapshotBuild => cluster.with_node(id, |node| async move {
                    let _ = node.snapshot().await;
                }),
                CrashPoint::Defragment => cluster.with_node(id, |node| async move {
                    let _ = node.defragment().await;
                }),
                _ => {}
            }
        }
    }
}

impl Nemesis for CrashAt {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            if self.armed.insert(id) {
                crash_points::arm(self.place, id, cluster.sim_node(id), self.point, self.nth);
            }
        }
        self.ask(cluster);
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        match self.target {
            Target::Everyone => self.begin(cluster),
            _ => self.ask(cluster),
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let died = crash_points::disarm(self.place);
        died.iter().for_each(|&id| cluster.boot(id));
        !died.is_empty()
    }
}
