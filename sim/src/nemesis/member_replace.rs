//! Members that are replaced, as after the loss of a machine: by new ones, with new numbers.

use seedbed_core::raft::{MembershipChange, NodeId};

use super::Nemesis;
use super::operator::{Operator, coming};
use crate::cluster::Cluster;
use crate::plan::Target;

/// A member is removed, and its process ends; another one is added, and made a voter.
pub(super) struct MemberReplace {
    target: Target,
    member: NodeId,
    operator: Operator,
    replaced: bool,
}

impl MemberReplace {
    pub(super) fn new(target: Target, member: u64) -> Self {
        MemberReplace { target, member: NodeId(member), operator: Operator::default(), replaced: false }
    }
}

impl Nemesis for MemberReplace {
    fn begin(&mut self, cluster: &mut Cluster) {
        let listed = cluster.ids();
        if let Some(one) = cluster.resolve(self.target).into_iter().find(|id| listed.contains(id)) {
            let changes = [MembershipChange::Remove(one)].into_iter().chain(coming(self.member));
            self.operator = Operator::new(changes);
        }
        self.proceed(cluster);
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        match self.operator.turn(cluster) {
            Some(MembershipChange::Remove(member)) => {
                cluster.leave(member);
                cluster.crash(member);
            }
            Some(MembershipChange::Add(member)) => cluster.join(member),
            Some(MembershipChange::Promote(_)) => self.replaced = true,
            _ => {}
        }
    }

    fn end(&mut self, _: &mut Cluster) -> bool {
        self.operator.end();
        self.replaced
    }
}
