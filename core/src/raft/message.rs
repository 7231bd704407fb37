//! What members say to each other, and its encoding.
//!
//! An encoded message has neither names nor a version: kinds and fields are told by their places. What changes one of
//! them raises [`PROTOCOL_VERSION`](crate::runtime::PROTOCOL_VERSION), by which members of different versions refuse each
//! other before the first message. A kind that is added at the end of its enum does not: whoever does not know it cannot
//! take it for another, and says that the message cannot be read.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotMetaOf, VoteOf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Command, Reply};
use super::type_config::TypeConfig;
use crate::ids::{NodeId, Term};
use crate::lease::{LeaseReply, LeaseRequest};
use crate::runtime::Runtime;

/// A request of one member to another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) enum PeerRequest<R: Runtime> {
    AppendEntries(AppendEntriesRequest<TypeConfig<R>>),
    Vote(VoteRequest<TypeConfig<R>>),
    PreVote(VoteRequest<TypeConfig<R>>),
    Snapshot(SnapshotChunk<R>),
    TransferLeader(TransferLeaderRequest<TypeConfig<R>>),
    /// A follower asks for an index that is linearizable to read at.
    ReadIndex,
    /// A follower hands a client's change to the leader.
    Propose(Command),
    /// The leader of a term asks whether a greater one was promised to anybody.
    Confirm {
        term: Term,
        /// The number of the try.
        context: u64,
    },
    /// A follower asks for an index to read at by the leader's lease.
    LeaseRead,
    /// A member with an empty disk asks whether it has been a member before.
    KnowsMe,
    /// A follower asks the leader about leases.
    Lease(LeaseRequest),
}

/// A piece of a snapshot. Pieces are sent one after the other: one that does not follow the last is refused, and
/// offset 0 begins again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct SnapshotChunk<R: Runtime> {
    /// The vote of the leader that sends it.
    pub(crate) vote: VoteOf<TypeConfig<R>>,
    pub(crate) meta: SnapshotMetaOf<TypeConfig<R>>,
    /// How many bytes have been sent before.
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    /// Whether this is the last piece: its reply comes when the snapshot is installed.
    pub(crate) last: bool,
}

/// The reply to each request, in the same order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) enum PeerReply<R: Runtime> {
    AppendEntries(AppendEntriesResponse<TypeConfig<R>>),
    Vote(VoteResponse<TypeConfig<R>>),
    /// `None` until the last piece.
    Snapshot(Option<SnapshotResponse<TypeConfig<R>>>),
    TransferLeader(TransferLeaderResponse<TypeConfig<R>>),
    ReadIndex(u64),
    Propose {
        /// Where the entry is in the log.
        index: u64,
        reply: Reply,
    },
    /// The request was not carried out, and will not be.
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Nobody knows whether the proposal will be carried out.
    Discarded,
    /// The member could not do it, for the reason given.
    Failed(String),
    /// No greater term was promised when this try asked.
    Confirm {
        context: u64,
    },
    /// Whether the asking member has been one before.
    KnowsYou(bool),
    Lease(LeaseReply),
}

/// Whether a request, in its encoded form, may be carried out twice. A change that is handed to the leader may not: it
/// would be made twice.
pub fn is_repeatable(request: &[u8]) -> bool {
    /// [`PeerRequest::Propose`]'s place among the requests, with which its encoded form begins.
    const PROPOSE: u8 = 6;
    request.first() != Some(&PROPOSE)
}

/// A message could not be read.
#[derive(Debug, thiserror::Error)]
#[error("message of {length} bytes cannot be read: {source}")]
pub(crate) struct MalformedMessage {
    length: usize,
    source: postcard::Error,
}

/// Encodes a message.
pub(crate) fn encode<M: Serialize>(message: &M) -> Bytes {
    // Most messages are this small: a buffer that grows from nothing is copied several times on the way.
    let buffer = Vec::with_capacity(256);
    let encoded = postcard::to_extend(message, buffer);
    encoded.expect("encoding to memory fails only for types of unknown length").into()
}

/// Decodes a message.
pub(crate) fn decode<M: DeserializeOwned>(encoded: &[u8]) -> Result<M, MalformedMessage> {
    let malformed = |source| MalformedMessage { length: encoded.len(), source };
    match postcard::take_from_bytes(encoded).map_err(malformed)? {
        (message, []) => Ok(message),
        // A longer message is another one, of a newer member perhaps: half of it must not be acted on.
        _ => Err(malformed(postcard::Error::DeserializeBadEncoding)),
    }
}

#[cfg(test)]
mod tests;
