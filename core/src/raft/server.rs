//! The answering side of the peer protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::storage::Snapshot;

use super::message::{PeerReply, PeerRequest, SnapshotChunk, decode, encode};
use super::snapshot::{SnapshotData, Staging};
use super::vote_hold::VoteHold;
use super::{LogStore, Raft};
use crate::ids::NodeId;
use crate::lease::Lessor;
use crate::members::Attributes;
use crate::mvcc::Store;
use crate::read::{ReadPath, Reads};
use crate::runtime::{Handler, Mutant, Mutants, Runtime};

/// Answers other members.
pub struct PeerServer<R: Runtime> {
    raft: Raft<R>,
    reads: Arc<Reads<R>>,
    lessor: Lessor<R>,
    log: LogStore<R>,
    store: Store<R::Disk>,
    votes: VoteHold<R>,
    /// Whether this member takes part. Until then it only tells whom it knows.
    admitted: AtomicBool,
    staging: Staging<R>,
    /// Appends seen, for the planted bug that forges some of their acknowledgements.
    appends: AtomicU64,
}

impl<R: Runtime> PeerServer<R> {
    /// A server that hands what it is asked to `raft`, `reads` and `lessor` once it is [admitted](Self::admit), but no vote before
    /// `votes` lets it. Empties the folder for received snapshots.
    pub(crate) fn open(
        raft: Raft<R>,
        reads: Arc<Reads<R>>,
        lessor: Lessor<R>,
        log: LogStore<R>,
        store: Store<R::Disk>,
        votes: VoteHold<R>,
        disk: R::Disk,
    ) -> std::io::Result<Self> {
        let staging = Staging::open(disk)?;
        let (admitted, appends) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(PeerServer { raft, reads, lessor, log, store, votes, admitted, staging, appends })
    }

    /// From now on, this member takes part.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// The handler to give to the transport.
    pub fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |from, request| {
            let server = self.clone();
            Box::pin(async move { server.answer(from, request).await })
        })
    }

    async fn answer(&self, from: NodeId, request: Bytes) -> Bytes {
        let reply = match decode(&request) {
            Ok(request) => self.carry_out(from, request).await,
            Err(error) => PeerReply::Failed(error.to_string()),
        };
        encode(&reply)
    }

    async fn carry_out(&self, from: NodeId, request: PeerRequest<R>) -> PeerReply<R> {
        match request {
            PeerRequest::KnowsMe => match Attributes::known(from, &self.store) {
                Ok(known) => PeerReply::KnowsYou(known),
                Err(error) => PeerReply::Failed(error.to_string()),
            },
            _ if !self.admitted.load(Ordering::Acquire) => PeerReply::Failed("it is starting".to_owned()),
            PeerRequest::AppendEntries(append) => {
                if R::Mutants::active(Mutant::ForgedAppendAck)
                    && !append.entries.is_empty()
                    && self.appends.fetch_add(1, Ordering::Relaxed) % 32 == 31
                {
                    return PeerReply::AppendEntries(AppendEntriesResponse::Success);
                }
                or_failed(self.raft.append_entries(append).await, PeerReply::AppendEntries)
            }
            PeerRequest::Vote(vote) | PeerRequest::PreVote(vote) if self.votes.holds(&vote) => {
                PeerReply::Failed("it has restarted, and may have granted a lease that it does not remember".to_owned())
            }
            PeerRequest::Vote(vote) => or_failed(self.raft.vote(vote).await, PeerReply::Vote),
            PeerRequest::PreVote(vote) => or_failed(self.raft.pre_vote(vote).await, PeerReply::Vote),
            PeerRequest::Snapshot(chunk) => self.receive_snapshot(from, chunk).await,
            PeerRequest::TransferLeader(request) => {
                or_failed(self.raft.handle_transfer_leader(request).await, PeerReply::TransferLeader)
            }
            PeerRequest::ReadIndex => self.read_index(ReadPath::ReadIndex).await,
            PeerRequest::LeaseRead => self.read_index(ReadPath::Lease).await,
            PeerRequest::Confirm { term, context } if self.log.promised() <= term => PeerReply::Confirm { context },
            PeerRequest::Confirm { .. } => PeerReply::NotLeader { leader: None },
            PeerRequest::Lease(request) => or_failed(self.lessor.answer_follower(&request).await, PeerReply::Lease),
            PeerRequest::Propose(command) => match self.raft.client_write(command).await {
                Ok(written) => PeerReply::Propose { index: written.log_id.index(), reply: written.data },
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    PeerReply::NotLeader { leader: forward.leader_id }
                }
                Err(RaftError::APIError(_)) | Err(RaftError::Fatal(_)) => PeerReply::Discarded,
            },
        }
    }

    async fn read_index(&self, path: ReadPath) -> PeerReply<R> {
        match self.reads.index_for_follower(path).await {
            Ok(index) => PeerReply::ReadIndex(index),
            Err(_) => PeerReply::NotLeader { leader: self.raft.current_leader().await },
        }
    }

    async fn receive_snapshot(&self, from: NodeId, chunk: SnapshotChunk<R>) -> PeerReply<R> {
        match self.staging.receive(from, &chunk) {
            Ok(None) => PeerReply::Snapshot(None),
            Ok(Some(received)) => {
                let checked = R::spawn_blocking(move || received.checked()).await.and_then(|checked| checked);
                let received = match checked {
                    Ok(received) => received,
                    Err(error) => {
                        tracing::warn!(%from, %error, "received a snapshot that cannot be installed");
                        return PeerReply::Failed(error.to_string());
                    }
                };
                let snapshot = Snapshot { meta: chunk.meta, snapshot: SnapshotData::Received(received) };
                let installed = self.raft.install_full_snapshot(chunk.vote, snapshot).await;
                or_failed(installed, |response| PeerReply::Snapshot(Some(response)))
            }
            Err(error) => PeerReply::Failed(error.to_string()),
        }
    }
}

fn or_failed<R: Runtime, T, E: std::fmt::Display>(
    result: Result<T, E>,
    reply: impl FnOnce(T) -> PeerReply<R>,
) -> PeerReply<R> {
    match result {
        Ok(value) => reply(value),
        Err(error) => PeerReply::Failed(error.to_string()),
    }
}
