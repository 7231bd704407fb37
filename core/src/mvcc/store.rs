//! The store: what is visible, what is durable, and who may write.
//!
//! ```text
//!  begin ─ put, delete, txn … ─ commit ──► visible            (one transaction, not durable)
//!                                   flush ─ barrier ─ settle ─► durable
//! ```
//!
//! * Readers see whole batches. They take a lock only to look into the index; rows come from a read transaction that was
//!   opened with the commit they see, so that index and rows agree.
//! * There is one writer. Whoever holds the lock on [`Writer`] has it: a batch, a flush, an installation, a compaction
//!   step, a defragmentation. The next one first waits until the last durable commit has settled, since the database reuses pages as soon as
//!   it believes that a commit without them is durable.
//! * What is durable is what the last flush, installation or defragmentation made so: dropping the store writes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use openraft::AsyncRuntime;
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition, WriteTransaction};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard};

use super::backend::Backend;
use super::batch::Batch;
use super::error::{ApplyError, StoreError};
use super::hash::Digest;
use super::index::Index;
use super::leases::{Lease, Leases};
use super::range::{Readable, Rows, select};
use super::recovery::{Recovered, recover};
use super::revision::{FIRST_REVISION, NEVER_COMPACTED, Revision};
use super::row::Row;
use super::subscriptions::Subscriptions;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::runtime::{Disk, File, Planted};
use crate::watermark::Watermark;

/// What a lease takes, its number aside.
pub(crate) const LEASE_LEN: usize = 24;

pub(crate) const ROWS: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("rows");
/// For how long it was granted, where in the log, and what was noted to be left of it: three numbers of eight bytes,
/// little-endian. Times are in seconds.
pub(crate) const LEASES: TableDefinition<'static, i64, [u8; LEASE_LEN]> = TableDefinition::new("leases");
pub(crate) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");

/// The layout of the tables.
pub(crate) const FORMAT: &[u8] = b"1";
pub(crate) const FORMAT_NAME: &str = "store/format";
pub(crate) const STATE_NAME: &str = "store/state";
pub(crate) const FINISHED_COMPACTION_NAME: &str = "store/finished-compaction";
/// Before the names of values that the store keeps for others.
pub(crate) const OTHERS: &str = "meta/";

/// Begins the names of those of them that are part of what all members agree on: they are part of a snapshot.
pub const REPLICATED: &str = "replicated/";

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most bytes of the file that are kept in memory.
    pub cache_bytes: usize,
    /// Whether to check every page of the file that is in use against its checksum when it is opened, which reads them
    /// all. Without it, damage that the medium did while the file was closed may be served: what is read first is
    /// believed.
    pub verify: bool,
    /// The planted bugs that are switched on: those of the member's runtime.
    pub planted: Planted,
}

impl Default for Options {
    fn default() -> Self {
        Options { cache_bytes: 64 << 20, verify: true, planted: Planted::default() }
    }
}

/// How large a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes of the rows in it, their keys included: what is left of the file is structure, or free.
    pub row_bytes: u64,
}

/// The multi-version store of one member. Clones are the same store.
pub struct Store<D: Disk> {
    pub(crate) inner: Arc<Inner<D>>,
}

impl<D: Disk> Clone for Store<D> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

impl<D: Disk> std::fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("backend", &self.inner.backend).field("state", &self.inner.state()).finish()
    }
}

pub(crate) struct Inner<D: Disk> {
    /// Locked as a whole only while the file is made shorter.
    pub(crate) db: RwLock<Database>,
    pub(crate) backend: Arc<Backend<D::File>>,
    pub(crate) visible: RwLock<Visible<D::File>>,
    /// What others keep here, as of the last durable commit that has settled.
    durable: Mutex<Meta>,
    /// Bytes of the rows. Changed by the one writer only.
    pub(crate) row_bytes: AtomicU64,
    /// The revision that readers see.
    pub(crate) reached: Watermark,
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// How often a snapshot has replaced everything.
    pub(crate) installations: AtomicU64,
    pub(crate) planted: Planted,
    writer: Arc<tokio::sync::Mutex<Writer>>,
    /// Kept by all who read, and from them while the file is made shorter.
    pub(crate) readers: Arc<tokio::sync::RwLock<()>>,
}

/// The right to read: see [`Store::reading`].
pub type Reading = OwnedRwLockReadGuard<()>;

impl<D: Disk> Drop for Inner<D> {
    fn drop(&mut self) {
        self.backend.fail("the store is closed");
    }
}

/// Values that are kept for others, by name.
pub(crate) type Meta = Arc<BTreeMap<String, Bytes>>;

/// What readers see.
pub(crate) struct Visible<F> {
    /// Has history of a batch that is still open, too: at revisions that no reader asks for.
    pub(crate) index: Index,
    pub(crate) state: State,
    pub(crate) leases: Leases,
    pub(crate) meta: Meta,
    /// There is none only while the file is made shorter, and after that has failed, with the store.
    pub(crate) view: Option<Arc<View<F>>>,
}

impl<F: File> Visible<F> {
    /// The rows, unless the file is being made shorter.
    pub(crate) fn view(&self, backend: &Backend<F>) -> Result<Arc<View<F>>, StoreError> {
        let busy = || StoreError::Busy { path: backend.path().to_owned() };
        self.view.clone().ok_or_else(|| backend.check().err().unwrap_or_else(busy))
    }
}

/// The numbers that a store is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) revision: i64,
    /// The least revision whose state is whole. Rows that only earlier reads needed may be there yet.
    pub(crate) compact_revision: i64,
    pub(crate) digest: Digest,
}

impl State {
    const LEN: usize = 24;

    pub(crate) fn fresh() -> State {
        State { revision: FIRST_REVISION, compact_revision: NEVER_COMPACTED, digest: Digest::default() }
    }

    pub(crate) fn readable(&self) -> Readable {
        Readable { current: self.revision, compacted: self.compact_revision }
    }

    pub(crate) fn encode(&self) -> [u8; State::LEN] {
        let mut encoded = [0; State::LEN];
        encoded[..8].copy_from_slice(&self.revision.to_le_bytes());
        encoded[8..16].copy_from_slice(&self.compact_revision.to_le_bytes());
        encoded[16..].copy_from_slice(&self.digest.0.to_le_bytes());
        encoded
    }

    pub(crate) fn decode(encoded: &[u8]) -> Option<State> {
        let (words, []) = encoded.as_chunks::<8>() else { return None };
        let [revision, compact_revision, digest] = words else { return None };
        let state = State {
            revision: i64::from_le_bytes(*revision),
            compact_revision: i64::from_le_bytes(*compact_revision),
            digest: Digest(u64::from_le_bytes(*digest)),
        };
        let in_order = FIRST_REVISION <= state.revision
            && NEVER_COMPACTED <= state.compact_revision
            && state.compact_revision <= state.revision;
        in_order.then_some(state)
    }
}

/// What only the one writer may touch.
pub(crate) struct Writer {
    /// Rows that compaction has yet to delete, ascending for each key.
    pub(crate) garbage: VecDeque<Revision>,
    /// The compact revision up to which all garbage has gone.
    pub(crate) finished_compaction: i64,
    /// Whether anything was committed since the last durable commit.
    pub(crate) dirty: bool,
    /// What others keep here, as of a durable commit that has not settled.
    pub(crate) unsettled: Option<Meta>,
}

/// The rows as of one commit.
pub(crate) struct View<F> {
    pub(crate) rows: ReadOnlyTable<u128, &'static [u8]>,
    backend: Arc<Backend<F>>,
}

impl<F: File> View<F> {
    pub(crate) fn open(db: &Database, backend: &Arc<Backend<F>>) -> Result<Arc<Self>, StoreError> {
        let txn = db.begin_read().map_err(|error| backend.database_error(error))?;
        let rows = txn.open_table(ROWS).map_err(|error| backend.database_error(error))?;
        Ok(Arc::new(View { rows, backend: backend.clone() }))
    }

    pub(crate) fn decode(&self, revision: Revision, row: Bytes) -> Result<Row, StoreError> {
        Row::decode(row).ok_or_else(|| self.damaged(revision))
    }
}

impl<F: File> Rows for View<F> {
    fn row(&self, revision: Revision) -> Result<Row, StoreError> {
        let row = self.rows.get(revision.to_row_key()).map_err(|error| self.backend.database_error(error))?;
        let row = row.ok_or_else(|| self.damaged(revision))?;
        self.decode(revision, Bytes::copy_from_slice(row.value()))
    }

    fn damaged(&self, revision: Revision) -> StoreError {
        self.backend.damaged(format_args!("the row of revision {revision} is missing or unreadable"))
    }
}

impl<D: Disk> Store<D> {
    /// Opens the store in a folder of the disk, making both if need be. What was not flushed before is gone.
    pub async fn open(disk: &D, dir: &str, options: Options) -> Result<Self, StoreError> {
        let Recovered { db, backend, view, index, state, leases, meta, writer, row_bytes } =
            recover(disk, dir, options).await?;
        let visible = Visible { index, state, leases, meta: meta.clone(), view: Some(view) };
        let reached = Watermark::new(state.revision as u64);
        let inner = Inner {
            db: RwLock::new(db),
            backend,
            visible: RwLock::new(visible),
            durable: Mutex::new(meta),
            row_bytes: AtomicU64::new(row_bytes),
            subscriptions: Subscriptions::new(state.revision, reached.clone(), options.planted),
            reached,
            installations: AtomicU64::new(0),
            planted: options.planted,
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            readers: Arc::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The revision of the last change; 1 in a fresh store.
    pub fn revision(&self) -> i64 {
        self.inner.state().revision
    }

    /// The least revision that can be read; −1 in a store that was never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.inner.state().compact_revision
    }

    /// The leases, and the revision at which they are so.
    pub fn leases(&self) -> (Leases, i64) {
        let visible = self.inner.visible();
        (visible.leases.clone(), visible.state.revision)
    }

    /// The store's revision, for those who wait until it moves.
    pub fn reached(&self) -> &Watermark {
        &self.inner.reached
    }

    /// How often everything was replaced by a snapshot since the store was opened.
    pub fn installations(&self) -> u64 {
        self.inner.installations.load(Ordering::Relaxed)
    }

    /// How large it is now.
    pub fn size(&self) -> Result<StoreSize, StoreError> {
        Ok(StoreSize {
            file_bytes: self.inner.backend.size()?,
            row_bytes: self.inner.row_bytes.load(Ordering::Relaxed),
        })
    }

    /// Its file, relative to the member's folder.
    pub fn path(&self) -> &str {
        self.inner.backend.path()
    }

    /// Why it cannot go on, if it has failed.
    pub fn failure(&self) -> Option<String> {
        self.inner.backend.failure().map(str::to_owned)
    }

    /// A value kept by [`Batch::set_meta`].
    pub fn meta(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.inner.backend.check()?;
        Ok(self.inner.visible().meta.get(name).cloned())
    }

    /// A value kept by [`Batch::set_meta`], as it would be found after a crash now.
    pub fn durable_meta(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.inner.backend.check()?;
        Ok(self.inner.durable().get(name).cloned())
    }

    /// Answers a range from what is visible, in one moment's state.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ApplyError> {
        self.inner.backend.check()?;
        let (selection, view) = {
            let visible = self.inner.visible();
            (select(&visible.index, visible.state.readable(), request)?, visible.view(&self.inner.backend)?)
        };
        Ok(selection.fetch(&*view)?)
    }

    /// Begins a batch of changes, once there is no other writer.
    pub async fn begin(&self) -> Result<Batch<D>, StoreError> {
        Batch::new(self.inner.clone(), self.inner.writer().await?)
    }

    /// Makes everything that was committed durable. Reads go on meanwhile; writers wait.
    pub async fn flush<R: AsyncRuntime>(&self) -> Result<(), StoreError> {
        self.flush_after::<R, StoreError>(async { Ok(()) }).await
    }

    /// Like [`flush`](Store::flush), once `prepare` has succeeded. Nothing is committed from then until the end, so that
    /// what `prepare` made sure of holds for all that becomes durable.
    pub async fn flush_after<R: AsyncRuntime, E: From<StoreError>>(
        &self,
        prepare: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let writer = self.inner.writer().await?;
        if !writer.dirty {
            return Ok(());
        }
        prepare.await?;
        let inner = self.inner.clone();
        self.inner
            .durably::<R>(writer, move |writer| {
                let meta = inner.visible().meta.clone();
                inner.commit_durable(inner.begin_durable()?, writer, meta)?;
                // The old view would keep the pages that the commit has freed.
                inner.publish(|_| ())
            })
            .await?;
        Ok(())
    }
}

impl<D: Disk> Inner<D> {
    pub(crate) fn visible(&self) -> RwLockReadGuard<'_, Visible<D::File>> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn db(&self) -> RwLockReadGuard<'_, Database> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.visible().state
    }

    fn durable(&self) -> MutexGuard<'_, Meta> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn database_error(&self, error: impl Into<redb::Error>) -> StoreError {
        self.backend.database_error(error)
    }

    /// The right to write. Waits until the last durable commit has settled, even if whoever made it has gone.
    pub(crate) async fn writer(&self) -> Result<OwnedMutexGuard<Writer>, StoreError> {
        let mut writer = self.writer.clone().lock_owned().await;
        self.settle(&mut writer).await?;
        Ok(writer)
    }

    pub(crate) async fn settle(&self, writer: &mut Writer) -> Result<(), StoreError> {
        self.backend.check()?;
        if writer.unsettled.is_some() {
            self.backend.settle().await?;
            *self.durable() = writer.unsettled.take().expect("it was there before the wait, in which we held the lock");
        }
        Ok(())
    }

    /// Runs a durable commit where it may block, then waits until it has settled.
    pub(crate) async fn durably<R: AsyncRuntime>(
        &self,
        writer: OwnedMutexGuard<Writer>,
        commit: impl FnOnce(&mut Writer) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (mut writer, ()) = self.apart::<R, ()>(writer, commit).await?;
        self.settle(&mut writer).await
    }

    /// Runs a durable commit where it may block; it has yet to settle. The right to write goes with the commit, so that a
    /// caller who gives up does not let the next writer begin in the middle of it.
    pub(crate) async fn apart<R: AsyncRuntime, T: Send + 'static>(
        &self,
        mut writer: OwnedMutexGuard<Writer>,
        commit: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(OwnedMutexGuard<Writer>, T), StoreError> {
        let ran = R::spawn_blocking(move || {
            let committed = commit(&mut writer);
            (writer, committed)
        });
        let (writer, committed) = ran.await.map_err(|source| {
            self.backend.fail(format_args!("a durable commit did not end: {source}"));
            StoreError::Io { operation: "commit to", path: self.backend.path().to_owned(), source }
        })?;
        Ok((writer, committed?))
    }

    /// Begins a transaction that the next durable one makes durable.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut txn = self.db().begin_write()?;
        txn.set_durability(Durability::None)?;
        Ok(txn)
    }

    pub(crate) fn begin_durable(&self) -> Result<WriteTransaction, StoreError> {
        let mut txn = self.db().begin_write().map_err(|error| self.database_error(error))?;
        // Without it, the first open after a crash repairs the file, and reads all of it twice more than the check does.
        txn.set_quick_repair(true);
        Ok(txn)
    }

    pub(crate) fn commit_durable(
        &self,
        txn: WriteTransaction,
        writer: &mut Writer,
        meta: Meta,
    ) -> Result<(), StoreError> {
        writer.unsettled = Some(meta);
        txn.commit().map_err(|error| self.database_error(error))?;
        writer.dirty = false;
        Ok(())
    }

    /// Lets readers see the last commit: its rows and `change`, at once.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Visible<D::File>)) -> Result<(), StoreError> {
        let view = View::open(&self.db(), &self.backend)?;
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut visible);
        let (old, revision) = (visible.view.replace(view), visible.state.revision);
        drop(visible);
        drop(old);
        self.reached.raise(revision as u64);
        Ok(())
    }

    /// Changes the index at revisions that nobody can see yet.
    pub(crate) fn with_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.visible.write().unwrap_or_else(PoisonError::into_inner).index)
    }
}

/// What a row takes, its key included.
pub(crate) fn stored_bytes(row: &[u8]) -> u64 {
    (size_of::<u128>() + row.len()) as u64
}

/// The key in the table of a value that is kept for others.
pub(crate) fn meta_key(name: &str) -> String {
    format!("{OTHERS}{name}")
}

/// Writes the numbers that a store is known by.
pub(crate) fn write_state(meta: &mut redb::Table<'_, &str, &[u8]>, state: &State) -> redb::Result {
    meta.insert(STATE_NAME, &state.encode()[..])?;
    Ok(())
}

/// A lease as it is stored.
pub(crate) fn encode_lease(lease: &Lease) -> [u8; LEASE_LEN] {
    let mut encoded = [0; LEASE_LEN];
    encoded[..8].copy_from_slice(&lease.ttl.to_le_bytes());
    encoded[8..16].copy_from_slice(&lease.granted.to_le_bytes());
    encoded[16..].copy_from_slice(&lease.rest.to_le_bytes());
    encoded
}

/// Reads what [`encode_lease`] has written.
pub(crate) fn decode_lease(encoded: [u8; LEASE_LEN]) -> Lease {
    let number = |at: usize| i64::from_le_bytes(std::array::from_fn(|byte| encoded[at + byte]));
    Lease::new(number(0), number(8) as u64, number(16))
}

/// Writes what the table of a store holds before anything is put into it.
pub(crate) fn write_fresh(txn: &WriteTransaction, state: &State) -> Result<(), redb::Error> {
    txn.open_table(ROWS)?;
    txn.open_table(LEASES)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(FORMAT_NAME, FORMAT)?;
    write_state(&mut meta, state)?;
    Ok(())
}
