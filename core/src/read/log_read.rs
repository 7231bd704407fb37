//! Reads through the log, as etcd 3.0 made them: the range is proposed, replicated and synced like a write, and read
//! once the member has applied its entry.
//!
//! Whatever was acknowledged before the read began lies before its entry. Applying the entry does nothing: only the
//! member that serves the client has a use for the answer, and reads it from its own state.

use super::ReadError;
use crate::proto::etcdserverpb::RangeRequest;
use crate::raft::{Command, Proposer, Request};
use crate::runtime::Runtime;

/// Resolves once the entry of this read is applied on this member.
pub(super) async fn ready<R: Runtime>(
    proposer: &Proposer<R>,
    request: RangeRequest,
    operation: u64,
) -> Result<(), ReadError> {
    proposer.propose(Command::new(operation, Request::Range(request))).await?;
    Ok(())
}
