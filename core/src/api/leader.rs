//! Clients that would rather hear nothing than from a member that has no leader: they say so by the metadata `hasleader`.

use std::time::Duration;

use http::HeaderMap;
use openraft::ServerState;
use openraft_rt::{Instant as _, WatchReceiver};

use super::error::ApiError;
use super::header::Headers;
use crate::runtime::Runtime;
use crate::watch::Interval;

/// The metadata by which a client asks for it.
pub(crate) const HAS_LEADER: &str = "hasleader";

/// For how many election time-outs a member may have no leader until such a client's stream ends, as in etcd.
const LEADERLESS_MAX: u32 = 3;

/// Knows whether a member has a leader.
pub(crate) struct LeaderCheck<R: Runtime> {
    pub(crate) headers: Headers<R>,
    pub(crate) election_timeout: Duration,
}

impl<R: Runtime> Clone for LeaderCheck<R> {
    fn clone(&self) -> Self {
        LeaderCheck { headers: self.headers.clone(), election_timeout: self.election_timeout }
    }
}

impl<R: Runtime> LeaderCheck<R> {
    /// Lets a request pass that asks for no leader, or if there is one.
    ///
    /// # Errors
    /// `NoLeader`
    pub(crate) fn admit(&self, metadata: &HeaderMap) -> Result<(), ApiError> {
        if wants_leader(metadata) && self.is_leaderless() { Err(ApiError::NoLeader) } else { Ok(()) }
    }

    /// Looks after a leader for a stream that began with this metadata.
    pub(super) fn follow(&self, metadata: &HeaderMap) -> LeaderWatch<R> {
        let checks = wants_leader(metadata).then(|| Interval::new(self.election_timeout));
        LeaderWatch { check: self.clone(), checks, leaderless: 0 }
    }

    /// Whether the member has no leader, or is one that no quorum has answered for an election time-out.
    fn is_leaderless(&self) -> bool {
        let metrics = self.headers.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return metrics.current_leader.is_none();
        }
        let alone = metrics.membership_config.voter_ids().eq([self.headers.node]);
        let acked = metrics.last_quorum_acked.as_ref().map(|acked| acked.into_inner());
        !alone && acked.is_none_or(|acked| acked + self.election_timeout < R::Instant::now())
    }
}

/// Whether a request's client asks for a leader.
pub(crate) fn wants_leader(metadata: &HeaderMap) -> bool {
    metadata.get(HAS_LEADER).is_some_and(|value| value == "true")
}

/// Looks after a leader for one stream.
pub(super) struct LeaderWatch<R: Runtime> {
    check: LeaderCheck<R>,
    /// When to look, if the client wants a leader.
    checks: Option<Interval<R>>,
    /// How often there was none, one after the other.
    leaderless: u32,
}

impl<R: Runtime> LeaderWatch<R> {
    /// Whether the client wants a leader.
    pub(super) fn is_wanted(&self) -> bool {
        self.checks.is_some()
    }

    /// Resolves when there has been no leader for too long. Nothing is lost if it is dropped before.
    pub(super) async fn lost(&mut self) {
        while self.leaderless < LEADERLESS_MAX {
            let Some(checks) = &mut self.checks else { return std::future::pending().await };
            checks.passed().await;
            self.look();
        }
    }

    /// Whether there has been no leader for too long, for those who have no time to wait for it.
    pub(super) fn is_lost(&mut self) -> bool {
        if self.checks.as_mut().is_some_and(Interval::has_passed) {
            self.look();
        }
        self.leaderless >= LEADERLESS_MAX
    }

    fn look(&mut self) {
        self.leaderless = if self.check.is_leaderless() { self.leaderless + 1 } else { 0 };
    }
}
