//! When something changed.

use std::fmt;

/// The revision of a store in which nothing has ever been written, as in etcd.
pub(crate) const FIRST_REVISION: i64 = 1;

/// The compact revision of a store that was never compacted, as in etcd. Below 0, since a compaction at 0 is legal once.
pub(crate) const NEVER_COMPACTED: i64 = -1;

/// The moment of one change: `main` counts the requests that changed something, `sub` the changes within one request.
///
/// A request's changes become visible together, so clients only ever see `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The store's revision after the request.
    pub main: i64,
    /// The change's place within the request, from 0.
    pub sub: i64,
}

impl Revision {
    /// As a row's key. Revisions are not negative, so keys sort as revisions do.
    pub(crate) fn to_row_key(self) -> u128 {
        debug_assert!(self.main >= 0 && self.sub >= 0, "{self} has a negative part");
        ((self.main as u128) << 64) | self.sub as u128
    }

    /// The revision that has this row key; `None` if none has.
    pub(crate) fn from_row_key(key: u128) -> Option<Revision> {
        let main = i64::try_from(key >> 64).ok()?;
        let sub = i64::try_from(key & u128::from(u64::MAX)).ok()?;
        Some(Revision { main, sub })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_sort_as_revisions() {
        let ascending = [(0, 0), (0, 9), (1, 0), (1, 1), (2, 0), (i64::MAX, 0), (i64::MAX, i64::MAX)];
        let keys = ascending.map(|(main, sub)| Revision { main, sub }.to_row_key());
        assert!(keys.is_sorted());
        assert_eq!(keys.map(Revision::from_row_key), ascending.map(|(main, sub)| Some(Revision { main, sub })));
        assert_eq!(Revision::from_row_key(u128::MAX), None);
    }
}
