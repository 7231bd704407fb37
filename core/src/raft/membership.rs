//! Changes of who takes part, one at a time.
//!
//! ```text
//!   add ──► learner ── has caught up ── promote ──► voter ── remove ──► gone; its number is not given again
//! ```
//!
//! A configuration takes effect when it is appended, so a voter who does not run yet would count at once. A member
//! therefore comes as a learner: it gets the log, and no quorum needs it. Voters change by joint consensus (Raft,
//! section 6): two entries, and a leader that fails between them leaves the cluster in the joint configuration, where
//! it needs both majorities, until somebody [settles](MembershipChange::Settle) it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode, ServerState};
use openraft_rt::WatchReceiver;

use super::Raft;
use crate::ids::NodeId;
use crate::runtime::Runtime;

/// A change of who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A new member comes, as a learner.
    Add(NodeId),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A member, voter or learner, goes.
    Remove(NodeId),
    /// A change of voters that a failed leader has left half done is carried through.
    Settle,
}

impl fmt::Display for MembershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipChange::Add(member) => write!(f, "add member {member}"),
            MembershipChange::Promote(member) => write!(f, "promote member {member}"),
            MembershipChange::Remove(member) => write!(f, "remove member {member}"),
            MembershipChange::Settle => f.write_str("settle the members"),
        }
    }
}

/// Who takes part, as a member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes; in a joint configuration, whoever is in one of its halves.
    pub voters: BTreeSet<NodeId>,
    /// Who gets the log and has no vote.
    pub learners: BTreeSet<NodeId>,
    /// Whether no change is under way: this is committed, and not joint.
    pub settled: bool,
}

impl Membership {
    /// As the member knows it.
    pub(crate) fn of<R: Runtime>(raft: &Raft<R>) -> Self {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
        let members = effective.membership();
        Membership {
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
            settled: members.get_joint_config().len() == 1 && effective.log_id() == committed.log_id(),
        }
    }

    /// Everybody.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether it is one of them.
    pub fn contains(&self, member: NodeId) -> bool {
        self.voters.contains(&member) || self.learners.contains(&member)
    }
}

/// A change was not made. Unless it says otherwise, nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This member does not lead.
    #[error("this member does not lead; {}", match leader {
        Some(leader) => format!("member {leader} does"),
        None => "nobody is known to".to_owned(),
    })]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Another change is under way.
    #[error("another change of the members is under way")]
    InProgress,
    /// The number is in use.
    #[error("member {0} is in the cluster already")]
    Exists(NodeId),
    /// Somebody has had the number before.
    #[error("there has been a member {0}: its number is not given again")]
    Used(NodeId),
    /// There is no such member.
    #[error("member {0} is not in the cluster")]
    NotFound(NodeId),
    /// Only learners are promoted.
    #[error("member {0} is a voter already")]
    NotLearner(NodeId),
    /// The learner lacks more than a tenth of the leader's log.
    #[error("learner {member} has the log up to entry {matched}, and the leader up to {last}: it is not in sync")]
    NotInSync {
        /// The learner.
        member: NodeId,
        /// How far it has come, as the leader knows.
        matched: u64,
        /// The leader's last entry.
        last: u64,
    },
    /// Nobody would be left to vote.
    #[error("member {0} is the last voter")]
    LastVoter(NodeId),
    /// Leadership was lost on the way: it may still take effect.
    #[error("the leader changed: the change may still take effect")]
    LeaderChanged,
    /// This member is stopping: it may still take effect.
    #[error("the member is stopping: the change may still take effect")]
    Stopped,
}

/// Makes a change, as the leader, and waits until it is committed, for as long as that takes. Whoever gives up waiting does
/// not know whether it was made. A change that has been made before is refused: `Exists`, `NotFound` or `NotLearner`.
pub(crate) async fn change<R: Runtime>(raft: &Raft<R>, change: MembershipChange) -> Result<(), MembershipError> {
    let now = Membership::of(raft);
    admissible(raft, &now, change)?;
    let one = |member| BTreeSet::from([member]);
    let written = match change {
        MembershipChange::Add(member) => {
            let nodes = BTreeMap::from([(member, EmptyNode::new())]);
            raft.change_membership(ChangeMembers::AddNodes(nodes), false).await
        }
        MembershipChange::Promote(member) => {
            raft.change_membership(ChangeMembers::AddVoterIds(one(member)), false).await
        }
        MembershipChange::Remove(member) if now.voters.contains(&member) => {
            raft.change_membership(ChangeMembers::RemoveVoters(one(member)), false).await
        }
        MembershipChange::Remove(member) => {
            raft.change_membership(ChangeMembers::RemoveNodes(one(member)), false).await
        }
        MembershipChange::Settle if now.settled => return Ok(()),
        MembershipChange::Settle => raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false).await,
    };
    match written {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            // The second of two entries may have met it.
            let half_done = Membership::of(raft) != now;
            let leader = forward.leader_id;
            Err(if half_done { MembershipError::LeaderChanged } else { MembershipError::NotLeader { leader } })
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
            ChangeMembershipError::LearnerNotFound(missing) => MembershipError::NotFound(missing.node_id),
            // The members are others than they were a moment ago.
            _ => MembershipError::InProgress,
        }),
        Err(RaftError::APIError(_)) => Err(MembershipError::LeaderChanged),
        Err(RaftError::Fatal(_)) => Err(MembershipError::Stopped),
    }
}

/// Whether the change makes sense, as the leader knows its cluster.
fn admissible<R: Runtime>(raft: &Raft<R>, now: &Membership, change: MembershipChange) -> Result<(), MembershipError> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if metrics.state != ServerState::Leader {
        return Err(MembershipError::NotLeader { leader: metrics.current_leader });
    }
    if !now.contains(metrics.id) {
        // It has removed itself, and leads on for a moment. Another change is for the next leader: openraft asserts that the
        // one who makes it is a member.
        return Err(MembershipError::NotLeader { leader: None });
    }
    match change {
        MembershipChange::Settle => Ok(()),
        _ if !now.settled => Err(MembershipError::InProgress),
        MembershipChange::Add(member) if now.contains(member) => Err(MembershipError::Exists(member)),
        MembershipChange::Add(_) => Ok(()),
        MembershipChange::Promote(member) | MembershipChange::Remove(member) if !now.contains(member) => {
            Err(MembershipError::NotFound(member))
        }
        MembershipChange::Remove(member) if now.voters.iter().eq([&member]) => Err(MembershipError::LastVoter(member)),
        MembershipChange::Remove(_) => Ok(()),
        MembershipChange::Promote(member) if now.voters.contains(&member) => Err(MembershipError::NotLearner(member)),
        MembershipChange::Promote(member) => {
            let replication = metrics.replication.as_ref().and_then(|replication| replication.get(&member));
            let matched = replication.and_then(Option::as_ref).map_or(0, |matched| matched.index());
            let last = metrics.last_log_index.unwrap_or(0);
            // etcd's measure.
            let in_sync = u128::from(matched) * 10 >= u128::from(last) * 9;
            if in_sync { Ok(()) } else { Err(MembershipError::NotInSync { member, matched, last }) }
        }
    }
}
