//! etcd's errors. Clients map them by the exact text, so the text is part of the protocol.

use tonic::{Code, Status};

use crate::mvcc::{ApplyError, Invalid, Refusal, StoreError};
use crate::raft::ProposeError;
use crate::read::ReadError;

/// An error as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The history at the revision is gone.
    Compacted,
    /// The revision has not been reached.
    FutureRevision,
    /// The request names no key.
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// A value together with `ignore_value`.
    ValueProvided,
    /// A lease together with `ignore_lease`.
    LeaseProvided,
    /// More operations than one transaction may have.
    TooManyOperations,
    /// A transaction changes a key twice.
    DuplicateKey,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// The request is larger than a log entry may be.
    RequestTooLarge,
    /// No such lease.
    LeaseNotFound,
    /// A lease of that number exists already.
    LeaseExists,
    /// A lease for longer than leases may be.
    LeaseTtlTooLarge,
    /// The lease of whoever waited for a lock has ended.
    SessionExpired,
    /// Whoever speaks as a leader is none any more.
    ElectionNotLeader,
    /// Nobody leads.
    ElectionNoLeader,
    /// A request of a leader that does not say of which.
    MissingLeaderKey,
    /// The member has too much to apply.
    TooManyRequests,
    /// There is no leader.
    NoLeader,
    /// Leadership changed while the request was under way.
    LeaderChanged,
    /// There was no answer in time: a change may yet take effect.
    Timeout,
    /// The same, and a leader was elected meanwhile.
    TimeoutLeaderFailed,
    /// The same, and a connection to the leader or to a quorum was lost.
    TimeoutConnectionLost,
    /// The member has not applied the log far enough in time.
    ApplyTimeout,
    /// The member is stopping.
    Stopped,
    /// The member's own data cannot be read.
    Corrupt,
    /// A lease read was asked for, which this cluster does not offer. etcd has no such error.
    NoLeaseReads,
    /// A read path that does not exist was asked for. etcd has no such error.
    UnknownReadPath,
}

impl ApiError {
    /// etcd's code and text.
    pub fn code_and_message(self) -> (Code, &'static str) {
        match self {
            ApiError::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            ApiError::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            ApiError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            ApiError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            ApiError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            ApiError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            ApiError::TooManyOperations => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            ApiError::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            ApiError::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            ApiError::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            ApiError::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            ApiError::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            ApiError::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            // As etcd has it: these come from its client library, without a code.
            ApiError::SessionExpired => (Code::Unknown, "mutex: session is expired"),
            ApiError::ElectionNotLeader => (Code::Unknown, "election: not leader"),
            ApiError::ElectionNoLeader => (Code::Unknown, "election: no leader"),
            ApiError::MissingLeaderKey => (Code::Unknown, "\"leader\" field must be provided"),
            ApiError::TooManyRequests => (Code::ResourceExhausted, "etcdserver: too many requests"),
            ApiError::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            ApiError::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            ApiError::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            ApiError::TimeoutLeaderFailed => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
            }
            ApiError::TimeoutConnectionLost => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost")
            }
            ApiError::ApplyTimeout => {
                (Code::Unavailable, "etcdserver: request timed out, waiting for the applied index took too long")
            }
            ApiError::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            ApiError::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            ApiError::NoLeaseReads => (Code::FailedPrecondition, "seedbed: lease reads are not enabled"),
            ApiError::UnknownReadPath => {
                (Code::InvalidArgument, "seedbed: seedbed-read-path is none of serializable, read-index, log and lease")
            }
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, message) = error.code_and_message();
        Status::new(code, message)
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::EmptyKey => ApiError::EmptyKey,
            Invalid::ValueProvided => ApiError::ValueProvided,
            Invalid::LeaseProvided => ApiError::LeaseProvided,
            Invalid::TooManyOps => ApiError::TooManyOperations,
            Invalid::DuplicateKey => ApiError::DuplicateKey,
            Invalid::InvalidSortOption => ApiError::InvalidSortOption,
            Invalid::EmptyOp => ApiError::KeyNotFound,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Compacted { .. } => ApiError::Compacted,
            Refusal::FutureRevision { .. } => ApiError::FutureRevision,
            Refusal::KeyNotFound(_) => ApiError::KeyNotFound,
            Refusal::LeaseNotFound(_) => ApiError::LeaseNotFound,
            Refusal::LeaseExists(_) => ApiError::LeaseExists,
            Refusal::LaterTerm { .. } => ApiError::LeaderChanged,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store cannot be read");
        ApiError::Corrupt
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Refused(refusal) => refusal.into(),
            ApplyError::Store(error) => error.into(),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => ApiError::NoLeader,
            ProposeError::Timeout => ApiError::Timeout,
            ProposeError::LeaderFailed => ApiError::TimeoutLeaderFailed,
            ProposeError::ConnectionLost => ApiError::TimeoutConnectionLost,
            ProposeError::LeaderChanged => ApiError::LeaderChanged,
            ProposeError::Stopped => ApiError::Stopped,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Timeout => ApiError::Timeout,
            ReadError::ApplyTimeout => ApiError::ApplyTimeout,
            ReadError::NotLeader => ApiError::LeaderChanged,
            ReadError::Stopped => ApiError::Stopped,
            ReadError::NoLeases => ApiError::NoLeaseReads,
            ReadError::Proposal(error) => error.into(),
        }
    }
}
