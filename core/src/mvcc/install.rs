//! Replacing the store by a snapshot.
//!
//! ```text
//!  installer ─ feed* ─ finish: commit ─ publish ─ settle
//!   readers see the old state │ readers see the new one
//!        a crash leaves the old state         │ or the new one
//! ```
//!
//! All of it is one transaction, and everything that is derived from rows is derived anew (etcd #14571: a cache that was
//! not rebuilt on install).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::AsyncRuntime;
use redb::WriteTransaction;
use tokio::sync::OwnedMutexGuard;

use super::error::{InstallError, StoreError};
use super::index::Index;
use super::leases::Leases;
use super::revision::NEVER_COMPACTED;
use super::store::{Inner, LEASES, META, ROWS, Store, Writer, encode_lease, meta_key, write_fresh};
use super::stream::Stream;
use crate::runtime::{Disk, Mutant};

/// A snapshot on its way into the store. There is no other writer meanwhile. Dropping it changes nothing.
pub struct Installer<D: Disk> {
    inner: Arc<Inner<D>>,
    // Before the right to write, so that it is rolled back first.
    txn: WriteTransaction,
    writer: OwnedMutexGuard<Writer>,
    meta: BTreeMap<String, Bytes>,
    stream: Stream,
    index: Index,
}

impl<D: Disk> Store<D> {
    /// Begins to replace everything, once there is no other writer.
    pub async fn installer(&self) -> Result<Installer<D>, StoreError> {
        let inner = self.inner.clone();
        let writer = inner.writer().await?;
        let txn = inner.begin_durable()?;
        let emptied = (|| {
            txn.delete_table(ROWS)?;
            txn.delete_table(LEASES)?;
            txn.delete_table(META)?;
            Ok::<(), redb::Error>(())
        })();
        emptied.map_err(|error| inner.database_error(error))?;
        let index = Index::new(inner.planted);
        Ok(Installer { inner, txn, writer, meta: BTreeMap::new(), stream: Stream::default(), index })
    }
}

impl<D: Disk> Installer<D> {
    /// Takes the next bytes of the stream, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        let Installer { inner, txn, stream, index, .. } = self;
        inner.backend.check()?;
        let mut table = txn.open_table(ROWS).map_err(|error| inner.database_error(error))?;
        stream.feed(bytes, |revision, row, encoded| {
            if !index.restore(revision, row) {
                return Ok(false);
            }
            table.insert(revision.to_row_key(), encoded).map_err(|error| inner.database_error(error))?;
            Ok(true)
        })
    }

    /// Keeps a value with the new state, beside those that the stream brings. Values of the old state are gone.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) {
        self.meta.insert(name.to_owned(), Bytes::copy_from_slice(value));
    }

    /// Replaces the old state. Afterwards the new one is visible and durable.
    pub async fn finish<R: AsyncRuntime>(self) -> Result<(), InstallError> {
        let state = self.stream.whole()?;
        let Installer { inner, txn, writer, mut meta, stream, mut index } = self;
        meta.extend(stream.values);
        let commit = {
            let inner = inner.clone();
            move |writer: &mut Writer| {
                write_fresh(&txn, &state).map_err(|error| inner.database_error(error))?;
                write_leases(&txn, &stream.leases).map_err(|error| inner.database_error(error))?;
                write_meta(&txn, &meta).map_err(|error| inner.database_error(error))?;
                let meta = Arc::new(meta);
                inner.commit_durable(txn, writer, meta.clone())?;
                writer.garbage = index.compact(state.compact_revision).into();
                writer.finished_compaction = NEVER_COMPACTED;
                inner.row_bytes.store(stream.row_bytes, Ordering::Relaxed);
                let concerned = if inner.planted.active(Mutant::WatchInstallUnnoticed) {
                    inner.subscriptions.note(state.revision, std::iter::empty())
                } else {
                    inner.subscriptions.note_all(state.revision)
                };
                inner.publish(|visible| {
                    if !inner.planted.active(Mutant::IndexNotRebuilt) {
                        visible.index = index;
                    }
                    visible.state = state;
                    visible.leases = stream.leases;
                    visible.meta = meta;
                    inner.installations.fetch_add(1, Ordering::Relaxed);
                })?;
                concerned.wake();
                Ok(())
            }
        };
        Ok(inner.durably::<R>(writer, commit).await?)
    }
}

impl<D: Disk> std::fmt::Debug for Installer<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installer").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn write_leases(txn: &WriteTransaction, leases: &Leases) -> Result<(), redb::Error> {
    let mut table = txn.open_table(LEASES)?;
    for (id, lease) in leases.iter() {
        table.insert(id, encode_lease(lease))?;
    }
    Ok(())
}

fn write_meta(txn: &WriteTransaction, meta: &BTreeMap<String, Bytes>) -> Result<(), redb::Error> {
    let mut table = txn.open_table(META)?;
    for (name, value) in meta {
        table.insert(&meta_key(name)[..], &value[..])?;
    }
    Ok(())
}
