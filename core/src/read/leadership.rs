//! Who leads, up to where, and whether a quorum still says so.
//!
//! A leader may have been deposed without knowing. It asks the other voters whether they have promised a greater term
//! to anybody; once a quorum has said no, *after* the question was asked, nobody can have been elected before it was
//! asked, and nothing was acknowledged that the leader does not know of (Raft thesis, section 6.4).
//!
//! ```text
//!   leader    note term and commit index ── ask all ──────── a quorum: still ── the index may be read at
//!   voters                                     └─ promised no greater term? ─┘
//! ```
//!
//! The question is a request of its own, beside raft's: nothing is written for it, and it does not wait behind what a
//! follower is writing, as the answers to heartbeats do. Each try has a number, its *context*. An answer counts for
//! the try that it was given to and for no other: one that was long under way says nothing about now (etcd #20418).

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use openraft_rt::Instant;

use super::{Counters, ReadError, ReadPath};
use crate::raft::message::{PeerReply, PeerRequest, decode, encode};
use crate::raft::{NodeId, Raft, Term};
use crate::runtime::{Mutant, Mutants, Runtime, Transport};

/// A member, as its read paths see it.
pub(crate) struct Member<R: Runtime> {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<R>,
    pub(crate) transport: R::Transport,
    pub(crate) counters: Arc<Counters>,
}

impl<R: Runtime> Clone for Member<R> {
    fn clone(&self) -> Self {
        Member {
            node: self.node,
            raft: self.raft.clone(),
            transport: self.transport.clone(),
            counters: self.counters.clone(),
        }
    }
}

impl<R: Runtime> Member<R> {
    /// Asks the leader for an index.
    pub(super) async fn ask_leader(
        &self,
        leader: NodeId,
        request: PeerRequest<R>,
        limit: Duration,
    ) -> Result<u64, ReadError> {
        match R::timeout(limit, self.transport.call(leader, encode(&request))).await {
            Ok(Ok(reply)) => match decode::<PeerReply<R>>(&reply) {
                Ok(PeerReply::ReadIndex(index)) => Ok(index),
                _ => Err(ReadError::NotLeader),
            },
            _ => Err(ReadError::Timeout),
        }
    }
}

/// A member's leadership, as its raft knows it at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    pub(crate) term: Term,
    /// Linearizable to read at, if the member still leads: the commit index, or, before an entry of this term is
    /// committed, the end of the log. What earlier leaders have committed lies before the first entry of the term, but
    /// the commit index need not reach as far yet (etcd 3.1.0 lacked this, until 3.1.2).
    pub(crate) index: u64,
    /// Of each of these sets, a majority is a quorum.
    voters: Vec<BTreeSet<NodeId>>,
}

impl Leadership {
    /// The leadership of a member, or `NotLeader`. Asked of raft's own task: what that has told to others, this knows.
    pub(crate) async fn of<R: Runtime>(member: &Member<R>) -> Result<Leadership, ReadError> {
        let node = member.node;
        let seen = member.raft.with_raft_state(move |state| {
            let vote = state.vote_ref();
            let leads = vote.committed && vote.leader_id.voted_for == node && state.server_state == ServerState::Leader;
            let last = state.log_ids.last().filter(|last| leads && last.leader_id.term == vote.leader_id.term)?;
            let committed = state.local_committed().max(state.cluster_committed());
            let own_term = committed.filter(|committed| committed.leader_id.term == vote.leader_id.term);
            let index = match own_term {
                Some(committed) => committed.index,
                None if R::Mutants::active(Mutant::NoOwnTermCheck) => committed.map_or(0, |committed| committed.index),
                None => last.index,
            };
            let voters = state.membership_state.effective().get_joint_config().clone();
            Some(Leadership { term: vote.leader_id.term, index, voters })
        });
        seen.await.map_err(|_| ReadError::Stopped)?.ok_or(ReadError::NotLeader)
    }

    fn is_quorum(&self, members: &BTreeSet<NodeId>) -> bool {
        self.voters.iter().all(|voters| 2 * voters.intersection(members).count() > voters.len())
    }
}

/// An answer to the question.
struct Answer {
    voter: NodeId,
    /// The try that it was given to.
    context: u64,
    still: bool,
}

/// For how many tries an answer may be late. Nobody counts it; waiting for it is what tells a slow link from a dead one.
const LATE_TRIES: u32 = 8;

/// Asks the voters.
pub(super) struct Confirmer<R: Runtime> {
    member: Member<R>,
    /// How long one try may take.
    limit: Duration,
    /// The number of the present try.
    context: u64,
    /// Questions under way, also those of earlier tries.
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
}

impl<R: Runtime> Confirmer<R> {
    pub(super) fn new(member: Member<R>, limit: Duration) -> Self {
        Confirmer { member, limit, context: 0, asked: FuturesUnordered::new() }
    }

    /// Resolves once a quorum has said, to questions asked from now on, that it has promised no greater term.
    pub(super) async fn confirm(&mut self, leadership: &Leadership) -> Result<(), ReadError> {
        if !R::Mutants::active(Mutant::ReadContextReused) || self.asked.is_empty() {
            self.context += 1;
        }
        self.member.counters.round(ReadPath::ReadIndex);
        let mut still = BTreeSet::from([self.member.node]);
        let mut not_denied: BTreeSet<NodeId> =
            leadership.voters.iter().flatten().copied().chain([self.member.node]).collect();
        let voters: BTreeSet<NodeId> = leadership.voters.iter().flatten().copied().collect();
        for voter in voters.into_iter().filter(|voter| *voter != self.member.node) {
            self.ask(voter, leadership.term);
        }
        let deadline = R::Instant::now() + self.limit;
        while !leadership.is_quorum(&still) && !R::Mutants::active(Mutant::ReadBeforeQuorum) {
            match R::timeout_at(deadline, self.asked.next()).await {
                Ok(Some(answer)) if answer.context != self.context => {}
                Ok(Some(answer)) if answer.still => {
                    still.insert(answer.voter);
                }
                Ok(Some(answer)) => {
                    not_denied.remove(&answer.voter);
                    if !leadership.is_quorum(&not_denied) {
                        return Err(ReadError::NotLeader);
                    }
                }
                Ok(None) | Err(_) => return Err(ReadError::Timeout),
            }
        }
        self.asked.clear();
        Ok(())
    }

    fn ask(&self, voter: NodeId, term: Term) {
        self.member.counters.message(ReadPath::ReadIndex);
        let context = self.context;
        let request: PeerRequest<R> = PeerRequest::Confirm { term, context };
        let transport = self.member.transport.clone();
        let limit = self.limit * LATE_TRIES;
        self.asked.push(Box::pin(async move {
            let reply = R::timeout(limit, transport.call(voter, encode(&request))).await;
            let reply = reply.ok().and_then(Result::ok).and_then(|reply| decode::<PeerReply<R>>(&reply).ok());
            match reply {
                Some(PeerReply::Confirm { context }) => Answer { voter, context, still: true },
                _ => Answer { voter, context, still: false },
            }
        }));
    }
}
