//! Linearizable reads by the clock (Raft thesis, section 6.4.1).
//!
//! A voter that has heard of its leader grants no vote for one lease. So a leader that a quorum has answered knows that
//! nobody else can be elected until one lease after it *sent* what they answered, if clocks run alike. They do not:
//!
//! ```text
//!   voter      ├──── lease, by a fast clock ────┤                    true time = lease / (1 + drift)
//!   leader  ├──── trusted, by a slow clock ────┤                     true time = trusted / (1 − drift)
//!
//!   safe if    trusted ≤ lease · (1 − drift) / (1 + drift)
//! ```
//!
//! `drift` is what the operator declares of every clock, against true time. Beyond it the path is not safe, and nothing
//! can tell. A voter that restarts has forgotten what it granted: it grants no vote, and does not campaign, for one lease
//! (see [`VoteHold`](crate::raft::VoteHold)). A leader that hands leadership over trusts its lease no more.
//!
//! A leader whose lease has run out reads by ReadIndex. A pause between the look at the clock and the answer does no
//! harm: the read takes effect at the look. A machine that is suspended is another matter: its monotonic clock may stand
//! still meanwhile, which is a drift beyond any bound. Nor can a member tell whether the others keep the same lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft_rt::{Instant, WatchReceiver};

use super::leadership::{Leadership, Member};
use super::rounds::{Round, Rounds};
use super::{ReadError, ReadIndex, ReadOptions, ReadPath};
use crate::raft::message::PeerRequest;
use crate::raft::{Raft, Term};
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::Stop;

/// The terms of leases, the same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseReadOptions {
    /// How long a voter grants no vote after it has heard of a leader: raft's greatest election time-out.
    pub lease: Duration,
    /// How fast or slow any member's clock may run against true time, in parts in a million, below a million.
    pub drift_ppm: u32,
}

impl LeaseReadOptions {
    /// How long a leader trusts its lease, by its own clock.
    fn trusted<R: Runtime>(self) -> Duration {
        if R::Mutants::active(Mutant::LeaseWithoutMargin) {
            return self.lease;
        }
        let drift = f64::from(self.drift_ppm) / 1e6;
        self.lease.mul_f64(((1.0 - drift) / (1.0 + drift)).max(0.0))
    }
}

/// The lease path of one member.
pub(crate) struct LeaseRead<R: Runtime> {
    raft: Raft<R>,
    rounds: Rounds<R>,
}

impl<R: Runtime> Clone for LeaseRead<R> {
    fn clone(&self) -> Self {
        LeaseRead { raft: self.raft.clone(), rounds: self.rounds.clone() }
    }
}

/// The greatest term whose lease is not to be trusted: its leader hands leadership over, and voters may elect another
/// at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp(Arc<AtomicU64>);

impl GivenUp {
    /// From now on, the lease of that term is not trusted.
    pub(crate) fn give_up(&self, term: Term) {
        self.0.fetch_max(term, Ordering::AcqRel);
    }

    fn includes(&self, term: Term) -> bool {
        term <= self.0.load(Ordering::Acquire)
    }
}

impl<R: Runtime> LeaseRead<R> {
    /// Starts the rounds of this path.
    pub(crate) fn start(
        member: Member<R>,
        read_index: ReadIndex<R>,
        lease: LeaseReadOptions,
        given_up: GivenUp,
        options: ReadOptions,
        stop: Stop,
    ) -> Self {
        let raft = member.raft.clone();
        let clock = ByClock { member, read_index, lease, given_up, options };
        LeaseRead { raft, rounds: Rounds::start(clock, options, stop) }
    }

    /// An index that is linearizable to read at.
    pub(crate) async fn index(&self) -> Result<u64, ReadError> {
        self.rounds.index().await
    }

    /// The same, for a follower that asks this member as its leader.
    pub(crate) async fn index_if_leader(&self) -> Result<u64, ReadError> {
        if !self.raft.is_leader() {
            return Err(ReadError::NotLeader);
        }
        self.index().await
    }
}

/// A round: a look at the clock if this member leads, a question to the leader if not.
struct ByClock<R: Runtime> {
    member: Member<R>,
    read_index: ReadIndex<R>,
    lease: LeaseReadOptions,
    given_up: GivenUp,
    options: ReadOptions,
}

impl<R: Runtime> Round for ByClock<R> {
    async fn find(&mut self) -> Result<u64, ReadError> {
        let ByClock { member, options, .. } = self;
        member.counters.round(ReadPath::Lease);
        match member.raft.current_leader().await {
            Some(leader) if leader == member.node => {
                let leadership = Leadership::of(member).await?;
                // Looked at after the index was noted: nobody was elected before this moment.
                if self.holds(leadership.term) { Ok(leadership.index) } else { self.read_index.index().await }
            }
            Some(leader) => {
                member.counters.message(ReadPath::Lease);
                member.ask_leader(leader, PeerRequest::LeaseRead, options.round_limit).await
            }
            None => Err(ReadError::NotLeader),
        }
    }
}

impl<R: Runtime> ByClock<R> {
    /// Whether nobody else can have been elected yet. Raft's word on when a quorum was last heard of may be late, never
    /// early.
    fn holds(&self, term: Term) -> bool {
        let metrics = self.member.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sole = metrics.membership_config.voter_ids().eq([self.member.node]);
        let acked = metrics.last_quorum_acked.map(|acked| acked.into_inner());
        let in_time = acked.is_some_and(|acked| R::Instant::now() < acked + self.lease.trusted::<R>());
        metrics.current_term == term && !self.given_up.includes(term) && (sole || in_time)
    }
}
