//! Members that go.

use seedbed_core::raft::{MembershipChange, NodeId};

use super::Nemesis;
use super::operator::Operator;
use crate::cluster::Cluster;
use crate::plan::Target;

/// A member is removed. Its process runs on until the end, and then dies for good.
pub(super) struct MemberRemove {
    target: Target,
    operator: Operator,
    removed: Option<NodeId>,
}

impl MemberRemove {
    pub(super) fn new(target: Target) -> Self {
        MemberRemove { target, operator: Operator::default(), removed: None }
    }
}

impl Nemesis for MemberRemove {
    fn begin(&mut self, cluster: &mut Cluster) {
        let listed = cluster.ids();
        let one = cluster.resolve(self.target).into_iter().find(|id| listed.contains(id));
        self.operator = Operator::new(one.map(MembershipChange::Remove));
        self.proceed(cluster);
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        if let Some(MembershipChange::Remove(member)) = self.operator.turn(cluster) {
            cluster.leave(member);
            self.removed = Some(member);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.operator.end();
        if let Some(member) = self.removed {
            cluster.crash(member);
        }
        self.removed.is_some()
    }
}
