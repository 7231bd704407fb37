//! Members that come: as learners first, and then with a vote.

use seedbed_core::raft::{MembershipChange, NodeId};

use super::operator::{Operator, coming};
use super::{Nemesis, TURN_MS};
use crate::cluster::Cluster;

/// A new member is added, starts on an empty disk, and is made a voter once it is in sync; not before some time has passed.
pub(super) struct MemberAdd {
    operator: Operator,
    /// For how many turns it has to stay a learner.
    learns: u64,
    promoted: bool,
}

impl MemberAdd {
    pub(super) fn new(member: u64, learn_ms: u64) -> Self {
        MemberAdd { operator: Operator::new(coming(NodeId(member))), learns: learn_ms / TURN_MS, promoted: false }
    }
}

impl Nemesis for MemberAdd {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.proceed(cluster);
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        if matches!(self.operator.next(), Some(MembershipChange::Promote(_))) && self.learns > 0 {
            self.learns -= 1;
            return;
        }
        match self.operator.turn(cluster) {
            Some(MembershipChange::Add(member)) => cluster.join(member),
            Some(MembershipChange::Promote(_)) => self.promoted = true,
            _ => {}
        }
    }

    fn end(&mut self, _: &mut Cluster) -> bool {
        self.operator.end();
        self.promoted
    }
}
