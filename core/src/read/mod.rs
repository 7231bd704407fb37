//! The read paths, one file each. What they promise differs; what they read is the member's own applied state.
//!
//! | Path | before it reads | may be stale | costs |
//! |---|---|---|---|
//! | [`serializable`] | nothing | yes | nothing |
//! | [`read_index`] | a quorum says that the leader still leads; the member applies its commit index | no | messages, shared by all who read at the same time |
//! | [`lease_read`] | the leader's clock says that it still leads | no, while clocks keep what was declared of them | no message on the leader |
//! | [`log_read`] | an entry of its own goes through the log | no | what a write costs, an fsync among it |
//!
//! ```text
//!            Reads                 which path, counted
//!       /     |      \
//!  log_read  lease   read_index    when the member's state may be read
//!               \    /
//!               rounds             many readers, one round
//!                 |
//!             leadership           who leads, up to where, and whether a quorum still says so
//! ```

mod counters;
mod error;
mod leadership;
mod lease_read;
mod log_read;
mod path;
mod read_index;
mod rounds;
mod serializable;

use std::sync::Arc;
use std::time::Duration;

use openraft_rt::Instant;

pub(crate) use self::counters::Counters;
pub use self::counters::{PathCounters, ReadCounters};
pub use self::error::ReadError;
pub(crate) use self::leadership::{Leadership, Member};
pub use self::lease_read::LeaseReadOptions;
pub(crate) use self::lease_read::{GivenUp, LeaseRead};
pub use self::path::{ReadPath, UnknownReadPath};
pub(crate) use self::read_index::ReadIndex;
use crate::proto::etcdserverpb::RangeRequest;
use crate::raft::Proposer;
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::Watermark;

/// Times of the read paths.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// How long a reader waits for an index, and again for its apply.
    pub limit: Duration,
    /// How long one round may take before it is tried again.
    pub round_limit: Duration,
    /// How long to wait after a round that failed at once.
    pub retry: Duration,
}

/// The read paths of one member.
pub(crate) struct Reads<R: Runtime> {
    pub(crate) read_index: ReadIndex<R>,
    /// `None`, if this cluster has no lease reads.
    pub(crate) lease: Option<LeaseRead<R>>,
    pub(crate) proposer: Proposer<R>,
    pub(crate) applied: Watermark,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limit: Duration,
}

impl<R: Runtime> Reads<R> {
    /// Resolves once the member's applied state may be read by that path, for this request and in this operation.
    pub(crate) async fn ready(
        &self,
        path: ReadPath,
        request: impl FnOnce() -> RangeRequest,
        operation: u64,
    ) -> Result<(), ReadError> {
        let begun = R::Instant::now();
        let ready = match path {
            ReadPath::Serializable => serializable::ready(),
            ReadPath::ReadIndex => self.apply(self.read_index.index().await).await,
            ReadPath::Lease => match &self.lease {
                Some(lease) => self.apply(lease.index().await).await,
                None => Err(ReadError::NoLeases),
            },
            ReadPath::Log => log_read::ready(&self.proposer, request(), operation).await,
        };
        self.counters.read(path, R::Instant::now() - begun);
        ready
    }

    /// Resolves once the member's applied state may be read for something that is no range.
    pub(crate) async fn linearizable(&self) -> Result<(), ReadError> {
        self.ready(ReadPath::ReadIndex, RangeRequest::default, 0).await
    }

    /// Waits until the member has applied an index.
    async fn apply(&self, index: Result<u64, ReadError>) -> Result<(), ReadError> {
        let index = index?;
        if R::Mutants::active(Mutant::ReadWithoutApplyWait) {
            return Ok(());
        }
        R::timeout(self.limit, self.applied.reached(index)).await.map_err(|_| ReadError::ApplyTimeout)
    }

    /// An index for a follower that asks this member as its leader.
    pub(crate) async fn index_for_follower(&self, path: ReadPath) -> Result<u64, ReadError> {
        match (path, &self.lease) {
            (ReadPath::ReadIndex, _) => self.read_index.index_if_leader().await,
            (ReadPath::Lease, Some(lease)) => lease.index_if_leader().await,
            _ => Err(ReadError::NotLeader),
        }
    }
}
