//! The stream of a snapshot, read: frames, their checksums, the order of rows. Its format is with
//! [`StoreSnapshot`](super::StoreSnapshot).

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use crc32c::crc32c_append;

use super::batch::attach;
use super::error::{InstallError, StoreError};
use super::leases::Leases;
use super::revision::Revision;
use super::row::Row;
use super::snapshot::{
    END, FRAME_HEAD, HEADER, LEASE_RUN, NUMBERED_LEASE_LEN, ROW_HEAD, ROW_RUN, SNAPSHOT_FORMAT, VALUES,
};
use super::store::{LEASE_LEN, REPLICATED, State, decode_lease, stored_bytes};

/// The longest payload that is believed: requests, and so rows, are far smaller.
const PAYLOAD_MAX: usize = 1 << 30;

/// What has been received.
#[derive(Default)]
pub(super) struct Stream {
    /// The beginning of a frame.
    pending: BytesMut,
    /// Bytes of the stream before `pending`.
    offset: u64,
    checksum: u32,
    state: Option<State>,
    /// Values that come with the rows.
    pub(super) values: BTreeMap<String, Bytes>,
    /// Leases, with their keys as far as rows have been received.
    pub(super) leases: Leases,
    last_lease: Option<i64>,
    rows: u64,
    /// What the rows take in a store.
    pub(super) row_bytes: u64,
    last: Option<Revision>,
    ended: bool,
}

/// Reads a stream as an installation does, and changes nothing. What it lets pass can be installed, unless the sender's
/// rows contradict each other.
#[derive(Default)]
pub struct SnapshotCheck {
    stream: Stream,
}

impl SnapshotCheck {
    /// Takes the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`InstallError::Damaged`], with the offset, if they cannot be installed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        self.stream.feed(bytes, |_, _, _| Ok(true))
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// [`InstallError::Damaged`], if the snapshot is not whole.
    pub fn finish(self) -> Result<(), InstallError> {
        self.stream.whole().map(drop)
    }
}

impl Stream {
    /// Takes the next bytes, cut anywhere, and hands over the rows, encoded and decoded. `each` says whether a row fits
    /// those before it.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Revision, &Row, &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), InstallError> {
        self.pending.extend_from_slice(bytes);
        while let Some(mut payload) = self.next_frame()? {
            match payload.get_u8() {
                HEADER => self.header(payload)?,
                VALUES => self.values(payload)?,
                LEASE_RUN => self.leases(payload)?,
                ROW_RUN => self.rows(payload, &mut each)?,
                END => self.end(payload)?,
                kind => return Err(self.damaged(format_args!("there is no frame of kind {kind}"))),
            }
        }
        Ok(())
    }

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

    fn values(&mut self, mut payload: Bytes) -> Result<(), InstallError> {
        if self.state.is_none() || self.rows > 0 || self.ended {
            return Err(self.damaged("values are out of place"));
        }
        while payload.has_remaining() {
            let name = take_part(&mut payload).and_then(|name| String::from_utf8(name.into()).ok());
            match (name.filter(|name| name.starts_with(REPLICATED)), take_part(&mut payload)) {
                (Some(name), Some(value)) => self.values.insert(name, value),
                _ => return Err(self.damaged("a value is cut or has no place in a snapshot")),
            };
        }
        Ok(())
    }

    fn leases(&mut self, mut payload: Bytes) -> Result<(), InstallError> {
        if self.state.is_none() || self.rows > 0 || self.ended {
            return Err(self.damaged("leases are out of place"));
        }
        while payload.has_remaining() {
            if payload.remaining() < NUMBERED_LEASE_LEN {
                return Err(self.damaged("a lease is cut"));
            }
            let id = payload.get_i64_le();
            if self.last_lease.is_some_and(|last| last >= id) {
                return Err(self.damaged(format_args!("lease {id} is out of order")));
            }
            let mut encoded = [0; LEASE_LEN];
            payload.copy_to_slice(&mut encoded);
            self.leases.grant(id, decode_lease(encoded));
            self.last_lease = Some(id);
        }
        Ok(())
    }

    fn rows(
        &mut self,
        mut payload: Bytes,
        each: &mut impl FnMut(Revision, &Row, &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), InstallError> {
        let Some(state) = self.state.filter(|_| !self.ended) else {
            return Err(self.damaged("rows are out of place"));
        };
        while payload.has_remaining() {
            let (revision, encoded) = take_row(&mut payload)
                .filter(|(revision, _)| revision.main <= state.revision && Some(*revision) > self.last)
                .ok_or_else(|| self.damaged("a row is cut or out of order"))?;
            let fits = match Row::decode(encoded.clone()) {
                Some(row) => {
                    attach(&mut self.leases, &row);
                    each(revision, &row, &encoded)?
                }
                None => false,
            };
            if !fits {
                let what = format_args!("the row of revision {revision} is unreadable or contradicts earlier ones");
                return Err(self.damaged(what));
            }
            self.rows += 1;
            self.row_bytes += stored_bytes(&encoded);
            self.last = Some(revision);
        }
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
    pub(super) fn whole(&self) -> Result<State, InstallError> {
        match self.state {
            Some(state) if self.ended && self.pending.is_empty() => match self.leases.orphan() {
                None => Ok(state),
                Some((key, lease)) => {
                    let key = key.escape_ascii();
                    Err(self.damaged(format_args!("key \"{key}\" has lease {lease}, which does not exist")))
                }
            },
            _ if self.ended => Err(self.damaged("there is more after its end")),
            _ => Err(self.damaged("it ends too early")),
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> InstallError {
        InstallError::Damaged { offset: self.offset, what: what.to_string() }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("offset", &self.offset).field("rows", &self.rows).finish_non_exhaustive()
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

fn take_part(payload: &mut Bytes) -> Option<Bytes> {
    let len = payload.try_get_u32_le().ok()? as usize;
    (len <= payload.len()).then(|| payload.split_to(len))
}
