//! Deleting what compaction has given up.
//!
//! A compaction takes effect at once, in the index: earlier revisions can no longer be read. Its rows go afterwards, in
//! steps that the caller spaces out, so that no batch waits for long:
//!
//! ```text
//!  compact(7)          state: compact revision 7                rows  2 3 4 5 6 7 8
//!  compaction_step                                              rows      4 5 6 7 8
//!  compaction_step     finished compaction: 7                   rows          6 7 8
//! ```
//!
//! A store that is opened in between finds the rest again: it is what the index, compacted anew, gives up. The revision is
//! kept apart from the rows (etcd #17780: derived from the rows, it went back when the newest row was a tombstone that a
//! compaction had deleted).

use std::sync::atomic::Ordering;

use super::error::StoreError;
use super::store::{FINISHED_COMPACTION_NAME, Inner, META, ROWS, Store, stored_bytes};
use crate::runtime::Disk;

impl<D: Disk> Store<D> {
    /// Deletes at most so many rows that compaction has given up. Returns whether there are more.
    pub async fn compaction_step(&self, rows_max: usize) -> Result<bool, StoreError> {
        let mut writer = self.inner.writer().await?;
        let target = self.inner.state().compact_revision;
        if writer.garbage.is_empty() && writer.finished_compaction == target {
            return Ok(false);
        }
        let step = writer.garbage.len().min(rows_max);
        let finished = (step == writer.garbage.len()).then_some(target);
        let batch = writer.garbage.iter().take(step).map(|revision| revision.to_row_key());
        let deleted = self.inner.delete(batch, finished).map_err(|error| self.inner.database_error(error))?;
        self.inner.row_bytes.fetch_sub(deleted, Ordering::Relaxed);
        writer.dirty = true;
        writer.garbage.drain(..step);
        if let Some(finished) = finished {
            writer.finished_compaction = finished;
        }
        self.inner.publish(|_| ())?;
        Ok(finished.is_none())
    }

    /// Whether rows that compaction has given up are still to be deleted.
    pub async fn is_compacting(&self) -> Result<bool, StoreError> {
        let writer = self.inner.writer().await?;
        Ok(!writer.garbage.is_empty() || writer.finished_compaction != self.inner.state().compact_revision)
    }
}

impl<D: Disk> Inner<D> {
    /// Returns how many bytes the rows had.
    fn delete(&self, rows: impl Iterator<Item = u128>, finished: Option<i64>) -> Result<u64, redb::Error> {
        let txn = self.begin_write()?;
        let mut table = txn.open_table(ROWS)?;
        let mut deleted = 0;
        for row in rows {
            deleted += table.remove(row)?.map_or(0, |row| stored_bytes(row.value()));
        }
        drop(table);
        if let Some(finished) = finished {
            txn.open_table(META)?.insert(FINISHED_COMPACTION_NAME, &finished.to_le_bytes()[..])?;
        }
        txn.commit()?;
        Ok(deleted)
    }
}
