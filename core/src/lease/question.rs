//! What a member asks the leader about leases.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A question. To ask it twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaseRequest {
    /// To renew leases.
    Renew(Vec<i64>),
    /// What is left of one.
    Remaining { id: i64, with_keys: bool },
}

/// The answer to each, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaseReply {
    /// For each lease, the seconds that it has from now on; 0 if there is none of that number.
    Renewed(Vec<i64>),
    Remaining(Remaining),
}

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remaining {
    /// The store's revision then.
    pub(crate) revision: i64,
    /// Whole seconds that are left, and seconds that it was granted for; nothing, if there is no such lease.
    pub(crate) left: Option<(i64, i64)>,
    /// Its keys, if they were asked for.
    pub(crate) keys: Vec<Bytes>,
}
