//! An operator who changes the members: asks whoever leads, again and again, until it is done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use seedbed_core::raft::MembershipError::{Exists, LeaderChanged, NotFound, NotLearner, Stopped};
use seedbed_core::raft::{MembershipChange, MembershipError, NodeId};

use crate::cluster::Cluster;

/// After so many turns without an answer somebody is asked again.
const PATIENCE: u32 = 12;

type Answer = Arc<Mutex<Option<Result<(), MembershipError>>>>;

/// Changes that are to be made one after the other.
#[derive(Default)]
pub(super) struct Operator {
    left: VecDeque<MembershipChange>,
    /// What was asked, and for how many turns there has been no answer.
    asked: Option<(MembershipChange, Answer, u32)>,
    /// Whether the next change has been asked for in vain: it may have been made.
    may_be_made: bool,
}

impl Operator {
    pub(super) fn new(changes: impl IntoIterator<Item = MembershipChange>) -> Self {
        Operator { left: changes.into_iter().collect(), ..Operator::default() }
    }

    /// What it waits for.
    pub(super) fn next(&self) -> Option<MembershipChange> {
        self.left.front().copied()
    }

    /// Looks for an answer, and asks if there is none under way. The change that has been made, if one has.
    pub(super) fn turn(&mut self, cluster: &Cluster) -> Option<MembershipChange> {
        let mut ask = self.next()?;
        if let Some((change, answer, turns)) = &mut self.asked {
            *turns += 1;
            let answered = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            match answered {
                None if *turns < PATIENCE => return None,
                None => self.may_be_made |= *change == ask,
                Some(result) => {
                    tracing::info!(?result, "{change}");
                    if *change == ask && (result.is_ok() || self.may_be_made && says_made(ask, &result)) {
                        (self.asked, self.may_be_made) = (None, false);
                        return self.left.pop_front();
                    }
                    self.may_be_made |= *change == ask && matches!(result, Err(LeaderChanged | Stopped));
                    // It may be one that a failed leader has left half done.
                    if result == Err(MembershipError::InProgress) && *change == ask {
                        ask = MembershipChange::Settle;
                    }
                    if matches!(result, Err(MembershipError::LastVoter(_))) {
                        self.left.clear();
                        return None;
                    }
                }
            }
        }
        let answer = Answer::default();
        if let Some(leader) = cluster.leader() {
            self.asked = Some((ask, answer.clone(), 0));
            cluster.with_node(leader, move |node| async move {
                let result = node.change_membership(ask).await;
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            });
        }
        None
    }

    /// Gives up.
    pub(super) fn end(&mut self) {
        self.left.clear();
    }
}

/// Whether a leader says that a change has been made before. One that was deposed and does not know it may say so too, of
/// a removal: whoever is not removed is told apart in the end, when the members are settled.
fn says_made(change: MembershipChange, result: &Result<(), MembershipError>) -> bool {
    match change {
        MembershipChange::Add(_) => matches!(result, Err(Exists(_))),
        MembershipChange::Promote(_) => matches!(result, Err(NotLearner(_))),
        MembershipChange::Remove(_) => matches!(result, Err(NotFound(_))),
        MembershipChange::Settle => false,
    }
}

/// The changes by which a member comes and votes.
pub(super) fn coming(member: NodeId) -> [MembershipChange; 2] {
    [MembershipChange::Add(member), MembershipChange::Promote(member)]
}
