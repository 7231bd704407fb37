//! Linearizable reads without a log entry (Raft thesis, section 6.4; etcd 3.1).
//!
//! The leader notes its commit index and confirms with a quorum that it still leads; the member that serves the read
//! waits until it has applied that index. Nothing is written, nothing is synced, and any number of readers share a
//! round. A follower's round is a question to the leader, where it joins those of others.

use super::leadership::{Confirmer, Leadership, Member};
use super::rounds::{Round, Rounds};
use super::{ReadError, ReadOptions, ReadPath};
use crate::raft::Raft;
use crate::raft::message::PeerRequest;
use crate::runtime::Runtime;
use crate::watermark::Stop;

/// The ReadIndex path of one member.
pub(crate) struct ReadIndex<R: Runtime> {
    raft: Raft<R>,
    rounds: Rounds<R>,
}

impl<R: Runtime> Clone for ReadIndex<R> {
    fn clone(&self) -> Self {
        ReadIndex { raft: self.raft.clone(), rounds: self.rounds.clone() }
    }
}

impl<R: Runtime> ReadIndex<R> {
    /// Starts the rounds of this path.
    pub(crate) fn start(member: Member<R>, options: ReadOptions, stop: Stop) -> Self {
        let raft = member.raft.clone();
        let confirmer = Confirmer::new(member.clone(), options.round_limit);
        ReadIndex { raft, rounds: Rounds::start(Quorum { member, confirmer, options }, options, stop) }
    }

    /// An index that is linearizable to read at.
    pub(crate) async fn index(&self) -> Result<u64, ReadError> {
        self.rounds.index().await
    }

    /// The same, for a follower that asks this member as its leader.
    pub(crate) async fn index_if_leader(&self) -> Result<u64, ReadError> {
        if !self.raft.is_leader() {
            return Err(ReadError::NotLeader);
        }
        self.index().await
    }
}

/// A round: by a quorum if this member leads, by a question to the leader if not.
struct Quorum<R: Runtime> {
    member: Member<R>,
    confirmer: Confirmer<R>,
    options: ReadOptions,
}

impl<R: Runtime> Round for Quorum<R> {
    async fn find(&mut self) -> Result<u64, ReadError> {
        let Quorum { member, confirmer, options } = self;
        match member.raft.current_leader().await {
            Some(leader) if leader == member.node => {
                let leadership = Leadership::of(member).await?;
                confirmer.confirm(&leadership).await?;
                Ok(leadership.index)
            }
            Some(leader) => {
                member.counters.round(ReadPath::ReadIndex);
                member.counters.message(ReadPath::ReadIndex);
                member.ask_leader(leader, PeerRequest::ReadIndex, options.round_limit).await
            }
            None => Err(ReadError::NotLeader),
        }
    }
}
