//! How much the log has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Records written.
    pub records: u64,
    /// Batches written: one frame each.
    pub batches: u64,
    /// Bytes written, headers and padding included.
    pub bytes: u64,
    /// Syncs of a segment's contents.
    pub syncs: u64,
    /// Those of them that only reads have asked for.
    pub syncs_for_reads: u64,
    /// The time that those have taken which have succeeded.
    pub sync_time: Duration,
    /// Segments created.
    pub segments_created: u64,
    /// Segments deleted.
    pub segments_deleted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) records: Counter,
    pub(super) batches: Counter,
    pub(super) bytes: Counter,
    pub(super) syncs: Counter,
    pub(super) syncs_for_reads: Counter,
    pub(super) sync_nanoseconds: Counter,
    pub(super) segments_created: Counter,
    pub(super) segments_deleted: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> WalStats {
        WalStats {
            records: self.records.get(),
            batches: self.batches.get(),
            bytes: self.bytes.get(),
            syncs: self.syncs.get(),
            syncs_for_reads: self.syncs_for_reads.get(),
            sync_time: Duration::from_nanos(self.sync_nanoseconds.get()),
            segments_created: self.segments_created.get(),
            segments_deleted: self.segments_deleted.get(),
        }
    }
}
