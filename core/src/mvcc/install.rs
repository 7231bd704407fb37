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

use bytes::{Buf, Bytes, BytesMut};
use crc32c::crc32c_append;
use openraft::AsyncRuntime;
use redb::WriteTransaction;
use tokio::sync::OwnedMutexGuard;

use super::error::{InstallError, StoreError};
use super::index::Index;
use super::revision::{NEVER_COMPACTED, Revision};
use super::row::Row;
use super::snapshot::{END, FRAME_HEAD, HEADER, ROW_HEAD, ROW_RUN, SNAPSHOT_FORMAT};
use super::store::{Inner, META, ROWS, State, Store, Writer, meta_key, write_fresh};
use crate::runtime::Disk;

/// The longest payload that is believed: requests, and so rows, are far smaller.
const PAYLOAD_MAX: usize = 1 << 30;

/// A snapshot on its way into the store. There is no other writer meanwhile. Dropping it changes nothing.
pub struct Installer<D: Disk> {
    inner: Arc<Inner<D>>,
    // Before the right to write, so that it is rolled back first.
    txn: WriteTransaction,
    writer: OwnedMutexGuard<Writer>,
    meta: BTreeMap<String, Bytes>,
    stream: Stream,
}

/// What has been received.
#[derive(Default)]
struct Stream {
    /// The beginning of a frame.
    pending: BytesMut,
    /// Bytes of the stream before `pending`.
    offset: u64,
    checksum: u32,
    state: Option<State>,
    index: Index,
    rows: u64,
    last: Option<Revision>,
    ended: bool,
}

impl<D: Disk> Store<D> {
    /// Begins to replace everything, once there is no other writer.
    pub async fn installer(&self) -> Result<Installer<D>, StoreError> {
        let inner = self.inner.clone();
        let writer = inner.writer().await?;
        let txn = inner.begin_durable()?;
        let emptied = (|| {
            txn.delete_table(ROWS)?;
            txn.delete_table(META)?;
            Ok::<(), redb::Error>(())
        })();
        emptied.map_err(|error| inner.database_error(error))?;
        Ok(Installer { inner, txn, writer, meta: BTreeMap::new(), stream: Stream::default() })
    }
}

impl<D: Disk> Installer<D> {
    /// Takes the next bytes of the stream, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        self.inner.backend.check()?;
        self.stream.pending.extend_from_slice(bytes);
        while let Some(mut payload) = self.stream.next_frame()? {
            match payload.get_u8() {
                HEADER => self.stream.header(payload)?,
                ROW_RUN => self.rows(payload)?,
                END => self.stream.end(payload)?,
                kind => return Err(self.stream.damaged(format_args!("there is no frame of kind {kind}"))),
            }
        }
        Ok(())
    }

    /// Keeps a value with the new state. Values of the old state are gone.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) {
        self.meta.insert(name.to_owned(), Bytes::copy_from_slice(value));
    }

    /// Replaces the old state. Afterwards the new one is visible and durable.
    pub async fn finish<R: AsyncRuntime>(self) -> Result<(), InstallError> {
        let state = self.stream.whole()?;
        let Installer { inner, txn, writer, meta, stream } = self;
        let mut index = stream.index;
        let commit = {
            let inner = inner.clone();
            move |writer: &mut Writer| {
                write_fresh(&txn, &state).map_err(|error| inner.database_error(error))?;
                write_meta(&txn, &meta).map_err(|error| inner.database_error(error))?;
                let meta = Arc::new(meta);
                inner.commit_durable(txn, writer, meta.clone())?;
                writer.garbage = index.compact(state.compact_revision).into();
                writer.finished_compaction = NEVER_COMPACTED;
                inner.publish(|visible| {
                    visible.index = index;
                    visible.state = state;
                    visible.meta = meta;
                })
            }
        };
        Ok(inner.durably::<R>(writer, commit).await?)
    }

    fn rows(&mut self, mut payload: Bytes) -> Result<(), InstallError> {
        let Some(state) = self.stream.state.filter(|_| !self.stream.ended) else {
            return Err(self.stream.damaged("rows are out of place"));
        };
        let mut table = self.txn.open_table(ROWS).map_err(|error| self.inner.database_error(error))?;
        while payload.has_remaining() {
            let (revision, encoded) = take_row(&mut payload)
                .filter(|(revision, _)| revision.main <= state.revision && Some(*revision) > self.stream.last)
                .ok_or_else(|| self.stream.damaged("a row is cut or out of order"))?;
            let restored = Row::decode(encoded.clone()).is_some_and(|row| self.stream.index.restore(revision, &row));
            if !restored {
                let what = format_args!("the row of revision {revision} is unreadable or contradicts earlier ones");
                return Err(self.stream.damaged(what));
            }
            table.insert(revision.to_row_key(), &encoded[..]).map_err(|error| self.inner.database_error(error))?;
            self.stream.rows += 1;
            self.stream.last = Some(revision);
        }
        Ok(())
    }
}

impl Stream {
    /// The payload of the next frame that is there as a whole.
    fn next_frame(&mut self) -> Result<Option<Bytes>, InstallError> {
        let Some(mut head) = self.pending.get(..FRAME_HEAD) else { return Ok(None) };
        let (len, checksum) = (head.get_u32_le() as usize, head.get_u32_le());
        if !(1..=PAYLOAD_MAX).contains(&len) {
            return Err(self.damaged(format_args!("a frame claims to be {len} bytes long")));
        }
        if self.pending.len() < FRAME_HEAD + len {
            return Ok(None);
        }
        let expected = crc32c_append(self.checksum, &self.pending[FRAME_HEAD..FRAME_HEAD + len]);
        if checksum != expected {
            return Err(self.damaged("the checksum does not fit"));
        }
        self.checksum = checksum;
        self.offset += (FRAME_HEAD + len) as u64;
        let mut frame = self.pending.split_to(FRAME_HEAD + len).freeze();
        frame.advance(FRAME_HEAD);
        Ok(Some(frame))
    }

    fn header(&mut self, mut payload: Bytes) -> Result<(), InstallError> {
        let format = payload.try_get_u8().ok();
        let state = State::decode(&payload);
        if self.state.is_some() || format != Some(SNAPSHOT_FORMAT) || state.is_none() {
            return Err(self.damaged(format_args!("the header is not of format {SNAPSHOT_FORMAT}")));
        }
        self.state = state;
        Ok(())
    }

    fn end(&mut self, payload: Bytes) -> Result<(), InstallError> {
        if self.state.is_none() || self.ended || payload[..] != self.rows.to_le_bytes() {
            return Err(self.damaged(format_args!("it does not end after {} rows", self.rows)));
        }
        self.ended = true;
        Ok(())
    }

    /// The state that has been received, if all of it has.
    fn whole(&self) -> Result<State, InstallError> {
        match self.state {
            Some(state) if self.ended && self.pending.is_empty() => Ok(state),
            _ if self.ended => Err(self.damaged("there is more after its end")),
            _ => Err(self.damaged("it ends too early")),
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> InstallError {
        InstallError::Damaged { offset: self.offset, what: what.to_string() }
    }
}

impl<D: Disk> std::fmt::Debug for Installer<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installer")
            .field("offset", &self.stream.offset)
            .field("rows", &self.stream.rows)
            .finish_non_exhaustive()
    }
}

fn take_row(payload: &mut Bytes) -> Option<(Revision, Bytes)> {
    if payload.remaining() < ROW_HEAD {
        return None;
    }
    let revision = Revision::from_row_key(payload.get_u128_le())?;
    let len = payload.get_u32_le() as usize;
    (len <= payload.len()).then(|| (revision, payload.split_to(len)))
}

fn write_meta(txn: &WriteTransaction, meta: &BTreeMap<String, Bytes>) -> Result<(), redb::Error> {
    let mut table = txn.open_table(META)?;
    for (name, value) in meta {
        table.insert(&meta_key(name)[..], &value[..])?;
    }
    Ok(())
}
