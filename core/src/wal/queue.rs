//! What waits to be written.
//!
//! Callers encode their records into one growing batch; the writer takes it whole when the sync before has ended. So
//! one sync serves all who came during the last, and a batch is written once everything before it is durable, which
//! its frame attests.
//!
//! The committed index rides along: it is kept apart, as one value, and joins the end of the next batch, however many
//! values came in between.

use std::mem;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::error::WalError;
use super::record::{LogId, Record, State};
use super::segment::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, SECTOR};

/// Told the outcome of a flush.
pub(super) type Flushed = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// What records are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A change, a vote, or what else has to last.
    Change,
    /// A read that goes through the log, for the sake of its place in it.
    Read,
}

/// What a caller needs of its records.
pub(super) enum Durability {
    /// They may go with the next batch that somebody waits for.
    Lazy,
    /// They are to be durable soon; nobody waits.
    Soon,
    /// They are durable once this is called with `Ok`.
    Told(Flushed, Purpose),
}

/// Records on their way to the disk.
#[derive(Default)]
pub(super) struct Batch {
    /// Room for the frame's header, then the records.
    pub(super) buffer: Vec<u8>,
    pub(super) records: u32,
    /// The greatest index of an entry among them.
    pub(super) entries_max: Option<u64>,
    /// What all records up to the end of this batch amount to.
    pub(super) state: State,
    /// Whether it has to be synced.
    pub(super) sync: bool,
    /// Whether it would be synced without the reads in it.
    pub(super) for_changes: bool,
    /// Told when it is.
    pub(super) waiters: Vec<Waiter>,
}

/// Somebody who waits for a batch.
pub(super) struct Waiter {
    pub(super) flushed: Flushed,
    /// Whether it is entries that they wait for.
    pub(super) entries: bool,
}

/// What the writer is to do next.
pub(super) enum Next {
    /// Write a batch.
    Write(Batch),
    /// Wait for more. `lazy` says that a committed index waits for company.
    Wait { lazy: bool },
    /// Write nothing more. With callbacks: the log is to be left in good order, and they want to know.
    Close(Vec<Flushed>),
    /// Write nothing more, and nothing else either: nobody is there any more.
    Leave,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    pub(super) wake: Notify,
}

struct Inner {
    phase: Phase,
    batch: Batch,
    /// The buffer of the batch before, to be used again.
    spare: Vec<u8>,
    /// What all records so far amount to, without a committed index that waits.
    state: State,
    committed: Option<LogId>,
    released: Option<u64>,
}

enum Phase {
    Open,
    Closing(Vec<Flushed>),
    Abandoned,
    Stopped(WalError),
}

/// A buffer that grew beyond this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl Queue {
    pub(super) fn new(state: State) -> Self {
        let inner = Inner {
            phase: Phase::Open,
            batch: Batch::default(),
            spare: Vec::new(),
            state,
            committed: None,
            released: None,
        };
        Queue { inner: Mutex::new(inner), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the queue")
    }

    /// Adds records, all or none of them.
    pub(super) fn push<'a>(
        &self,
        records: impl IntoIterator<Item = Record<&'a [u8]>>,
        durability: Durability,
    ) -> Result<(), WalError> {
        let mut inner = self.lock();
        inner.check_open()?;
        let entries = inner.push(records)?;
        match durability {
            Durability::Lazy => {}
            Durability::Soon => {
                inner.batch.sync = true;
                inner.batch.for_changes = true;
            }
            Durability::Told(flushed, purpose) => {
                inner.batch.sync = true;
                inner.batch.for_changes |= purpose == Purpose::Change;
                inner.batch.waiters.push(Waiter { flushed, entries });
            }
        }
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Lets the committed index go with the next batch.
    pub(super) fn commit(&self, committed: LogId) -> Result<(), WalError> {
        let mut inner = self.lock();
        inner.check_open()?;
        // The writer has to learn of the first one only: it then waits for company, or for time to pass.
        if inner.committed.replace(committed).is_none() {
            drop(inner);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Entries up to `index` will not be asked for after a restart.
    pub(super) fn release(&self, index: u64) {
        let mut inner = self.lock();
        if inner.released < Some(index) {
            inner.released = Some(index);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// The greatest index released.
    pub(super) fn released(&self) -> Option<u64> {
        self.lock().released
    }

    /// What the writer is to do. `flush` brings a committed index along that has waited long enough.
    pub(super) fn next(&self, flush: bool) -> Next {
        let mut inner = self.lock();
        if matches!(inner.phase, Phase::Abandoned | Phase::Stopped(_)) {
            return Next::Leave;
        }
        let flush = flush || matches!(inner.phase, Phase::Closing(_));
        let empty = inner.batch.records == 0 && inner.batch.waiters.is_empty();
        if empty && !(flush && inner.committed.is_some()) {
            return match &mut inner.phase {
                Phase::Closing(waiters) => Next::Close(mem::take(waiters)),
                _ => Next::Wait { lazy: inner.committed.is_some() },
            };
        }
        if let Some(committed) = inner.committed.take() {
            inner.push([Record::Committed(committed)]).expect("room is kept for it, and it is always in order");
        }
        let mut spare = mem::take(&mut inner.spare);
        spare.clear();
        let mut batch = mem::replace(&mut inner.batch, Batch { buffer: spare, ..Batch::default() });
        batch.state = inner.state;
        Next::Write(batch)
    }

    /// Gives a written batch's buffer back.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BYTES_MAX {
            self.lock().spare = buffer;
        }
    }

    /// Asks the writer to write what waits, and to end.
    pub(super) fn close(&self, flushed: Flushed) -> Result<(), WalError> {
        let mut inner = self.lock();
        match &mut inner.phase {
            Phase::Open => inner.phase = Phase::Closing(vec![flushed]),
            Phase::Closing(waiters) => waiters.push(flushed),
            Phase::Abandoned => return Err(WalError::Closed),
            Phase::Stopped(error) => return Err(error.clone()),
        }
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Tells the writer that nobody is there any more.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        if matches!(inner.phase, Phase::Open) {
            inner.phase = Phase::Abandoned;
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Refuses everything from now on. Returns who still waits, and why it stopped if it had before.
    pub(super) fn stop(&self, error: WalError) -> Vec<Flushed> {
        let mut inner = self.lock();
        let mut waiters: Vec<_> =
            mem::take(&mut inner.batch).waiters.into_iter().map(|waiter| waiter.flushed).collect();
        match mem::replace(&mut inner.phase, Phase::Abandoned) {
            Phase::Closing(closing) => waiters.extend(closing),
            // The first reason is the one that matters.
            Phase::Stopped(first) => {
                inner.phase = Phase::Stopped(first);
                return waiters;
            }
            Phase::Open | Phase::Abandoned => {}
        }
        inner.phase = Phase::Stopped(error);
        waiters
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), WalError> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing(_) | Phase::Abandoned => Err(WalError::Closed),
            Phase::Stopped(error) => Err(error.clone()),
        }
    }

    /// Whether there are entries among the records.
    fn push<'a>(&mut self, records: impl IntoIterator<Item = Record<&'a [u8]>>) -> Result<bool, WalError> {
        if self.batch.buffer.is_empty() {
            self.batch.buffer.resize(FRAME_HEADER_BYTES, 0);
        }
        let (mark, before) = (self.batch.buffer.len(), self.state);
        let mut count = 0;
        let mut entries_max = None;
        for record in records {
            let refused = match self.state.apply(&record) {
                Err(disorder) => Some(disorder.into()),
                Ok(()) => {
                    let payload = if let Record::Entry(_, payload) = &record { payload.len() } else { 0 };
                    let waiting = self.batch.buffer.len() + payload + Record::OVERHEAD_MAX;
                    // A sector is kept for the committed index that may join.
                    (waiting > FRAME_BYTES_MAX - SECTOR && !matches!(record, Record::Committed(_)))
                        .then_some(WalError::Full { waiting })
                }
            };
            if let Some(error) = refused {
                self.batch.buffer.truncate(mark);
                self.state = before;
                return Err(error);
            }
            if let Record::Entry(id, _) = &record {
                entries_max = entries_max.max(Some(id.index));
            }
            record.encode(&mut self.batch.buffer);
            count += 1;
        }
        self.batch.records += count;
        self.batch.entries_max = self.batch.entries_max.max(entries_max);
        Ok(entries_max.is_some())
    }
}
