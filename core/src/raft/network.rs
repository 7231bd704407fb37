//! openraft's network over our transport: each call is one message, with a time-out, in bytes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AnyError, EmptyNode};
use openraft_rt::Select2;

use super::log_store::only_reads;
use super::message::{PeerReply, PeerRequest, SnapshotChunk, decode, encode};
use super::snapshot::SnapshotData;
use super::type_config::TypeConfig;
use crate::ids::NodeId;
use crate::read::{Counters, GivenUp, ReadPath};
use crate::runtime::{Runtime, Transport};

/// How much of a snapshot one message carries.
const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;

/// How fast a receiver installs a snapshot at the least. The reply to the last piece comes after that: with too little
/// time a large store never arrives, since each retry begins anew with a newer snapshot; with too much, a follower whose
/// last piece was lost waits for it.
const INSTALL_BYTES_PER_SECOND: u64 = 4 << 20;

/// Makes openraft's connections.
pub struct PeerNetwork<R: Runtime> {
    transport: R::Transport,
    counters: Arc<Counters>,
    given_up: GivenUp,
}

impl<R: Runtime> PeerNetwork<R> {
    /// A network over `transport`. What it sends for log reads alone is counted, and a leader that hands leadership over
    /// gives up its lease first.
    pub(crate) fn new(transport: R::Transport, counters: Arc<Counters>, given_up: GivenUp) -> Self {
        PeerNetwork { transport, counters, given_up }
    }
}

impl<R: Runtime> RaftNetworkFactory<TypeConfig<R>> for PeerNetwork<R> {
    type Network = Peer<R>;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> Peer<R> {
        let PeerNetwork { transport, counters, given_up } = self;
        Peer { target, transport: transport.clone(), counters: counters.clone(), given_up: given_up.clone() }
    }
}

/// The way to one other member.
pub struct Peer<R: Runtime> {
    target: NodeId,
    transport: R::Transport,
    counters: Arc<Counters>,
    given_up: GivenUp,
}

impl<R: Runtime> Peer<R> {
    async fn call(&self, request: PeerRequest<R>, limit: Duration) -> Result<PeerReply<R>, RPCError<TypeConfig<R>>> {
        // None of openraft's requests minds being repeated. After `Unreachable` it backs off, after a time-out it does not.
        let unreachable = |error: AnyError| RPCError::Unreachable(Unreachable::new(&error));
        match R::timeout(limit, self.transport.call(self.target, encode(&request))).await {
            Ok(Ok(reply)) => decode(&reply).map_err(|error| unreachable(AnyError::new(&error))),
            Ok(Err(error)) => Err(unreachable(AnyError::new(&error))),
            Err(_) => Err(RPCError::Network(openraft::errors::NetworkError::new(&AnyError::error(format!(
                "member {} did not answer within {limit:?}",
                self.target
            ))))),
        }
    }

    fn unexpected(&self, reply: PeerReply<R>) -> RPCError<TypeConfig<R>> {
        let message = match reply {
            PeerReply::Failed(reason) => format!("member {} failed: {reason}", self.target),
            other => format!("member {} sent a reply of another kind: {other:?}", self.target),
        };
        RPCError::Unreachable(Unreachable::new(&AnyError::error(message)))
    }
}

impl<R: Runtime> RaftNetworkV2<TypeConfig<R>> for Peer<R> {
    type SnapshotData = SnapshotData<R>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        if only_reads::<R>(&rpc.entries) {
            self.counters.message(ReadPath::Log);
        }
        match self.call(PeerRequest::AppendEntries(rpc), option.hard_ttl()).await? {
            PeerReply::AppendEntries(response) => Ok(response),
            other => Err(self.unexpected(other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.call(PeerRequest::Vote(rpc), option.hard_ttl()).await? {
            PeerReply::Vote(response) => Ok(response),
            other => Err(self.unexpected(other)),
        }
    }

    // Implemented because the default grants every pre-vote.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.call(PeerRequest::PreVote(rpc), option.hard_ttl()).await? {
            PeerReply::Vote(response) => Ok(response),
            other => Err(self.unexpected(other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig<R>>,
        snapshot: SnapshotOf<TypeConfig<R>, SnapshotData<R>>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        match R::select2(cancel, self.send_snapshot(vote, snapshot, option.hard_ttl())).await {
            Select2::First(closed) => Err(closed.into()),
            Select2::Second(result) => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        // Voters let the new candidate in whatever they have granted: from here on the lease means nothing.
        self.given_up.give_up(rpc.from_leader().leader_id.term);
        match self.call(PeerRequest::TransferLeader(rpc), option.hard_ttl()).await? {
            PeerReply::TransferLeader(response) => Ok(response),
            other => Err(self.unexpected(other)),
        }
    }
}

impl<R: Runtime> Peer<R> {
    async fn send_snapshot(
        &self,
        vote: VoteOf<TypeConfig<R>>,
        snapshot: SnapshotOf<TypeConfig<R>, SnapshotData<R>>,
        limit: Duration,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let SnapshotData::View(mut view) = snapshot.snapshot else {
            panic!("only this member's own snapshots are sent: received ones go to the state machine");
        };
        let mut next = || {
            view.next_chunk(SNAPSHOT_CHUNK_BYTES)
                .map_err(|error| StreamingError::Unreachable(Unreachable::new(&AnyError::new(&error))))
        };
        let mut data = next()?.unwrap_or_default();
        let mut offset = 0;
        loop {
            let following = next()?;
            let chunk = SnapshotChunk { vote, meta: snapshot.meta.clone(), offset, last: following.is_none(), data };
            offset += chunk.data.len() as u64;
            let install =
                if chunk.last { Duration::from_secs(offset / INSTALL_BYTES_PER_SECOND) } else { Duration::ZERO };
            match (self.call(PeerRequest::Snapshot(chunk), limit + install).await?, following) {
                // A reply before the end says that the receiver knows a greater vote.
                (PeerReply::Snapshot(Some(response)), _) => return Ok(response),
                (PeerReply::Snapshot(None), Some(more)) => data = more,
                (reply, _) => return Err(self.unexpected(reply).into()),
            }
        }
    }
}
