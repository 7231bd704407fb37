//! The multi-version store, as etcd has it.
//!
//! Every change makes a row, and rows stay: a key can be read as it was at any revision since the last compaction.
//!
//! ```text
//!   Store ── range, changes, hash, snapshot         what is visible, without waiting for writers
//!     │
//!     ├── begin → Batch ── put, delete_range, txn, compact, leases ── commit
//!     ├── flush                                     what was committed becomes durable
//!     ├── compaction_step                           what was compacted is deleted
//!     └── installer → Installer ── feed ── finish   everything is replaced (SnapshotCheck: could it be?)
//!
//!   Index     key → revisions        in memory, derived from the rows
//!   rows      revision → change      in the database, a file of the member's disk
//!   Leases    number → time, keys    in both: the times in the database, the keys derived from the rows
//!   Subscriptions   key, range → who wants to know of changes     in memory
//! ```
//!
//! * A batch becomes visible as a whole, a request as a whole or not at all.
//! * The answers and refusals of a batch follow from the state and its requests alone, so that members who apply the same
//!   log stay equal.
//! * What is durable is a prefix of what was committed, at the border of a batch.
//! * A page of the file that is not what it was is not served: all are checked when the file is opened, and each that is
//!   read later against what it was then. What stays unnoticed: the file as a whole as it was at an earlier durable
//!   commit. The log tells, if it has forgotten what was applied since, and brings it otherwise.

mod backend;
mod batch;
mod changes;
mod compaction;
mod compare;
mod defragment;
mod error;
mod hash;
mod index;
mod install;
mod key_index;
mod key_range;
mod leases;
mod page_sums;
mod range;
mod read_txn;
mod recovery;
mod refusal;
mod revision;
mod row;
mod snapshot;
mod store;
mod stream;
mod subscriptions;
mod txn;
pub mod validate;

#[cfg(test)]
mod tests;

pub use self::batch::Batch;
pub use self::changes::{Change, Changes, PieceLimit};
pub use self::error::{ApplyError, InstallError, StoreError};
pub use self::hash::{Digest, KvHash};
pub use self::install::Installer;
pub(crate) use self::key_range::KeyRange;
pub use self::leases::{Lease, Leases};
pub use self::read_txn::reads_only;
pub use self::refusal::Refusal;
pub use self::revision::Revision;
pub use self::snapshot::StoreSnapshot;
pub use self::store::{Options, REPLICATED, Reading, Store, StoreSize};
pub use self::stream::SnapshotCheck;
pub(crate) use self::subscriptions::Subscriber;
pub use self::validate::Invalid;
