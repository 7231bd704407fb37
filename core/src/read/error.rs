//! Why a read could not be answered.

use crate::raft::ProposeError;

/// A read could not be made linearizable. Nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed an index in time.
    #[error("no leader confirmed the read in time")]
    Timeout,
    /// The index was confirmed, but this member did not apply it in time.
    #[error("the member did not apply the read index in time")]
    ApplyTimeout,
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader,
    /// This member is stopping.
    #[error("the member is stopping")]
    Stopped,
    /// A lease read was asked for, and this cluster has none.
    #[error("lease reads are not enabled")]
    NoLeases,
    /// A log read was not committed.
    #[error(transparent)]
    Proposal(#[from] ProposeError),
}
