//! Why the store refuses a request.

use serde::{Deserialize, Serialize};

/// A request that cannot be answered as it stands. Every member refuses it alike, and nothing is changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The history at this revision is gone.
    #[error("revision {requested} has been compacted (compacted up to {compacted})")]
    Compacted {
        /// What was asked for.
        requested: i64,
        /// The least revision whose state is still whole.
        compacted: i64,
    },
    /// The revision has not been reached yet.
    #[error("revision {requested} is a future revision (the store is at {current})")]
    FutureRevision {
        /// What was asked for.
        requested: i64,
        /// The store's revision.
        current: i64,
    },
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key {0:?} is not found")]
    KeyNotFound(bytes::Bytes),
    /// There is no such lease.
    #[error("lease {0} is not found")]
    LeaseNotFound(i64),
    /// A lease of this number exists already.
    #[error("lease {0} exists already")]
    LeaseExists(i64),
    /// What a leader has decided about a lease counts in its own term only, and that is over.
    #[error("the leader of term {decided} has decided it, and the entry is of term {entry}")]
    LaterTerm {
        /// In which term it was decided.
        decided: u64,
        /// In which term it was written to the log.
        entry: u64,
    },
}
