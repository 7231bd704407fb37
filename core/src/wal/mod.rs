//! The write-ahead log: what a member has promised to remember.
//!
//! ```text
//!  callers ─► queue ─► writer ─► segments        while a member runs
//!                                    │
//!              state, entries ◄─ recovery        when it starts
//! ```
//!
//! Votes, entries, truncations and purges are records in one sequence, so that one order holds for all of them: a log
//! read after a crash is the log as it was after some record, and no earlier one than the last that was reported as
//! flushed. Records are grouped into frames, a frame for each sync.
//!
//! Invariants:
//!
//! - Nothing is reported as flushed before it is durable.
//! - What was durable is served as it was written, or the log is refused, naming file and offset.
//! - A failed write or sync ends the log: no later call succeeds.
//! - Dropping the log writes nothing.
//!
//! The format, and what recovery assumes of the medium, is in FORMAT.md.

mod error;
mod queue;
mod record;
mod recovery;
mod segment;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::{Oneshot, OneshotSender};

pub use self::error::WalError;
pub use self::queue::Purpose;
use self::queue::{Durability, Queue};
pub use self::record::{Disorder, LogId, Record, State, Vote};
pub use self::recovery::{Cut, Recovered, RecoveredEntry};
use self::stats::Counters;
pub use self::stats::WalStats;
use self::writer::{Directory, Writer};
use crate::ids::NodeId;
use crate::runtime::Runtime;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// A segment that would grow beyond this is followed by a new one. A frame is never split.
    pub segment_bytes_max: u64,
    /// How long a committed index waits for a batch that takes it along, before it is written by itself.
    pub committed_delay: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        // As large as etcd's. The delay is well below what a person takes to restart a member.
        WalOptions { segment_bytes_max: 64 << 20, committed_delay: Duration::from_millis(100) }
    }
}

/// A log that is open. Dropping it gives up what is not written yet; [`close`](Wal::close) does not.
pub struct Wal<R: Runtime> {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> fmt::Debug for Wal<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Drop for Wal<R> {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl<R: Runtime> Wal<R> {
    /// Opens the log of `node` in a directory, which is made if need be. No other log may be open there.
    pub async fn open(
        disk: R::Disk,
        dir: &str,
        node: NodeId,
        options: WalOptions,
    ) -> Result<(Self, Recovered), WalError> {
        let directory = Directory { disk, path: dir.to_owned(), node };
        let opened = recovery::open(&directory).await?;
        let state = opened.recovered.state;
        let queue = Arc::new(Queue::new(state));
        let counters = Arc::new(Counters::default());
        let writer = Writer::<R> {
            directory,
            options,
            queue: queue.clone(),
            counters: counters.clone(),
            attested: opened.active.base,
            active: opened.active,
            sealed: opened.sealed,
            written: opened.end,
            durable: opened.end,
            state,
            purged: state.purged.map(|purged| purged.index),
        };
        // It ends with the log; nobody needs its outcome, which the queue keeps.
        drop(R::spawn(writer.run()));
        Ok((Wal { queue, counters, runtime: PhantomData }, opened.recovered))
    }

    /// Adds records, all or none. `flushed` is told once they are durable, or never will be; it is not called if this
    /// returns an error.
    pub fn append<'a>(
        &self,
        records: impl IntoIterator<Item = Record<&'a [u8]>>,
        flushed: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) -> Result<(), WalError> {
        self.append_for(Purpose::Change, records, flushed)
    }

    /// Like [`append`](Wal::append), with what the records are for: it decides nothing, and is counted.
    pub fn append_for<'a>(
        &self,
        purpose: Purpose,
        records: impl IntoIterator<Item = Record<&'a [u8]>>,
        flushed: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) -> Result<(), WalError> {
        self.queue.push(records, Durability::Told(Box::new(flushed), purpose))
    }

    /// Adds a vote, and waits until it is durable.
    pub async fn vote(&self, vote: Vote) -> Result<(), WalError> {
        let (tx, rx) = R::Oneshot::channel();
        self.append([Record::Vote(vote)], move |outcome| drop(tx.send(outcome)))?;
        rx.await.unwrap_or(Err(WalError::Closed))
    }

    /// Adds the committed index, which is written with the next batch, or by itself after a while. It causes no sync.
    pub fn commit(&self, committed: LogId) -> Result<(), WalError> {
        self.queue.commit(committed)
    }

    /// Adds a truncation. It is durable before anything that follows it is.
    pub fn truncate_after(&self, after: Option<LogId>) -> Result<(), WalError> {
        self.queue.push([Record::TruncateAfter(after)], Durability::Lazy)
    }

    /// Adds a purge. Segments go once it is durable, and their entries are [released](Wal::release).
    pub fn purge(&self, upto: LogId) -> Result<(), WalError> {
        self.queue.push([Record::PurgeUpTo(upto)], Durability::Soon)
    }

    /// Tells that the state machine has durably applied all entries up to `index`: without them a restart succeeds.
    pub fn release(&self, index: u64) {
        self.queue.release(index);
    }

    /// What was done so far.
    pub fn stats(&self) -> WalStats {
        self.counters.read()
    }

    /// Writes and syncs what waits, and ends the log. Later calls fail.
    pub async fn close(&self) -> Result<(), WalError> {
        let (tx, rx) = R::Oneshot::channel();
        self.queue.close(Box::new(move |outcome| drop(tx.send(outcome))))?;
        rx.await.unwrap_or(Err(WalError::Closed))
    }
}
