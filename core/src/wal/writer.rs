//! The one task that writes.
//!
//! ```text
//! callers   a b c . . d e f g . . . . h
//!           |         |               |
//! writer    [a]sync   [b c d]sync     [e f g h]sync
//!            attests    attests a       attests a..d
//!            nothing
//! ```
//!
//! Invariants, in LSNs: attested ≤ durable ≤ written. A frame is written once everything that somebody waits for below
//! it is durable; a segment is created once everything below its base is. So only the last segment can have lost
//! anything in a crash, and of that only what nobody was told to be durable.
//!
//! A failed write, sync or removal stops the writer for good: what became of the pages is unknown, and a second sync that
//! succeeds would prove nothing.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use openraft_rt::{Instant, Select2};

use super::WalOptions;
use super::error::WalError;
use super::queue::{Batch, Next, Queue, Waiter};
use super::record::State;
use super::segment::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, SegmentHeader, file_name, padded};
use super::stats::Counters;
use crate::ids::NodeId;
use crate::runtime::{CrashPoint, CrashPoints, Disk, File, Mutant, Mutants, Runtime};

/// The directory of the log, on its disk.
#[derive(Clone, Debug)]
pub(super) struct Directory<D> {
    pub(super) disk: D,
    pub(super) path: String,
    pub(super) node: NodeId,
}

impl<D: Disk> Directory<D> {
    pub(super) fn path_of(&self, number: u64) -> String {
        format!("{}/{}", self.path, file_name(number))
    }

    pub(super) async fn sync(&self) -> Result<(), WalError> {
        self.disk.sync_dir(&self.path).await.map_err(WalError::io("sync directory", &self.path))
    }

    pub(super) async fn remove(&self, number: u64) -> Result<(), WalError> {
        let path = self.path_of(number);
        self.disk.remove(&path).map_err(WalError::io("remove", &path))?;
        self.sync().await
    }

    /// Makes a segment, and returns once it and its name are durable.
    pub(super) async fn create(&self, number: u64, base: u64, state: State) -> Result<Segment<D>, WalError> {
        let path = self.path_of(number);
        let file = self.disk.create(&path).map_err(WalError::io("create", &path))?;
        let header = SegmentHeader { node: self.node, number, base, state };
        file.write_at(0, &header.encode()).map_err(WalError::io("write", &path))?;
        file.sync().await.map_err(WalError::io("sync", &path))?;
        self.sync().await?;
        Ok(Segment { file, path, number, base, seed: header.seed(), entries_max: None })
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segment<D: Disk> {
    pub(super) file: D::File,
    pub(super) path: String,
    pub(super) number: u64,
    pub(super) base: u64,
    pub(super) seed: u32,
    pub(super) entries_max: Option<u64>,
}

/// A segment that is complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// The greatest index of an entry in it.
    pub(super) entries_max: Option<u64>,
}

pub(super) struct Writer<R: Runtime> {
    pub(super) directory: Directory<R::Disk>,
    pub(super) options: WalOptions,
    pub(super) queue: Arc<Queue>,
    pub(super) counters: Arc<Counters>,
    pub(super) active: Segment<R::Disk>,
    /// Complete segments, oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    /// Where the next frame goes.
    pub(super) written: u64,
    /// Everything below is durable.
    pub(super) durable: u64,
    /// The greatest LSN attested on the disk.
    pub(super) attested: u64,
    /// What all records written amount to.
    pub(super) state: State,
    /// The purged index, as far as it is durable.
    pub(super) purged: Option<u64>,
}

/// Stops the queue when the writer ends, however it ends: dropped half-way, nobody would notice otherwise.
struct Running(Arc<Queue>);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stop(WalError::Closed));
    }
}

impl<R: Runtime> Writer<R> {
    /// Writes until the log is closed, given up or broken.
    pub(super) async fn run(mut self) {
        let running = Running(self.queue.clone());
        if let Err(error) = self.serve().await {
            tracing::error!(%error, "the write-ahead log has failed");
            self.queue.stop(error.clone()).into_iter().for_each(|flushed| flushed(Err(error.clone())));
        }
        drop(running);
    }

    async fn serve(&mut self) -> Result<(), WalError> {
        // One timer at a time: it outlives the batches that come meanwhile, or each commit would leave one behind.
        let mut delay = None;
        let mut flush = false;
        loop {
            self.reclaim().await?;
            match self.queue.next(mem::take(&mut flush)) {
                Next::Write(batch) => self.write(batch).await?,
                Next::Wait { lazy: false } => self.queue.wake.notified().await,
                Next::Wait { lazy: true } => {
                    let timer = delay.get_or_insert_with(|| Box::pin(R::sleep(self.options.committed_delay)));
                    if let Select2::Second(()) = R::select2(self.queue.wake.notified(), timer).await {
                        delay = None;
                        flush = true;
                    }
                }
                Next::Close(waiters) => {
                    let closed = self.close().await;
                    waiters.into_iter().for_each(|flushed| flushed(closed.clone()));
                    return closed;
                }
                Next::Leave => return Ok(()),
            }
        }
    }

    /// Writes a batch, syncs it if anybody asks for that, and tells who waits.
    async fn write(&mut self, mut batch: Batch) -> Result<(), WalError> {
        let mut waiters = mem::take(&mut batch.waiters);
        let (sync, for_changes) = (batch.sync, batch.for_changes);
        // Without records it is a wait for what went before.
        let records = batch.records;
        let mut outcome = if records > 0 { self.write_frame(batch).await } else { Ok(()) };
        if records > 0 {
            R::CrashPoints::reached(CrashPoint::WalAppend).await;
        }
        if R::Mutants::active(Mutant::AckBeforeFsync) {
            let (early, rest) = waiters.into_iter().partition(|waiter: &Waiter| waiter.entries);
            waiters = rest;
            tell(early, &outcome);
        }
        if sync && outcome.is_ok() {
            self.counters.syncs_for_reads.add(u64::from(!for_changes && self.durable < self.written));
            outcome = self.sync().await;
            if outcome.is_ok() {
                R::CrashPoints::reached(CrashPoint::WalSync).await;
            }
        }
        tell(waiters, &outcome);
        outcome
    }

    async fn write_frame(&mut self, mut batch: Batch) -> Result<(), WalError> {
        let length = padded(batch.buffer.len()) as u64;
        let offset = self.written - self.active.base;
        if offset > HEADER_BYTES && offset + length > self.options.segment_bytes_max {
            self.roll().await?;
        }
        let offset = self.written - self.active.base;
        FrameHeader::seal(&mut batch.buffer, self.active.seed, self.written, self.durable, batch.records);
        self.active.file.write_at(offset, &batch.buffer).map_err(WalError::io("write", &self.active.path))?;
        self.written += length;
        self.attested = self.durable;
        self.state = batch.state;
        self.active.entries_max = self.active.entries_max.max(batch.entries_max);
        self.counters.records.add(batch.records.into());
        self.counters.batches.add(1);
        self.counters.bytes.add(length);
        self.queue.recycle(batch.buffer);
        Ok(())
    }

    /// Makes everything written durable. With nothing new, there is nothing to do.
    async fn sync(&mut self) -> Result<(), WalError> {
        if self.durable < self.written {
            self.counters.syncs.add(1);
            let began = R::Instant::now();
            self.active.file.sync().await.map_err(WalError::io("sync", &self.active.path))?;
            let nanoseconds = (R::Instant::now() - began).as_nanos();
            self.counters.sync_nanoseconds.add(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            self.durable = self.written;
            self.purged = self.state.purged.map(|purged| purged.index);
        }
        debug_assert!(self.attested <= self.durable && self.durable <= self.written);
        Ok(())
    }

    /// Goes on in a new segment.
    async fn roll(&mut self) -> Result<(), WalError> {
        self.sync().await?;
        let next = self.directory.create(self.active.number + 1, self.written, self.state).await?;
        self.counters.segments_created.add(1);
        self.counters.bytes.add(HEADER_BYTES);
        let full = mem::replace(&mut self.active, next);
        self.sealed.push_back(Sealed { number: full.number, entries_max: full.entries_max });
        self.written += HEADER_BYTES;
        self.durable = self.written;
        self.attested = self.active.base;
        Ok(())
    }

    /// Deletes segments that hold nothing that is still needed. The oldest goes first, and is gone for good before the
    /// next one goes: otherwise a crash could leave a hole.
    async fn reclaim(&mut self) -> Result<(), WalError> {
        while let Some(oldest) = self.sealed.front() {
            if oldest.entries_max > self.purged.min(self.queue.released()) {
                break;
            }
            let number = oldest.number;
            self.directory.remove(number).await?;
            self.sealed.pop_front();
            self.counters.segments_deleted.add(1);
        }
        Ok(())
    }

    /// Leaves nothing unsynced, and nothing unattested.
    async fn close(&mut self) -> Result<(), WalError> {
        self.sync().await?;
        if self.attested < self.durable && self.written > self.active.base + HEADER_BYTES {
            let buffer = vec![0; FRAME_HEADER_BYTES];
            self.write_frame(Batch { buffer, state: self.state, ..Batch::default() }).await?;
            self.sync().await?;
        }
        Ok(())
    }
}

fn tell(waiters: Vec<Waiter>, outcome: &Result<(), WalError>) {
    for waiter in waiters {
        (waiter.flushed)(outcome.clone());
    }
}
