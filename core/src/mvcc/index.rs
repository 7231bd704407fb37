//! Where the rows of each key are: every key that has history left, in order.
//!
//! The index holds changes before they are visible: readers say at which revision they read, and find nothing newer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use super::key_index::{Found, KeyIndex};
use super::key_range::KeyRange;
use super::revision::Revision;
use super::row::{Row, RowKind};
use crate::runtime::{Mutant, Planted};

/// The histories of all keys.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    planted: Planted,
    keys: BTreeMap<Bytes, KeyIndex>,
}

impl Index {
    pub(crate) fn new(planted: Planted) -> Self {
        Index { planted, keys: BTreeMap::new() }
    }

    /// Records a put.
    pub(crate) fn put(&mut self, key: &Bytes, revision: Revision) -> Found {
        if let Some(history) = self.keys.get_mut(key) {
            return history.put(revision);
        }
        // A copy: the caller's key is a slice of a whole request, which it would keep alive for as long as the key is.
        self.keys.entry(Bytes::copy_from_slice(key)).or_default().put(revision)
    }

    /// Records a deletion. `false` if there is no such key.
    pub(crate) fn tombstone(&mut self, key: &[u8], revision: Revision) -> bool {
        self.keys.get_mut(key).is_some_and(|history| history.tombstone(revision))
    }

    /// Takes up a row that survived. Rows come in the order of their revisions. `false` if the row contradicts the ones
    /// before it.
    pub(crate) fn restore(&mut self, revision: Revision, row: &Row) -> bool {
        if self.planted.active(Mutant::TombstoneNotRestored)
            && row.kind == RowKind::Tombstone
            && !self.keys.contains_key(&row.key)
        {
            return true;
        }
        let history = match self.keys.get_mut(&row.key) {
            Some(history) => history,
            None => self.keys.entry(Bytes::copy_from_slice(&row.key)).or_default(),
        };
        match row.kind {
            RowKind::Put { create_revision, version, .. } => history.restore(revision, create_revision, version),
            RowKind::Tombstone => {
                history.restore_tombstone(revision);
                true
            }
        }
    }

    /// A key as of `main`.
    pub(crate) fn get(&self, key: &[u8], main: i64) -> Option<Found> {
        self.keys.get(key)?.get(main)
    }

    /// The keys of a range that exist at `main`, ascending.
    pub(crate) fn range(&self, range: KeyRange<'_>, main: i64) -> impl Iterator<Item = (&Bytes, Found)> {
        range
            .bounds()
            .map(|bounds| self.keys.range::<[u8], _>(bounds))
            .into_iter()
            .flatten()
            .filter_map(move |(key, history)| Some((key, history.get(main)?)))
    }

    /// Forgets what only reads before `main` could need. Returns the revisions of the rows to delete, ascending.
    pub(crate) fn compact(&mut self, main: i64) -> Vec<Revision> {
        let mut garbage = Vec::new();
        self.keys.retain(|_, history| {
            history.compact(main, &mut garbage);
            !history.is_empty()
        });
        if self.planted.active(Mutant::TombstoneDropped) {
            garbage.extend(self.compact_ends(main));
        }
        garbage.sort_unstable();
        garbage
    }

    /// Forgets the deletions at exactly `main`, too: a planted bug.
    pub(crate) fn compact_ends(&mut self, main: i64) -> Vec<Revision> {
        let mut garbage = Vec::new();
        self.keys.retain(|_, history| {
            history.compact_end(main, &mut garbage);
            !history.is_empty()
        });
        garbage
    }

    /// Takes back every change of a key after `main`.
    pub(crate) fn truncate(&mut self, key: &Bytes, main: i64) {
        if let Entry::Occupied(mut entry) = self.keys.entry(key.clone()) {
            entry.get_mut().truncate(main);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// The revisions at `main` or before that are kept, ascending.
    pub(crate) fn kept_up_to(&self, main: i64) -> Vec<Revision> {
        let mut kept: Vec<Revision> = self.keys.values().flat_map(|history| history.kept_up_to(main)).collect();
        kept.sort_unstable();
        kept
    }
}
