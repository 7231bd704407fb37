//! Whether two members hold the same.
//!
//! Two hashes, for two questions:
//!
//! * The [digest](Digest) covers every change, compaction and lease since the beginning. It is carried along, so asking for it
//!   costs nothing; members that applied the same log have the same one at the same revision and compact revision.
//! * [`Store::hash`] reads all rows that are kept, so it also notices rows that differ from what was once written.

use crc32c::{crc32c, crc32c_append};

use super::batch::Batch;
use super::error::ApplyError;
use super::revision::Revision;
use super::store::{LEASE_LEN, Store};
use crate::runtime::Disk;

/// A hash of the whole history, whatever of it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    pub(crate) fn change(&mut self, revision: Revision, row: &[u8]) {
        self.fold(revision.main as u64);
        self.fold((revision.sub as u64) << 32 | u64::from(crc32c(row)));
    }

    pub(crate) fn compaction(&mut self, revision: i64) {
        self.fold(!(revision as u64));
    }

    /// A lease is so from now on, as it is stored; or there is none.
    pub(crate) fn lease(&mut self, id: i64, now: Option<[u8; LEASE_LEN]>) {
        self.fold(!0);
        self.fold(id as u64);
        self.fold(now.map_or(!0, |now| u64::from(crc32c(&now))));
    }

    fn fold(&mut self, word: u64) {
        // An odd multiplier keeps every step reversible: two histories that differ once never fall together later by
        // the same changes.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The hash of all rows that are kept, up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// Comparable with another member's only if the revision and the compact revision are equal.
    pub hash: u32,
    /// Up to where rows were hashed.
    pub revision: i64,
    /// The compact revision then.
    pub compact_revision: i64,
}

impl<D: Disk> Batch<D> {
    /// The digest after the requests so far.
    pub fn digest(&self) -> Digest {
        self.state.digest
    }
}

impl<D: Disk> Store<D> {
    /// The digest of the history, with the revision and the compact revision that it belongs to.
    pub fn digest(&self) -> (Digest, i64, i64) {
        let state = self.inner.state();
        (state.digest, state.revision, state.compact_revision)
    }

    /// Hashes all rows that are kept, up to a revision; 0 stands for the current one. How far the deletion of compacted
    /// rows has come makes no difference.
    pub fn hash(&self, revision: i64) -> Result<KvHash, ApplyError> {
        self.inner.backend.check()?;
        let (at, compact_revision, kept, view) = {
            let visible = self.inner.visible();
            let at = visible.state.readable().resolve(revision)?;
            let compacted = visible.state.compact_revision;
            (at, compacted, visible.index.kept_up_to(compacted), visible.view(&self.inner.backend)?)
        };
        let mut kept = kept.into_iter().peekable();
        let mut hash = 0;
        let upto = Revision { main: at, sub: i64::MAX }.to_row_key();
        for row in view.rows.range(..=upto).map_err(|error| self.inner.database_error(error))? {
            let (key, row) = row.map_err(|error| self.inner.database_error(error))?;
            let key = key.value();
            let compacted = Revision::from_row_key(key).is_some_and(|revision| revision.main <= compact_revision);
            if compacted && kept.next_if(|kept| kept.to_row_key() == key).is_none() {
                continue;
            }
            hash = crc32c_append(hash, &key.to_le_bytes());
            hash = crc32c_append(hash, row.value());
        }
        Ok(KvHash { hash, revision: at, compact_revision })
    }
}
