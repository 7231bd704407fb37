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
    /// A request for progress is answered at once, whatever the stream's watches have been told (etcd #15220).
    WatchProgressEarly,
    /// After a snapshot has replaced the store, watches are told again what they have been told (etcd #15271).
    WatchRestoreReplays,
    /// A watch whose history is compacted goes on behind the gap and is not told (etcd #17529).
    WatchCompactionUntold,
    /// A watch of the future is told of progress before its start (etcd #20221).
    WatchProgressBelowStart,
    /// After a snapshot has replaced the store, watches of the future begin at once (etcd #20221).
    WatchStartLowered,
    /// A snapshot that replaces the store concerns no watch: those that are up to date go on behind it, and are not told.
    WatchInstallUnnoticed,
    /// A watch that nothing concerns stays where it was, and ends when that is compacted.
    WatchQuietCompacted,
    /// A watch that was told something once is not told of progress by itself any more.
    WatchProgressForgotten,
    /// After a snapshot has replaced the store, the last change that is read for watches is there twice (etcd #17247).
    EventDuplicated,
    /// A compaction takes the deletion at the compacted revision, too, which is history still (etcd #18089).
    TombstoneDropped,
    /// A store that is opened does not know the deletions of keys of which nothing else is left (etcd #19179).
    TombstoneNotRestored,
    /// A store that is opened takes the revision of the last row for its own, whatever a compaction has taken (etcd #17780).
    RevisionFromRows,
    /// A snapshot that is installed leaves the index of the keys as it was (etcd #14571).
    IndexNotRebuilt,
    /// A member refuses a put with a lease that it does not know itself, yet.
    LeaseUnknownHere,
    /// The keys of a lease that ends are deleted under a revision each.
    LeaseKeysOneByOne,
    /// A store that is opened does not know which keys go with which lease (etcd #14571).
    LeaseKeysForgotten,
    /// A new leader gives leases an election time-out, and not their time anew.
    LeaseNotExtended,
    /// A leader renews leases without asking whether it still leads.
    LeaseRenewedByDeposed,
    /// What was noted of a lease is not taken back when it is renewed.
    LeaseRestKept,
    /// A new leader ends only the leases that were granted since.
    LeaseNotTakenUp,
    /// A leader that was deposed has its decision that a lease has ended carried out by the next one (etcd #15247).
    LeaseRevokedLate,
    /// Whoever waits for a lock waits for the one before it, and looks at nobody else.
    LockTurnEarly,
    /// Whoever has waited for a lock gets it, whatever has become of its place.
    LockWithoutPlace,
    /// Whoever waits for a lock, or for a leader, begins to listen a moment after it has looked.
    LockListensLate,
    /// A proxy keeps an answer whatever has happened since, and follows its range from the present on.
    ProxyKeepsOvertaken,
    /// A proxy takes what it keeps for right for ever, also when it hears of nothing any more.
    ProxyNeverStale,
    /// A proxy answers from what it keeps, whatever the client has seen.
    ProxyForgetsSeen,
    /// A watch of a proxy that has fallen behind goes on with what is kept.
    ProxyWatchSkips,
    /// A proxy answers a question for progress at once, by what it has been told itself.
    ProxyProgressEarly,
    /// A proxy answers a keep-alive with what a member has said of the lease before.
    ProxyRemembersKeepAlive,
    /// A watch of a proxy goes on behind what was compacted, and is told nothing of it.
    ProxyHidesCompaction,
}

impl Mutant {
    /// Every mutant, in the order of their names in the catalogue.
    pub const ALL: [Mutant; 42] = [
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
        Mutant::WatchProgressEarly,
        Mutant::WatchRestoreReplays,
        Mutant::WatchCompactionUntold,
        Mutant::WatchProgressBelowStart,
        Mutant::WatchStartLowered,
        Mutant::WatchInstallUnnoticed,
        Mutant::WatchQuietCompacted,
        Mutant::WatchProgressForgotten,
        Mutant::EventDuplicated,
        Mutant::TombstoneDropped,
        Mutant::TombstoneNotRestored,
        Mutant::RevisionFromRows,
        Mutant::IndexNotRebuilt,
        Mutant::LeaseUnknownHere,
        Mutant::LeaseKeysOneByOne,
        Mutant::LeaseKeysForgotten,
        Mutant::LeaseNotExtended,
        Mutant::LeaseRenewedByDeposed,
        Mutant::LeaseRestKept,
        Mutant::LeaseNotTakenUp,
        Mutant::LeaseRevokedLate,
        Mutant::LockTurnEarly,
        Mutant::LockWithoutPlace,
        Mutant::LockListensLate,
        Mutant::ProxyKeepsOvertaken,
        Mutant::ProxyNeverStale,
        Mutant::ProxyForgetsSeen,
        Mutant::ProxyWatchSkips,
        Mutant::ProxyProgressEarly,
        Mutant::ProxyRemembersKeepAlive,
        Mutant::ProxyHidesCompaction,
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
            Mutant::WatchProgressEarly => "watch-progress-early",
            Mutant::WatchRestoreReplays => "watch-restore-replays",
            Mutant::WatchCompactionUntold => "watch-compaction-untold",
            Mutant::WatchProgressBelowStart => "watch-progress-below-start",
            Mutant::WatchStartLowered => "watch-start-lowered",
            Mutant::WatchInstallUnnoticed => "watch-install-unnoticed",
            Mutant::WatchQuietCompacted => "watch-quiet-compacted",
            Mutant::WatchProgressForgotten => "watch-progress-forgotten",
            Mutant::EventDuplicated => "event-duplicated",
            Mutant::TombstoneDropped => "tombstone-dropped",
            Mutant::TombstoneNotRestored => "tombstone-not-restored",
            Mutant::RevisionFromRows => "revision-from-rows",
            Mutant::IndexNotRebuilt => "index-not-rebuilt",
            Mutant::LeaseUnknownHere => "lease-unknown-here",
            Mutant::LeaseKeysOneByOne => "lease-keys-one-by-one",
            Mutant::LeaseKeysForgotten => "lease-keys-forgotten",
            Mutant::LeaseNotExtended => "lease-not-extended",
            Mutant::LeaseRenewedByDeposed => "lease-renewed-by-deposed",
            Mutant::LeaseRestKept => "lease-rest-kept",
            Mutant::LeaseNotTakenUp => "lease-not-taken-up",
            Mutant::LeaseRevokedLate => "lease-revoked-late",
            Mutant::LockTurnEarly => "lock-turn-early",
            Mutant::LockWithoutPlace => "lock-without-place",
            Mutant::LockListensLate => "lock-listens-late",
            Mutant::ProxyKeepsOvertaken => "proxy-keeps-overtaken",
            Mutant::ProxyNeverStale => "proxy-never-stale",
            Mutant::ProxyForgetsSeen => "proxy-forgets-seen",
            Mutant::ProxyWatchSkips => "proxy-watch-skips",
            Mutant::ProxyProgressEarly => "proxy-progress-early",
            Mutant::ProxyRemembersKeepAlive => "proxy-remembers-keep-alive",
            Mutant::ProxyHidesCompaction => "proxy-hides-compaction",
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
            Mutant::WatchProgressEarly => "progress is told before the changes up to there are",
            Mutant::WatchRestoreReplays => "watches are told everything again after a snapshot was installed",
            Mutant::WatchCompactionUntold => "a watch skips what was compacted and is not told",
            Mutant::WatchProgressBelowStart => "a watch of the future is told of progress before its start",
            Mutant::WatchStartLowered => "a watch of the future begins at once after a snapshot was installed",
            Mutant::WatchInstallUnnoticed => "watches do not hear of what a snapshot has brought",
            Mutant::WatchQuietCompacted => "a compaction ends a watch that nothing has concerned for long",
            Mutant::WatchProgressForgotten => "a watch that was told something is not told of progress by itself",
            Mutant::EventDuplicated => "the last change is told twice after a snapshot was installed",
            Mutant::TombstoneDropped => "a compaction takes the deletion at the compacted revision, too",
            Mutant::TombstoneNotRestored => "a restarted member does not know the deletions of keys that are gone",
            Mutant::RevisionFromRows => "a restarted member takes its revision from what compaction has left",
            Mutant::IndexNotRebuilt => "a snapshot that is installed leaves the index as it was",
            Mutant::LeaseUnknownHere => "a member that lags refuses to put with a lease that there is",
            Mutant::LeaseKeysOneByOne => "the keys of a lease go one after the other",
            Mutant::LeaseKeysForgotten => "a restarted member does not know the keys of its leases",
            Mutant::LeaseNotExtended => "a new leader lets leases end at once",
            Mutant::LeaseRenewedByDeposed => "a deposed leader renews leases",
            Mutant::LeaseRestKept => "a new leader counts on from what was noted before a renewal",
            Mutant::LeaseNotTakenUp => "a new leader does not end the leases that there were before it",
            Mutant::LeaseRevokedLate => "a deposed leader ends a lease that was renewed since",
            Mutant::LockTurnEarly => "a lock goes to the third when the second gives up",
            Mutant::LockWithoutPlace => "a lock is given to one whose lease has ended",
            Mutant::LockListensLate => "whoever waits for a lock may miss that it was given up",
            Mutant::ProxyKeepsOvertaken => "a read that races a write brings the old value back",
            Mutant::ProxyNeverStale => "a proxy that is cut off goes on answering from what it keeps",
            Mutant::ProxyForgetsSeen => "a client is taken back behind its own write",
            Mutant::ProxyWatchSkips => "a slow client of a proxy misses events",
            Mutant::ProxyProgressEarly => "a proxy tells of progress before its watches are there",
            Mutant::ProxyRemembersKeepAlive => "a proxy says that a lease lives on, and no member was asked",
            Mutant::ProxyHidesCompaction => "a watch of a proxy skips what was compacted",
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

/// The same, for code that does not know the runtime. There are none by default.
#[derive(Clone, Copy, Debug)]
pub struct Planted(fn(Mutant) -> bool);

impl Planted {
    /// Those of a runtime.
    pub fn of<M: Mutants>() -> Planted {
        Planted(M::active)
    }

    /// Whether this mistake is to be made.
    pub(crate) fn active(self, mutant: Mutant) -> bool {
        (self.0)(mutant)
    }
}

impl Default for Planted {
    fn default() -> Self {
        Planted::of::<NoMutants>()
    }
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
