//! Reading history forwards: what changed, revision by revision, for those who watch.
//!
//! ```text
//!  changes(5..)  rows  … 4.0 │ 5.0 5.1 6.0 7.0 … │      a piece, cut between two revisions
//!                            └── complete up to 7 ──► go on at 8
//! ```
//!
//! A piece is bounded: whoever falls behind is read to again later, at its own pace, and nothing is kept for it meanwhile.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::Refusal;
use super::error::{ApplyError, StoreError};
use super::range::Rows as _;
use super::revision::Revision;
use super::row::RowKind;
use super::store::{Store, stored_bytes};
use crate::proto::mvccpb::KeyValue;
use crate::runtime::{Disk, Mutant};

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The pair after it; of a deletion the key and the revision alone, as etcd shows it.
    pub kv: KeyValue,
    /// Whether the key was deleted.
    pub deleted: bool,
    /// The pair before it, if it was asked for, existed, and the revision before has not been compacted.
    pub previous: Option<KeyValue>,
}

/// Some of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// What changed, in order: all changes of each revision.
    pub changes: Vec<Change>,
    /// The last revision that they cover.
    pub upto: i64,
}

/// How much is read at once. One revision is always read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceLimit {
    /// After so many changes no further revision is begun,
    pub changes: usize,
    /// nor after so many bytes of rows.
    pub bytes: u64,
}

impl Default for PieceLimit {
    fn default() -> Self {
        PieceLimit { changes: 512, bytes: 1 << 20 }
    }
}

impl<D: Disk> Store<D> {
    /// What changed in some revisions, as far as `limit` allows. `with_previous` says of which keys the pairs
    /// before the changes are wanted. The caller has the right to read (see [`Store::reading`]).
    ///
    /// # Errors
    /// `Compacted`, if part of it is gone. The store's own.
    pub fn changes(
        &self,
        revisions: RangeInclusive<i64>,
        limit: PieceLimit,
        with_previous: impl Fn(&[u8]) -> bool,
    ) -> Result<Changes, ApplyError> {
        self.inner.backend.check()?;
        let (state, view) = {
            let visible = self.inner.visible();
            (visible.state, visible.view(&self.inner.backend)?)
        };
        let (from, last) = revisions.into_inner();
        if from < state.compact_revision {
            return Err(Refusal::Compacted { requested: from, compacted: state.compact_revision }.into());
        }
        let mut piece = Changes { changes: Vec::new(), upto: state.revision.min(last) };
        let (mut bytes, mut wanted) = (0, Vec::new());
        let first = Revision { main: from.max(0), sub: 0 }.to_row_key();
        for entry in view.rows.range(first..).map_err(|error| self.inner.database_error(error))? {
            let (key, row) = entry.map_err(|error| self.inner.database_error(error))?;
            let revision = Revision::from_row_key(key.value()).ok_or_else(|| {
                self.inner.backend.damaged(format_args!("there is a row of revision {:#x}", key.value()))
            })?;
            if revision.main > piece.upto {
                break;
            }
            let whole = piece.changes.last().is_some_and(|last| last.kv.mod_revision < revision.main);
            if whole && (piece.changes.len() >= limit.changes || bytes >= limit.bytes) {
                piece.upto = revision.main - 1;
                break;
            }
            bytes += stored_bytes(row.value());
            let row = view.decode(revision, Bytes::copy_from_slice(row.value()))?;
            // As in etcd: there is nothing before a creation, though the same txn may have deleted the key.
            let creates = matches!(row.kind, RowKind::Put { create_revision, .. } if create_revision == revision.main);
            if !creates && with_previous(&row.key) {
                wanted.push(piece.changes.len());
            }
            piece.changes.push(change(revision, row.key, row.kind));
        }
        self.add_previous(&mut piece, &wanted, limit.bytes)?;
        if self.installations() > 0 && self.inner.planted.active(Mutant::EventDuplicated) {
            piece.changes.extend(piece.changes.last().cloned());
        }
        Ok(piece)
    }

    /// Looks up the pairs before some of the changes. The piece ends earlier if those are large.
    fn add_previous(&self, piece: &mut Changes, wanted: &[usize], bytes_max: u64) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        // Index and rows of one moment. It may be later than the changes', and what was compacted since is not known.
        let (found, view) = {
            let visible = self.inner.visible();
            let before = |at: &usize| {
                let KeyValue { key, mod_revision, .. } = &piece.changes[*at].kv;
                let known = *mod_revision > visible.state.compact_revision;
                known.then(|| visible.index.get(key, mod_revision - 1)).flatten()
            };
            (wanted.iter().map(before).collect::<Vec<_>>(), visible.view(&self.inner.backend)?)
        };
        let (mut bytes, mut last_whole) = (0, 0);
        for (at, found) in wanted.iter().zip(found) {
            let main = piece.changes[*at].kv.mod_revision;
            if bytes >= bytes_max && last_whole > 0 && main > last_whole {
                piece.changes.retain(|change| change.kv.mod_revision <= last_whole);
                piece.upto = last_whole;
                return Ok(());
            }
            if let Some(found) = found {
                let previous = view.key_value(&piece.changes[*at].kv.key.clone(), found)?;
                bytes += (previous.key.len() + previous.value.len()) as u64;
                piece.changes[*at].previous = Some(previous);
            }
            last_whole = main;
        }
        Ok(())
    }
}

fn change(Revision { main, .. }: Revision, key: Bytes, kind: RowKind) -> Change {
    let deleted = kind == RowKind::Tombstone;
    let kv = match kind {
        RowKind::Put { create_revision, version, lease, value } => {
            KeyValue { key, create_revision, mod_revision: main, version, value, lease }
        }
        RowKind::Tombstone => KeyValue { key, mod_revision: main, ..KeyValue::default() },
    };
    Change { kv, deleted, previous: None }
}
