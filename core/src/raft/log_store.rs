//! openraft's log, kept in the write-ahead log.
//!
//! All entries since the last purge are in memory too, and are read from there: the disk is read once, at start.
//!
//! ```text
//! openraft ─► append ─► window ─► replication, apply
//!                └────► WAL ────► callback, once durable
//! ```
//!
//! Invariants: what is in the window is in the WAL's queue or beyond, in the same order; a vote is in the window once it
//! is durable.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::async_runtime::{Oneshot, OneshotSender};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::vote::leader_id_std::CommittedLeaderId;
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};

use super::{NodeId, Request, Term, TypeConfig};
use crate::runtime::{Probe, Runtime};
use crate::wal::{LogId, Purpose, Record, RecoveredEntry, Vote, Wal, WalError, WalOptions, WalStats};

/// The log of one member. Clones are the same log.
pub struct LogStore<R: Runtime> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Runtime> {
    wal: Wal<R>,
    node: NodeId,
    log: Log<R>,
    /// The greatest term that this member may have promised to anybody: also one whose vote is not durable yet.
    promised: AtomicU64,
}

/// Reads the log of one member.
pub struct LogReader<R: Runtime> {
    log: Log<R>,
}

type Log<R> = Arc<Mutex<Window<R>>>;
type Entry<R> = EntryOf<TypeConfig<R>>;

/// The log since the last purge.
struct Window<R: Runtime> {
    /// Consecutive; the last is `last`, and the one before the first is purged or was never there.
    entries: VecDeque<Held<R>>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
}

struct Held<R: Runtime> {
    entry: Entry<R>,
    /// The length of its payload's encoding, for a limit on what is read at once.
    bytes: usize,
}

/// What a replication reads at once: enough to keep a link busy, little enough that a heartbeat need not wait for it.
const READ_BYTES_MAX: usize = 1 << 20;

impl<R: Runtime> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        LogStore { inner: self.inner.clone() }
    }
}

impl<R: Runtime> fmt::Debug for LogStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("node", &self.inner.node).field("wal", &self.inner.wal).finish()
    }
}

impl<R: Runtime> fmt::Debug for LogReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogReader")
    }
}

impl<R: Runtime> LogStore<R> {
    /// Opens the log of `node` in a directory of its disk, which is made if need be. A log with damage that no crash
    /// explains is refused, naming file and offset.
    pub async fn open(disk: R::Disk, dir: &str, node: NodeId, options: WalOptions) -> Result<Self, WalError> {
        let (wal, recovered) = Wal::open(disk, dir, node, options).await?;
        let state = recovered.state;
        let window = Window {
            entries: recovered.entries.iter().map(decode::<R>).collect::<Result<_, _>>()?,
            vote: state.vote,
            committed: state.committed,
            purged: state.purged,
            last: state.last,
        };
        let promised = AtomicU64::new(window.vote.map_or(0, |vote| vote.term));
        Ok(LogStore { inner: Arc::new(Inner { wal, node, log: Arc::new(Mutex::new(window)), promised }) })
    }

    /// Tells that the state machine has durably applied all entries up to `index`. Purged entries stay on the disk
    /// until they are released, since a state machine that loses its last applies in a crash has to apply them again.
    pub fn release(&self, index: u64) {
        self.inner.wal.release(index);
    }

    /// Resolves once everything that was appended, truncated or purged so far is durable.
    pub async fn barrier(&self) -> Result<(), WalError> {
        let (sender, receiver) = R::Oneshot::channel();
        self.inner.wal.append([], move |outcome| drop(sender.send(outcome)))?;
        receiver.await.unwrap_or(Err(WalError::Closed))
    }

    /// The index of the last entry, purged ones included; `None` if there never was one.
    pub fn last_index(&self) -> Option<u64> {
        self.window().last.map(|last| last.index)
    }

    /// The index of the last entry that was purged, if any was.
    pub fn purged_index(&self) -> Option<u64> {
        self.window().purged.map(|purged| purged.index)
    }

    /// Whether there is a vote in it, for this member or another.
    pub fn has_vote(&self) -> bool {
        self.window().vote.is_some()
    }

    /// Whom its last vote was for.
    pub(crate) fn voted_for(&self) -> Option<NodeId> {
        self.window().vote.as_ref().map(|vote| vote.candidate)
    }

    /// The greatest term that this member may have promised to anybody. A vote counts before it is given: raft saves it
    /// first.
    pub(crate) fn promised(&self) -> Term {
        self.inner.promised.load(Ordering::Acquire)
    }

    /// What was written since the log was opened.
    pub fn stats(&self) -> WalStats {
        self.inner.wal.stats()
    }

    /// Makes durable what waits, and ends the log: later writes fail. Without it, what nobody was told to be flushed
    /// may be lost.
    pub async fn close(&self) -> Result<(), WalError> {
        self.inner.wal.close().await
    }

    fn window(&self) -> MutexGuard<'_, Window<R>> {
        lock(&self.inner.log)
    }
}

fn lock<R: Runtime>(log: &Log<R>) -> MutexGuard<'_, Window<R>> {
    log.lock().expect("nothing panics while it holds the log")
}

fn decode<R: Runtime>(found: &RecoveredEntry) -> Result<Held<R>, WalError> {
    let payload = postcard::from_bytes(&found.payload).map_err(|error| found.refuse(error))?;
    let entry = openraft::Entry { log_id: id_out::<R>(found.id), payload };
    Ok(Held { entry, bytes: found.payload.len() })
}

/// Whether there are entries, and all of them are log reads.
pub(super) fn only_reads<'a, R: Runtime>(entries: impl IntoIterator<Item = &'a Entry<R>>) -> bool {
    let mut entries = entries.into_iter().peekable();
    entries.peek().is_some()
        && entries
            .all(|entry| matches!(&entry.payload, EntryPayload::Normal(command) if matches!(*command.request, Request::Range(_))))
}

fn id_in<R: Runtime>(id: LogIdOf<TypeConfig<R>>) -> LogId {
    LogId { term: id.leader_id.term, index: id.index }
}

fn id_out<R: Runtime>(id: LogId) -> LogIdOf<TypeConfig<R>> {
    openraft::LogId { leader_id: CommittedLeaderId::new(id.term), index: id.index }
}

impl<R: Runtime> Window<R> {
    /// The place of an index among the entries, from 0 to their number.
    fn place(&self, index: u64) -> usize {
        let first = self.entries.front().map_or(0, |held| held.entry.log_id.index);
        index.saturating_sub(first).min(self.entries.len() as u64) as usize
    }

    fn read(&self, range: &impl RangeBounds<u64>) -> impl Iterator<Item = &Held<R>> {
        let start = match range.start_bound() {
            Bound::Included(&index) => self.place(index),
            Bound::Excluded(&index) => self.place(index.saturating_add(1)),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => self.place(index.saturating_add(1)),
            Bound::Excluded(&index) => self.place(index),
            Bound::Unbounded => self.entries.len(),
        };
        self.entries.range(start..end.max(start))
    }

    fn validate(&self) {
        debug_assert_eq!(
            self.last.map(|last| last.index),
            self.entries.back().map(|held| held.entry.log_id.index).or(self.purged.map(|purged| purged.index)),
        );
        debug_assert!(
            self.purged.map(|purged| purged.index) < self.entries.front().map(|held| held.entry.log_id.index)
                || self.entries.is_empty()
        );
    }
}

impl<R: Runtime> RaftLogReader<TypeConfig<R>> for LogReader<R> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<R>>, io::Error> {
        Ok(lock(&self.log).read(&range).map(|held| held.entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<R>>, io::Error> {
        let window = lock(&self.log);
        let mut bytes = 0;
        // The first one is returned whatever its size.
        let within = |held: &&Held<R>| {
            let first = bytes == 0;
            bytes += held.bytes.max(1);
            first || bytes <= READ_BYTES_MAX
        };
        Ok(window.read(&(start..end)).take_while(within).map(|held| held.entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig<R>>>, io::Error> {
        let vote = lock(&self.log).vote;
        Ok(vote.map(|Vote { term, candidate, committed }| openraft::Vote {
            leader_id: openraft::impls::leader_id_std::LeaderId { term, voted_for: candidate },
            committed,
        }))
    }
}

impl<R: Runtime> RaftLogStorage<TypeConfig<R>> for LogStore<R> {
    type LogReader = LogReader<R>;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<R>>, io::Error> {
        let window = self.window();
        Ok(LogState { last_purged_log_id: window.purged.map(id_out::<R>), last_log_id: window.last.map(id_out::<R>) })
    }

    async fn get_log_reader(&mut self) -> LogReader<R> {
        LogReader { log: self.inner.log.clone() }
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig<R>>) -> Result<(), io::Error> {
        let openraft::Vote { leader_id, committed } = *vote;
        let vote = Vote { term: leader_id.term, candidate: leader_id.voted_for, committed };
        self.inner.promised.fetch_max(vote.term, Ordering::AcqRel);
        self.inner.wal.vote(vote).await?;
        self.window().vote = Some(vote);
        R::Probe::voted(self.inner.node, vote.term, vote.candidate, vote.committed);
        if vote.committed && vote.candidate == self.inner.node {
            R::Probe::leads(self.inner.node, vote.term);
        }
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig<R>>>) -> Result<(), io::Error> {
        if let Some(committed) = committed.map(id_in::<R>) {
            self.inner.wal.commit(committed)?;
            self.window().committed = Some(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig<R>>>, io::Error> {
        Ok(self.window().committed.map(id_out::<R>))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<R>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry<R>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut payloads = Vec::new();
        let mut held = Vec::new();
        for entry in entries {
            let before = payloads.len();
            payloads = postcard::to_extend(&entry.payload, payloads).map_err(io::Error::other)?;
            held.push(Held { entry, bytes: payloads.len() - before });
        }

        let purpose =
            if only_reads::<R>(held.iter().map(|held| &held.entry)) { Purpose::Read } else { Purpose::Change };

        // Held across both steps: a reader that is told of the flush finds the entries.
        let mut window = self.window();
        let mut rest = payloads.as_slice();
        let records = held.iter().map(|Held { entry, bytes }| {
            let (payload, after) = rest.split_at(*bytes);
            rest = after;
            Record::Entry(id_in::<R>(entry.log_id), payload)
        });
        let flushed = move |outcome: Result<(), WalError>| callback.io_completed(outcome.map_err(io::Error::from));
        self.inner.wal.append_for(purpose, records, flushed)?;
        if let Some(last) = held.last() {
            window.last = Some(id_in::<R>(last.entry.log_id));
        }
        window.entries.extend(held);
        window.validate();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<TypeConfig<R>>>) -> Result<(), io::Error> {
        let after = last_log_id.map(id_in::<R>);
        let index = after.map(|after| after.index);
        let mut window = self.window();
        if window.last.map(|last| last.index) <= index {
            return Ok(());
        }
        self.inner.wal.truncate_after(after)?;
        while window.entries.back().is_some_and(|held| Some(held.entry.log_id.index) > index) {
            window.entries.pop_back();
        }
        window.last = after;
        window.validate();
        Ok(())
    }

    async fn purge(&mut self, log_id: LogIdOf<TypeConfig<R>>) -> Result<(), io::Error> {
        let upto = id_in::<R>(log_id);
        let mut window = self.window();
        if window.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        self.inner.wal.purge(upto)?;
        while window.entries.front().is_some_and(|held| held.entry.log_id.index <= upto.index) {
            window.entries.pop_front();
        }
        window.purged = Some(upto);
        if window.last.is_none_or(|last| last.index < upto.index) {
            window.last = Some(upto);
        }
        window.validate();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
