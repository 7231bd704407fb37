//! A batch of changes, applied in one transaction.
//!
//! Changes go into the index at once, at revisions that readers do not ask for yet, and gather here as rows. The commit
//! writes the rows and lets readers see them, all together. A batch that is dropped takes its changes back out of the
//! index.
//!
//! ```text
//!              index      rows      readers see
//!  begin       … 7        -         7
//!  put         … 7 8      8.0       7
//!  refused     … 7 8      8.0       7       a request's own changes are taken back the same way
//!  put         … 7 8 9    8.0 9.0   7
//!  commit      … 7 8 9    -         9
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::Refusal;
use super::error::{ApplyError, StoreError};
use super::key_range::KeyRange;
use super::leases::{Lease, Leases};
use super::range::{Readable, Rows, header, select};
use super::revision::Revision;
use super::row::{Row, RowKind};
use super::store::{Inner, LEASES, META, ROWS, State, View, Writer, encode_lease, meta_key, stored_bytes, write_state};
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::runtime::{Disk, File, Mutant};

/// Changes that become visible together. Reads within the batch see the changes before them.
///
/// A request that is refused has changed nothing. After a [`StoreError`] the store has failed, and so has the batch.
pub struct Batch<D: Disk> {
    pub(super) inner: Arc<Inner<D>>,
    writer: OwnedMutexGuard<Writer>,
    view: Arc<View<D::File>>,
    /// What readers see.
    base: i64,
    /// The state after the last request that was applied whole.
    pub(super) state: State,
    /// Changes so far, ascending: those up to `state.revision`, then those of the request that is being applied.
    rows: Vec<(Revision, Bytes)>,
    /// The leases after the last request that was applied whole.
    leases: Leases,
    /// Those that have been granted, revoked or noted.
    changed_leases: BTreeSet<i64>,
    meta: BTreeMap<String, Bytes>,
}

impl<D: Disk> Batch<D> {
    pub(crate) fn new(inner: Arc<Inner<D>>, writer: OwnedMutexGuard<Writer>) -> Result<Self, StoreError> {
        let (state, leases, view) = {
            let visible = inner.visible();
            (visible.state, visible.leases.clone(), visible.view(&inner.backend)?)
        };
        Ok(Batch {
            inner,
            writer,
            view,
            base: state.revision,
            state,
            rows: Vec::new(),
            leases,
            changed_leases: BTreeSet::new(),
            meta: BTreeMap::new(),
        })
    }

    /// The revision after the requests so far.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// Puts a pair.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, ApplyError> {
        self.check_lease(request.lease)?;
        self.atomically(|batch| batch.apply_put(request))
    }

    /// Deletes the keys of a range.
    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, ApplyError> {
        self.atomically(|batch| batch.apply_delete_range(request))
    }

    /// Reads, as of the requests so far.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ApplyError> {
        let selection = select(&self.inner.visible().index, self.readable(), request)?;
        Ok(selection.fetch(&self.rows())?)
    }

    /// Forgets what only reads before a revision could need. Its rows are deleted later, by
    /// [`Store::compaction_step`](super::Store::compaction_step).
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, ApplyError> {
        let (requested, compacted, current) = (request.revision, self.state.compact_revision, self.state.revision);
        if requested <= compacted {
            return Err(Refusal::Compacted { requested, compacted }.into());
        }
        if requested > current {
            return Err(Refusal::FutureRevision { requested, current }.into());
        }
        self.state.compact_revision = requested;
        self.state.digest.compaction(requested);
        Ok(CompactionResponse { header: header(current) })
    }

    /// Grants a lease, of the number and for the time that the request names, at a place in the log.
    pub fn grant_lease(&mut self, request: &LeaseGrantRequest, granted: u64) -> Result<LeaseGrantResponse, ApplyError> {
        let LeaseGrantRequest { id, ttl } = *request;
        if id == 0 {
            return Err(Refusal::LeaseNotFound(id).into());
        }
        if self.leases.get(id).is_some() {
            return Err(Refusal::LeaseExists(id).into());
        }
        self.leases.grant(id, Lease::new(ttl, granted, 0));
        self.lease_changed(id);
        Ok(LeaseGrantResponse { header: header(self.state.revision), id, ttl, error: String::new() })
    }

    /// Takes a lease away, and deletes all of its keys, under one revision. If a place in the log is named, only the lease
    /// that was granted there.
    pub fn revoke_lease(&mut self, id: i64, granted: Option<u64>) -> Result<LeaseRevokeResponse, ApplyError> {
        let keys: Vec<Bytes> = {
            let lease = self.leases.get(id).filter(|lease| granted.is_none_or(|granted| granted == lease.granted));
            let lease = lease.ok_or(Refusal::LeaseNotFound(id))?;
            lease.keys().cloned().collect()
        };
        let together = if self.inner.planted.active(Mutant::LeaseKeysOneByOne) { 1 } else { keys.len().max(1) };
        for keys in keys.chunks(together) {
            self.atomically(|batch| {
                batch.delete(keys);
                Ok(())
            })?;
        }
        self.leases.revoke(id);
        self.lease_changed(id);
        Ok(LeaseRevokeResponse { header: header(self.state.revision) })
    }

    /// Notes what is left of a lease, in seconds; 0 takes that back. A lease that there is not any more is left out.
    pub fn note_lease_rest(&mut self, id: i64, granted: u64, rest: i64) {
        if self.leases.note_rest(id, granted, rest) {
            self.lease_changed(id);
        }
    }

    fn lease_changed(&mut self, id: i64) {
        let now = self.leases.get(id).map(encode_lease);
        self.state.digest.lease(id, now);
        self.changed_leases.insert(id);
    }

    /// Refuses a lease that does not exist; 0 is none.
    pub(super) fn check_lease(&self, id: i64) -> Result<(), Refusal> {
        if id == 0 || self.leases.get(id).is_some() { Ok(()) } else { Err(Refusal::LeaseNotFound(id)) }
    }

    /// Keeps an opaque value under a name, with and as durable as the batch's changes.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) {
        self.meta.insert(name.to_owned(), Bytes::copy_from_slice(value));
    }

    /// Lets readers see the batch. It is durable after the next [`flush`](super::Store::flush).
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.inner.backend.check()?;
        let before = self.inner.state();
        if self.state == before && self.meta.is_empty() {
            return Ok(());
        }
        self.write().map_err(|error| self.inner.database_error(error))?;
        self.writer.dirty = true;
        let written = self.rows.iter().map(|(_, row)| stored_bytes(row)).sum();
        self.inner.row_bytes.fetch_add(written, Ordering::Relaxed);

        let (state, meta, writer) = (self.state, std::mem::take(&mut self.meta), &mut self.writer);
        let leases = self.leases.clone();
        let changes = self.rows.iter().map(|(revision, row)| (revision.main, decoded(row).key));
        let concerned = self.inner.subscriptions.note(state.revision, changes);
        self.inner.publish(|visible| {
            if state.compact_revision > before.compact_revision {
                writer.garbage.extend(visible.index.compact(state.compact_revision));
            }
            visible.state = state;
            visible.leases = leases;
            if !meta.is_empty() {
                Arc::make_mut(&mut visible.meta).extend(meta);
            }
        })?;
        concerned.wake();
        self.base = state.revision;
        self.rows.clear();
        Ok(())
    }

    fn write(&self) -> Result<(), redb::Error> {
        let txn = self.inner.begin_write()?;
        if !self.rows.is_empty() {
            let mut rows = txn.open_table(ROWS)?;
            for (revision, row) in &self.rows {
                rows.insert(revision.to_row_key(), &row[..])?;
            }
        }
        if !self.changed_leases.is_empty() {
            let mut leases = txn.open_table(LEASES)?;
            for id in &self.changed_leases {
                match self.leases.get(*id) {
                    Some(lease) => leases.insert(id, encode_lease(lease))?,
                    None => leases.remove(id)?,
                };
            }
        }
        let mut meta = txn.open_table(META)?;
        write_state(&mut meta, &self.state)?;
        for (name, value) in &self.meta {
            meta.insert(&meta_key(name)[..], &value[..])?;
        }
        drop(meta);
        txn.commit()?;
        Ok(())
    }

    /// What can be read from within the request that is being applied.
    pub(super) fn readable(&self) -> Readable {
        Readable { current: self.current(), compacted: self.state.compact_revision }
    }

    /// The revision as seen from within the request that is being applied: it has moved once something was changed.
    pub(super) fn current(&self) -> i64 {
        self.rows.last().map_or(self.state.revision, |(revision, _)| revision.main)
    }

    pub(super) fn rows(&self) -> BatchRows<'_, D::File> {
        BatchRows { rows: &self.rows, base: self.base, view: &self.view }
    }

    /// Applies one request. Either all of its changes count, under one revision, or none does.
    pub(super) fn atomically<T>(
        &mut self,
        apply: impl FnOnce(&mut Self) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let before = self.rows.len();
        let applied = apply(self);
        if applied.is_err() {
            self.take_back(before, self.state.revision);
        } else if let Some((revision, _)) = self.rows.get(before) {
            self.state.revision = revision.main;
            for (revision, row) in &self.rows[before..] {
                self.state.digest.change(*revision, row);
            }
            // Without leases no key has one.
            if !self.leases.is_empty() {
                for (_, row) in &self.rows[before..] {
                    attach(&mut self.leases, &decoded(row));
                }
            }
        }
        applied
    }

    /// Undoes the changes from the row at `from` on, all of which came after `main`.
    fn take_back(&mut self, from: usize, main: i64) {
        let rows = self.rows.split_off(from);
        self.inner.with_index(|index| {
            for (_, row) in rows {
                index.truncate(&decoded(&row).key, main);
            }
        });
    }

    pub(super) fn apply_put(&mut self, request: &PutRequest) -> Result<PutResponse, ApplyError> {
        let previous = if request.prev_kv || request.ignore_value || request.ignore_lease {
            self.key_value(&request.key)?
        } else {
            None
        };
        let (mut value, mut lease) = (&request.value, request.lease);
        if request.ignore_value || request.ignore_lease {
            let previous = previous.as_ref().ok_or_else(|| Refusal::KeyNotFound(request.key.clone()))?;
            if request.ignore_value {
                value = &previous.value;
            }
            if request.ignore_lease {
                lease = previous.lease;
            }
        }
        let revision = self.next_revision();
        let found = self.inner.with_index(|index| index.put(&request.key, revision));
        let row = Row::encode_put(&request.key, found.created, found.version, lease, value);
        self.rows.push((revision, row));
        Ok(PutResponse { header: header(revision.main), prev_kv: previous.filter(|_| request.prev_kv) })
    }

    pub(super) fn apply_delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, ApplyError> {
        let range = KeyRange::new(&request.key, &request.range_end);
        let found: Vec<_> = {
            let visible = self.inner.visible();
            visible.index.range(range, self.current()).map(|(key, found)| (key.clone(), found)).collect()
        };
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            let rows = self.rows();
            for (key, found) in &found {
                prev_kvs.push(rows.key_value(key, *found)?);
            }
        }
        let deleted = found.len() as i64;
        self.delete(&found.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
        Ok(DeleteRangeResponse { header: header(self.current()), deleted, prev_kvs })
    }

    /// Deletes keys that exist.
    fn delete(&mut self, keys: &[Bytes]) {
        let mut revision = self.next_revision();
        self.inner.with_index(|index| {
            for key in keys {
                let existed = index.tombstone(key, revision);
                debug_assert!(existed, "a key was found that does not exist");
                self.rows.push((revision, Row::encode_tombstone(key)));
                revision.sub += 1;
            }
        });
    }

    /// The pair as of the changes so far.
    fn key_value(&self, key: &Bytes) -> Result<Option<KeyValue>, StoreError> {
        let found = self.inner.visible().index.get(key, self.current());
        found.map(|found| self.rows().key_value(key, found)).transpose()
    }

    /// The revision of the next change of the request that is being applied.
    fn next_revision(&self) -> Revision {
        match self.rows.last() {
            Some((last, _)) if last.main > self.state.revision => Revision { sub: last.sub + 1, ..*last },
            _ => Revision { main: self.state.revision + 1, sub: 0 },
        }
    }
}

impl<D: Disk> Drop for Batch<D> {
    fn drop(&mut self) {
        self.take_back(0, self.base);
    }
}

impl<D: Disk> std::fmt::Debug for Batch<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("base", &self.base).field("state", &self.state).finish_non_exhaustive()
    }
}

/// The rows that a batch sees: its own, and those that were there when it began.
pub(super) struct BatchRows<'a, F> {
    rows: &'a [(Revision, Bytes)],
    base: i64,
    view: &'a View<F>,
}

impl<F: File> Rows for BatchRows<'_, F> {
    fn row(&self, revision: Revision) -> Result<Row, StoreError> {
        if revision.main <= self.base {
            return self.view.row(revision);
        }
        match self.rows.binary_search_by_key(&revision, |(revision, _)| *revision) {
            Ok(at) => self.view.decode(revision, self.rows[at].1.clone()),
            Err(_) => Err(self.damaged(revision)),
        }
    }

    fn damaged(&self, revision: Revision) -> StoreError {
        self.view.damaged(revision)
    }
}

/// Reads a row of a batch.
fn decoded(row: &Bytes) -> Row {
    Row::decode(row.clone()).expect("the row was encoded by this batch")
}

/// Has the row's key go with the row's lease. Rows come in the order of their revisions.
pub(super) fn attach(leases: &mut Leases, row: &Row) {
    let lease = match row.kind {
        RowKind::Put { lease, .. } => lease,
        RowKind::Tombstone => 0,
    };
    leases.put(&row.key, lease);
}
