//! No vote for a while after a restart, where leases are trusted.

use std::time::Duration;

use openraft::raft::VoteRequest;
use openraft_rt::Instant;

use super::type_config::TypeConfig;
use crate::runtime::{Mutant, Mutants, Runtime};

/// A voter that has heard of a leader grants no vote for one lease, and a leader may read by that. A restarted voter does
/// not remember: it may have granted a lease a moment ago. So it grants nothing until one lease has passed since its
/// start, when whatever it had granted is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VoteHold<R: Runtime> {
    until: Option<R::Instant>,
}

impl<R: Runtime> VoteHold<R> {
    /// Nothing was granted, or nobody trusts it.
    pub(crate) fn none() -> Self {
        VoteHold { until: None }
    }

    /// From now on, for one lease.
    pub(crate) fn begin(lease: Duration) -> Self {
        let forgotten = R::Mutants::active(Mutant::VoteInForgottenLease);
        VoteHold { until: (!forgotten).then(|| R::Instant::now() + lease) }
    }

    /// When it ends, if it has not been `none` from the start.
    pub(crate) fn until(&self) -> Option<R::Instant> {
        self.until
    }

    /// Whether a vote must not be granted now. One that the leader itself asks for, to hand leadership over, may be: it
    /// has given up its lease.
    pub(crate) fn holds(&self, vote: &VoteRequest<TypeConfig<R>>) -> bool {
        !vote.leadership_transfer && self.until.is_some_and(|until| R::Instant::now() < until)
    }
}
