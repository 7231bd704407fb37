//! What is written to the log, and what applying it answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{NodeId, Term};
use crate::members::Attributes;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, TxnRequest,
    TxnResponse,
};

/// A change. Kinds are numbered in this order in logs and messages: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Request {
    Put(#[serde(with = "as_protobuf")] PutRequest),
    DeleteRange(#[serde(with = "as_protobuf")] DeleteRangeRequest),
    Txn(#[serde(with = "as_protobuf")] TxnRequest),
    Compact(#[serde(with = "as_protobuf")] CompactionRequest),
    /// A member says what clients may know of it. It has no revision.
    Publish {
        member: NodeId,
        attributes: Attributes,
    },
    /// A read that wants a place in the log. Applying it does nothing.
    Range(#[serde(with = "as_protobuf")] RangeRequest),
    LeaseGrant(#[serde(with = "as_protobuf")] LeaseGrantRequest),
    LeaseRevoke(#[serde(with = "as_protobuf")] LeaseRevokeRequest),
    /// The leader of a term has seen the end of a lease, that of its number which was granted at a place in the log. It
    /// counts in an entry of that term alone: whoever leads later may have renewed it.
    LeaseExpire {
        id: i64,
        granted: u64,
        term: Term,
    },
    /// The leader of a term notes what is left of leases. It counts in an entry of that term alone.
    LeaseRests {
        term: Term,
        rests: Vec<LeaseRest>,
    },
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRest {
    /// Its number.
    pub id: i64,
    /// The place in the log of its grant.
    pub granted: u64,
    /// In seconds; 0: all of it.
    pub rest: i64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The client operation that this change belongs to, for a judge that must know whether an operation without an
    /// answer took effect; 0 where nobody asks.
    pub operation: u64,
    /// The change. Shared: openraft hands entries from queue to queue by value, and keeps a copy for each follower.
    pub request: Arc<Request>,
}

impl Command {
    /// A change that belongs to an operation; 0 where nobody asks.
    pub fn new(operation: u64, request: Request) -> Command {
        Command { operation, request: Arc::new(request) }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &*self.request {
            Request::Put(_) => "put",
            Request::DeleteRange(_) => "delete-range",
            Request::Txn(_) => "txn",
            Request::Compact(_) => "compact",
            Request::Publish { .. } => "publish",
            Request::Range(_) => "range",
            Request::LeaseGrant(_) => "lease-grant",
            Request::LeaseRevoke(_) => "lease-revoke",
            Request::LeaseExpire { .. } => "lease-expire",
            Request::LeaseRests { .. } => "lease-rests",
        };
        write!(f, "{name}#{}", self.operation)
    }
}

/// What applying an entry answers. Headers carry the revision only; who serves fills in the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reply {
    /// To entries with nothing to say: blanks, memberships, publications, log reads, and what a leader notes of leases.
    None,
    Put(#[serde(with = "as_protobuf")] PutResponse),
    DeleteRange(#[serde(with = "as_protobuf")] DeleteRangeResponse),
    Txn(#[serde(with = "as_protobuf")] TxnResponse),
    Compact(#[serde(with = "as_protobuf")] CompactionResponse),
    /// The request was refused, by every member alike, and changed nothing.
    Refused(crate::mvcc::Refusal),
    LeaseGrant(#[serde(with = "as_protobuf")] LeaseGrantResponse),
    /// To the end of a lease, whoever has brought it about.
    LeaseRevoke(#[serde(with = "as_protobuf")] LeaseRevokeResponse),
}

/// Protobuf messages inside of serde's types: as their encoded bytes.
mod as_protobuf {
    use super::*;

    pub(super) fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&message.encode_to_vec())
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
        let encoded = Bytes::deserialize(deserializer)?;
        M::decode(encoded).map_err(serde::de::Error::custom)
    }
}
