//! What reads cost, by path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ReadPath;

/// What the reads of one path have cost a member since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Reads that this member served, or tried to.
    pub reads: u64,
    /// Rounds that they shared. A follower counts those in which it asked its leader; the leader counts its own, which
    /// followers' rounds share with its own readers. A lease read without a lease counts one of ReadIndex as well.
    pub rounds: u64,
    /// Requests to other members that would not have been sent without these reads: of a message that replicates
    /// entries, only if it carries nothing but log reads.
    pub messages: u64,
    /// Syncs of this member's log that would not have been made without these reads: those of batches that carried
    /// nothing but log reads.
    pub fsyncs: u64,
    /// What all of them waited before they could read.
    pub waited: Duration,
}

impl std::ops::AddAssign for PathCounters {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.rounds += other.rounds;
        self.messages += other.messages;
        self.fsyncs += other.fsyncs;
        self.waited += other.waited;
    }
}

/// [`PathCounters`] of every path.
pub type ReadCounters = BTreeMap<ReadPath, PathCounters>;

#[derive(Debug, Default)]
struct Path {
    reads: AtomicU64,
    rounds: AtomicU64,
    messages: AtomicU64,
    waited_ns: AtomicU64,
}

/// Counts, while a member runs.
#[derive(Debug, Default)]
pub(crate) struct Counters([Path; ReadPath::ALL.len()]);

impl Counters {
    fn path(&self, path: ReadPath) -> &Path {
        &self.0[path as usize]
    }

    pub(super) fn read(&self, path: ReadPath, waited: Duration) {
        let path = self.path(path);
        path.reads.fetch_add(1, Ordering::Relaxed);
        path.waited_ns.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn round(&self, path: ReadPath) {
        self.path(path).rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn message(&self, path: ReadPath) {
        self.path(path).messages.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far; `log_fsyncs` is what log reads alone made the log sync.
    pub(crate) fn snapshot(&self, log_fsyncs: u64) -> ReadCounters {
        let counts = ReadPath::ALL.map(|path| {
            let Path { reads, rounds, messages, waited_ns } = self.path(path);
            let counts = PathCounters {
                reads: reads.load(Ordering::Relaxed),
                rounds: rounds.load(Ordering::Relaxed),
                messages: messages.load(Ordering::Relaxed),
                fsyncs: if path == ReadPath::Log { log_fsyncs } else { 0 },
                waited: Duration::from_nanos(waited_ns.load(Ordering::Relaxed)),
            };
            (path, counts)
        });
        counts.into()
    }
}
