//! Snapshots that are built out of turn.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// Members build a snapshot when the fault begins.
pub(super) struct Snapshot {
    target: Target,
    /// Who, with the index that their last snapshot reached before.
    asked: Vec<(NodeId, u64)>,
}

impl Snapshot {
    pub(super) fn new(target: Target) -> Self {
        Snapshot { target, asked: Vec::new() }
    }
}

impl Nemesis for Snapshot {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            if let Some(node) = cluster.node(id) {
                self.asked.push((id, node.snapshot_index()));
                cluster.with_node(id, |node| async move {
                    node.snapshot().await;
                });
            }
        }
    }

    /// It has had an effect if there is a newer one.
    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let newer = |(id, before)| cluster.node(id).is_some_and(|node| node.snapshot_index() > before);
        self.asked.drain(..).any(newer)
    }
}
