//! Proposing a change, from any member.
//!
//! A change must not be proposed twice: whoever cannot know whether it was, says so. What may be tried again is told
//! apart from what may not:
//!
//! ```text
//!   not leader, before it was appended   →  nothing happened: try again, there or elsewhere
//!   no connection to the leader          →  nothing happened: try again
//!   sent, and no reply                   →  unknown
//!   appended, then discarded             →  unknown: another leader may have committed it
//! ```

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use openraft_rt::WatchReceiver;

use super::Raft;
use super::command::{Command, Reply, Request};
use super::message::{PeerReply, PeerRequest, decode, encode};
use crate::ids::{NodeId, Term};
use crate::read::{Counters, ReadPath};
use crate::runtime::{Runtime, Transport, TransportError};
use crate::watermark::Watermark;

/// A change has no answer. Unless it says otherwise it may still take effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// There was no leader to propose it to: it did not take effect, and will not.
    #[error("no leader was found in time")]
    NoLeader,
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// There was no answer in time, and a leader was elected meanwhile.
    #[error("no answer in time, while the leader failed")]
    LeaderFailed,
    /// There was no answer in time: the connection to the leader broke, or the leader's to a quorum did.
    #[error("no answer in time, and a connection was lost")]
    ConnectionLost,
    /// Leadership changed while it was under way.
    #[error("the leader changed")]
    LeaderChanged,
    /// This member is stopping.
    #[error("the member is stopping")]
    Stopped,
}

/// Proposes changes, to this member's raft if it leads and by way of the leader if not.
pub struct Proposer<R: Runtime> {
    node: NodeId,
    raft: Raft<R>,
    transport: R::Transport,
    applied: Watermark,
    counters: Arc<Counters>,
    /// How long one proposal may take.
    limit: Duration,
    /// How long to wait before looking for a leader again.
    retry: Duration,
}

/// What one try came to.
enum Try {
    Done { index: u64, reply: Reply },
    NothingHappened { leader: Option<NodeId> },
    Failed(ProposeError),
}

impl<R: Runtime> Clone for Proposer<R> {
    fn clone(&self) -> Self {
        Proposer {
            node: self.node,
            raft: self.raft.clone(),
            transport: self.transport.clone(),
            applied: self.applied.clone(),
            counters: self.counters.clone(),
            limit: self.limit,
            retry: self.retry,
        }
    }
}

impl<R: Runtime> Proposer<R> {
    /// A proposer for the member `node`.
    pub(crate) fn new(
        node: NodeId,
        raft: Raft<R>,
        transport: R::Transport,
        applied: Watermark,
        counters: Arc<Counters>,
        limit: Duration,
        retry: Duration,
    ) -> Self {
        Proposer { node, raft, transport, applied, counters, limit, retry }
    }

    /// Proposes a change and awaits its effect *on this member*, so that whoever asked finds it here when he reads next.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let begun = <R::Instant as openraft_rt::Instant>::now();
        let term = self.raft.metrics().borrow_watched().current_term;
        let deadline = begun + self.limit;
        match R::timeout_at(deadline, self.propose_until_sent(command, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(self.late(term, begun)),
        }
    }

    /// What a client may be told of why there was no answer, as etcd guesses it: a leader of a later term, or a leader
    /// that has not heard of a quorum since.
    fn late(&self, term: Term, begun: R::Instant) -> ProposeError {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.current_leader == Some(self.node);
        let heard = metrics.last_quorum_acked.is_some_and(|acked| acked.into_inner() >= begun);
        if metrics.current_term > term && metrics.current_leader.is_some() {
            ProposeError::LeaderFailed
        } else if leads && !heard {
            ProposeError::ConnectionLost
        } else {
            ProposeError::Timeout
        }
    }

    async fn propose_until_sent(&self, command: Command, deadline: R::Instant) -> Result<Reply, ProposeError> {
        let mut leader = Some(self.node);
        loop {
            let attempt = match leader {
                Some(leader) if leader == self.node => self.propose_here(command.clone()).await,
                Some(leader) => self.propose_to(leader, &command).await,
                None => {
                    // Before the overall time-out, so that "no leader" can be told apart from "no answer".
                    if <R::Instant as openraft_rt::Instant>::now() + self.retry >= deadline {
                        return Err(ProposeError::NoLeader);
                    }
                    R::sleep(self.retry).await;
                    Try::NothingHappened { leader: self.raft.current_leader().await }
                }
            };
            match attempt {
                Try::Done { index, reply } => {
                    self.applied.reached(index).await;
                    return Ok(reply);
                }
                // Whoever was asked last is not asked again at once: its word on who leads may be as old as ours.
                Try::NothingHappened { leader: hint } => leader = hint.filter(|hint| Some(*hint) != leader),
                Try::Failed(error) => return Err(error),
            }
        }
    }

    async fn propose_here(&self, command: Command) -> Try {
        match self.raft.client_write(command).await {
            Ok(written) => Try::Done { index: written.log_id.index(), reply: written.data },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Try::NothingHappened { leader: forward.leader_id }
            }
            Err(RaftError::APIError(_)) => Try::Failed(ProposeError::LeaderChanged),
            Err(RaftError::Fatal(_)) => Try::Failed(ProposeError::Stopped),
        }
    }

    async fn propose_to(&self, leader: NodeId, command: &Command) -> Try {
        if matches!(*command.request, Request::Range(_)) {
            self.counters.message(ReadPath::Log);
        }
        let request: PeerRequest<R> = PeerRequest::Propose(command.clone());
        let reply = match self.transport.call(leader, encode(&request)).await {
            Ok(reply) => decode::<PeerReply<R>>(&reply),
            Err(TransportError::Unreachable(_)) => return Try::NothingHappened { leader: None },
            Err(TransportError::Lost(_)) => return Try::Failed(ProposeError::ConnectionLost),
        };
        match reply {
            Ok(PeerReply::Propose { index, reply }) => Try::Done { index, reply },
            Ok(PeerReply::NotLeader { leader }) => Try::NothingHappened { leader },
            _ => Try::Failed(ProposeError::LeaderChanged),
        }
    }
}
