//! What the store tells an observer inside the process.
//!
//! A judge needs facts that no client sees: which entry was applied where, which vote was kept. They are reported at our
//! own seams, at the moment they become true, since openraft's metrics skip states. A probe only listens: nothing it
//! does may change what the store does.

use crate::ids::NodeId;
use crate::proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest};

/// An entry as one member applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedEntry {
    /// The entry's place in the log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// The client operation that it carries, or 0.
    pub operation: u64,
    /// The store's revision after it.
    pub revision: i64,
    /// Whether it changed any key.
    pub changed: bool,
    /// Whether it compacted the history.
    pub compacted: bool,
    /// What became of a lease.
    pub lease: Option<LeaseChange>,
    /// The digest of the store's whole history after it.
    pub digest: u64,
}

/// What an entry did to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted(i64),
    /// It was revoked, as a client had asked.
    Revoked(i64),
    /// It was at its end, as a leader had seen.
    Expired(i64),
    /// What is left of it was noted, or that was taken back.
    Noted,
}

/// What an entry asks for, in the protocol's words.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Change {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    LeaseGrant(LeaseGrantRequest),
    /// Also the end of a lease that was at its end.
    LeaseRevoke(LeaseRevokeRequest),
}

/// An observer. Every method does nothing unless overridden.
pub trait Probe: Send + Sync + 'static {
    /// Whether anybody listens. What is costly to tell is told only then.
    const LISTENS: bool = true;

    /// `node` has applied an entry that carries no client operation, and has changed a key or a lease.
    fn unasked(_node: NodeId, _index: u64, _change: Change) {}

    /// `node` has applied an entry.
    fn applied(_node: NodeId, _entry: AppliedEntry) {}

    /// `node` has begun to lead in `term`.
    fn leads(_node: NodeId, _term: u64) {}

    /// `node` has made its vote durable: the term, for whom, and whether a quorum had granted it.
    fn voted(_node: NodeId, _term: u64, _candidate: NodeId, _committed: bool) {}
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub enum NoProbe {}

impl Probe for NoProbe {
    const LISTENS: bool = false;
}
