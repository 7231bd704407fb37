//! Planted bugs: mistakes that the testbed must notice.
//!
//! They are a type of the runtime, not a feature of the build, so that feature unification can never bring them into the
//! server: its runtime says [`NoMutants`], and every question about one folds to `false`.

use std::fmt;
use std::str::FromStr;

/// A mistake that can be planted in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// The WAL reports entries as flushed before it has synced them (etcd #14370).
    AckBeforeFsync,
    /// openraft's `enable_leader_restore` is left on: a restarted leader leads on without an election, though it may
    /// have lost entries that it had replicated but not flushed.
    LeaderRestore,
    /// The applied index is committed in a transaction of its own, before the data (etcd #13766).
    AppliedIndexApart,
    /// A linearizable read does not wait until the member has applied the read index.
    ReadWithoutApplyWait,
    /// The network adapter acknowledges entries that it has not handed to raft.
    ForgedAppendAck,
    /// A leader answers a linearizable read before a quorum has said that it still leads.
    ReadBeforeQuorum,
    /// A new leader takes its commit index for a read index before an entry of its own term is committed (etcd 3.1.0).
    NoOwnTermCheck,
    /// Readers who join while a round is under way are woken with it.
    NotifierSwappedLate,
    /// A round that is tried again keeps its number, so that late answers to an earlier try count (etcd #20418).
    ReadContextReused,
    /// A leader trusts its lease for as long as voters keep it, with no margin for clocks that drift.
    LeaseWithoutMargin,
    /// A restarted voter grants votes though it may have granted a lease that it does not remember.
    VoteInForgottenLease,
}

impl Mutant {
    /// Every mutant, in the order of their names in the catalogue.
    pub const ALL: [Mutant; 11] = [
        Mutant::AckBeforeFsync,
        Mutant::LeaderRestore,
        Mutant::AppliedIndexApart,
        Mutant::ReadWithoutApplyWait,
        Mutant::ForgedAppendAck,
        Mutant::ReadBeforeQuorum,
        Mutant::NoOwnTermCheck,
        Mutant::NotifierSwappedLate,
        Mutant::ReadContextReused,
        Mutant::LeaseWithoutMargin,
        Mutant::VoteInForgottenLease,
    ];

    /// The name used on the command line and in plans.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AckBeforeFsync => "ack-before-fsync",
            Mutant::LeaderRestore => "leader-restore",
            Mutant::AppliedIndexApart => "applied-index-apart",
            Mutant::ReadWithoutApplyWait => "read-without-apply-wait",
            Mutant::ForgedAppendAck => "forged-append-ack",
            Mutant::ReadBeforeQuorum => "read-before-quorum",
            Mutant::NoOwnTermCheck => "no-own-term-check",
            Mutant::NotifierSwappedLate => "notifier-swapped-late",
            Mutant::ReadContextReused => "read-context-reused",
            Mutant::LeaseWithoutMargin => "lease-without-margin",
            Mutant::VoteInForgottenLease => "vote-in-forgotten-lease",
        }
    }

    /// One line that says what the mistake is.
    pub fn summary(self) -> &'static str {
        match self {
            Mutant::AckBeforeFsync => "the WAL reports entries as flushed before its fsync",
            Mutant::LeaderRestore => "a restarted leader leads on without an election",
            Mutant::AppliedIndexApart => "the applied index is committed apart from the data",
            Mutant::ReadWithoutApplyWait => "a linearizable read does not wait for the apply",
            Mutant::ForgedAppendAck => "a follower acknowledges entries that it never stored",
            Mutant::ReadBeforeQuorum => "a leader answers a read before a quorum says that it still leads",
            Mutant::NoOwnTermCheck => "a new leader reads at a commit index of an earlier term",
            Mutant::NotifierSwappedLate => "a read is answered by a round that began before it",
            Mutant::ReadContextReused => "an answer to an earlier try confirms a later one",
            Mutant::LeaseWithoutMargin => "a lease is trusted without a margin for drifting clocks",
            Mutant::VoteInForgottenLease => "a restarted voter votes within a lease that it had granted",
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no planted bug of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no planted bug is called `{0}`")]
pub struct UnknownMutant(pub String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name).ok_or_else(|| UnknownMutant(name.to_owned()))
    }
}

/// Which planted bugs are switched on.
pub trait Mutants: Send + Sync + 'static {
    /// Whether this mistake is to be made.
    fn active(mutant: Mutant) -> bool;
}

/// No planted bugs: the only choice of a real server.
#[derive(Clone, Copy, Debug)]
pub enum NoMutants {}

impl Mutants for NoMutants {
    #[inline(always)]
    fn active(_: Mutant) -> bool {
        false
    }
}
