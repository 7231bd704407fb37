//! The store as a stream of bytes.
//!
//! ```text
//!  stream   frame*                  one header, values, leases, rows, one end
//!  frame    length u32 | checksum u32 | payload
//!  payload  0 | format u8 | state (24 bytes)                header
//!           1 | (row key u128 | length u32 | row)*          rows, ascending
//!           2 | number of rows u64                          end
//!           3 | (length u32 | name | length u32 | value)*   values that members agree on, if there are any
//!           4 | (number i64 | lease (24 bytes))*            leases, ascending, if there are any
//! ```
//!
//! Numbers are little-endian. A frame's checksum covers its payload and continues that of the frame before, so that a
//! frame that is missing, doubled, out of place or from another snapshot is noticed at its offset. How the stream is cut
//! into pieces on the way does not matter.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::crc32c_append;

use super::error::StoreError;
use super::leases::Leases;
use super::store::{Inner, LEASE_LEN, Meta, REPLICATED, State, Store, View, encode_lease};
use crate::runtime::Disk;

pub(crate) const SNAPSHOT_FORMAT: u8 = 1;
pub(crate) const HEADER: u8 = 0;
pub(crate) const ROW_RUN: u8 = 1;
pub(crate) const END: u8 = 2;
pub(crate) const VALUES: u8 = 3;
pub(crate) const LEASE_RUN: u8 = 4;
/// What a lease takes, its number included.
pub(crate) const NUMBERED_LEASE_LEN: usize = 8 + LEASE_LEN;
pub(crate) const FRAME_HEAD: usize = 8;
/// What a row takes besides its value.
pub(crate) const ROW_HEAD: usize = 20;

/// One moment's state of the store, to be sent elsewhere. Later commits and compactions do not change it.
pub struct StoreSnapshot<D: Disk> {
    /// The database closes with its last user.
    inner: Arc<Inner<D>>,
    view: Arc<View<D::File>>,
    state: State,
    leases: Leases,
    meta: Meta,
    next: Next,
    rows: u64,
    checksum: u32,
}

/// Which frame is due.
enum Next {
    Header,
    Values,
    /// Leases from this number on.
    Leases(i64),
    /// Rows from this key on.
    Rows(u128),
    End,
    Nothing,
}

impl<D: Disk> Store<D> {
    /// The visible state, as a stream.
    pub fn snapshot(&self) -> Result<StoreSnapshot<D>, StoreError> {
        self.inner.backend.check()?;
        let visible = self.inner.visible();
        Ok(StoreSnapshot {
            inner: self.inner.clone(),
            view: visible.view(&self.inner.backend)?,
            state: visible.state,
            leases: visible.leases.clone(),
            meta: visible.meta.clone(),
            next: Next::Header,
            rows: 0,
            checksum: 0,
        })
    }
}

impl<D: Disk> StoreSnapshot<D> {
    /// The revision of the state.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// A value that was kept with the state. It is not part of the stream, unless its name says so.
    pub fn meta(&self, name: &str) -> Option<Bytes> {
        self.meta.get(name).cloned()
    }

    /// The next piece of the stream, of at most so many bytes unless a single row needs more; `None` after the last.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StoreError> {
        self.inner.backend.check()?;
        let mut frame = BytesMut::with_capacity(FRAME_HEAD);
        frame.put_bytes(0, FRAME_HEAD);
        match self.next {
            Next::Header => {
                frame.put_u8(HEADER);
                frame.put_u8(SNAPSHOT_FORMAT);
                frame.put_slice(&self.state.encode());
                self.next = if self.replicated().next().is_some() { Next::Values } else { self.leases_or_rows() };
            }
            Next::Values => {
                frame.put_u8(VALUES);
                for (name, value) in self.replicated() {
                    put_part(&mut frame, name.as_bytes());
                    put_part(&mut frame, value);
                }
                self.next = self.leases_or_rows();
            }
            Next::Leases(from) => {
                frame.put_u8(LEASE_RUN);
                self.next = self.put_leases(from, bytes_max, &mut frame);
            }
            Next::Rows(from) => {
                frame.put_u8(ROW_RUN);
                self.next = self.put_rows(from, bytes_max, &mut frame)?;
            }
            Next::End => {
                frame.put_u8(END);
                frame.put_u64_le(self.rows);
                self.next = Next::Nothing;
            }
            Next::Nothing => return Ok(None),
        }
        let payload = frame.len() - FRAME_HEAD;
        self.checksum = crc32c_append(self.checksum, &frame[FRAME_HEAD..]);
        let payload = u32::try_from(payload).expect("a chunk, and a row, is far smaller than 4 GiB");
        frame[..4].copy_from_slice(&payload.to_le_bytes());
        frame[4..FRAME_HEAD].copy_from_slice(&self.checksum.to_le_bytes());
        Ok(Some(frame.freeze()))
    }

    fn replicated(&self) -> impl Iterator<Item = (&String, &Bytes)> {
        self.meta.iter().filter(|(name, _)| name.starts_with(REPLICATED))
    }

    fn leases_or_rows(&self) -> Next {
        if self.leases.is_empty() { Next::Rows(0) } else { Next::Leases(i64::MIN) }
    }

    fn put_leases(&self, from: i64, bytes_max: usize, frame: &mut BytesMut) -> Next {
        for (nth, (id, lease)) in self.leases.from(from).enumerate() {
            if nth > 0 && frame.len() + NUMBERED_LEASE_LEN > bytes_max {
                return Next::Leases(id);
            }
            frame.put_i64_le(id);
            frame.put_slice(&encode_lease(lease));
        }
        Next::Rows(0)
    }

    fn put_rows(&mut self, from: u128, bytes_max: usize, frame: &mut BytesMut) -> Result<Next, StoreError> {
        let mut empty = true;
        for row in self.view.rows.range(from..).map_err(|error| self.inner.database_error(error))? {
            let (key, row) = row.map_err(|error| self.inner.database_error(error))?;
            let (key, row) = (key.value(), row.value());
            if !empty && frame.len() + ROW_HEAD + row.len() > bytes_max {
                return Ok(Next::Rows(key));
            }
            frame.put_u128_le(key);
            frame.put_u32_le(u32::try_from(row.len()).expect("a row is far smaller than 4 GiB"));
            frame.put_slice(row);
            self.rows += 1;
            empty = false;
        }
        Ok(Next::End)
    }
}

/// Few and small: names and addresses.
fn put_part(frame: &mut BytesMut, part: &[u8]) {
    frame.put_u32_le(u32::try_from(part.len()).expect("a value is far smaller than 4 GiB"));
    frame.put_slice(part);
}

impl<D: Disk> std::fmt::Debug for StoreSnapshot<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSnapshot").field("state", &self.state).field("rows", &self.rows).finish_non_exhaustive()
    }
}
