//! What every change that a client asks for goes through before the log.

use openraft_rt::WatchReceiver;

use super::dispatch::OperationId;
use super::error::ApiError;
use crate::raft::{Command, Proposer, Raft, Reply, Request};
use crate::runtime::Runtime;
use crate::watermark::Watermark;

/// What etcd allows by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in one list of a transaction, nested ones included.
    pub txn_operations: usize,
    /// Bytes of an encoded request.
    pub request_bytes: usize,
    /// Entries that may be committed and not yet applied before new requests are refused.
    pub apply_gap: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { txn_operations: 128, request_bytes: 3 << 19, apply_gap: 5000 }
    }
}

/// The way of clients' changes to the log.
pub(crate) struct Proposals<R: Runtime> {
    pub(crate) raft: Raft<R>,
    pub(crate) applied: Watermark,
    pub(crate) proposer: Proposer<R>,
    pub(crate) limits: Limits,
}

impl<R: Runtime> Clone for Proposals<R> {
    fn clone(&self) -> Self {
        Proposals {
            raft: self.raft.clone(),
            applied: self.applied.clone(),
            proposer: self.proposer.clone(),
            limits: self.limits.clone(),
        }
    }
}

impl<R: Runtime> Proposals<R> {
    /// Proposes a change of so many bytes, and answers what came of it on this member.
    pub(crate) async fn propose(
        &self,
        operation: OperationId,
        request: Request,
        bytes: usize,
    ) -> Result<Reply, ApiError> {
        let committed = self.raft.data_metrics().borrow_watched().local_committed.map_or(0, |log_id| log_id.index());
        if committed.saturating_sub(self.applied.get()) > self.limits.apply_gap {
            return Err(ApiError::TooManyRequests);
        }
        if bytes > self.limits.request_bytes {
            return Err(ApiError::RequestTooLarge);
        }
        match self.proposer.propose(Command::new(operation.0, request)).await? {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }
}

/// A reply is of its request's kind by construction of the state machine.
pub(super) fn other_kind(reply: &Reply) -> ! {
    panic!("the state machine answered a request with a reply of another kind: {reply:?}")
}
