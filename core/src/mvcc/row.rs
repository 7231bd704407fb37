//! A change as it is stored.
//!
//! ```text
//!  key    u128: main revision << 64 | sub revision
//!  value  kind u8 | key length u32 | key                                                     kind 0: tombstone
//!         kind u8 | key length u32 | key | create u64 | version u64 | lease u64 | value      kind 1: put
//! ```
//!
//! Numbers are little-endian. A row's modification revision is the main part of its key.

use bytes::{Buf, Bytes};

const TOMBSTONE: u8 = 0;
const PUT: u8 = 1;
const KEY_AT: usize = 5;
const PUT_FIELDS: usize = 24;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Bytes,
    pub(crate) kind: RowKind,
}

/// What was done to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    Put { create_revision: i64, version: i64, lease: i64, value: Bytes },
    Tombstone,
}

impl Row {
    pub(crate) fn encode_put(key: &[u8], create_revision: i64, version: i64, lease: i64, value: &[u8]) -> Bytes {
        let mut row = Vec::with_capacity(KEY_AT + key.len() + PUT_FIELDS + value.len());
        encode_key(&mut row, PUT, key);
        row.extend_from_slice(&create_revision.to_le_bytes());
        row.extend_from_slice(&version.to_le_bytes());
        row.extend_from_slice(&lease.to_le_bytes());
        row.extend_from_slice(value);
        row.into()
    }

    pub(crate) fn encode_tombstone(key: &[u8]) -> Bytes {
        let mut row = Vec::with_capacity(KEY_AT + key.len());
        encode_key(&mut row, TOMBSTONE, key);
        row.into()
    }

    /// Reads a row; key and value are slices of it. `None` if it is none.
    pub(crate) fn decode(mut row: Bytes) -> Option<Row> {
        let kind = row.try_get_u8().ok()?;
        let key_len = usize::try_from(row.try_get_u32_le().ok()?).ok()?;
        if row.len() < key_len {
            return None;
        }
        let key = row.split_to(key_len);
        let kind = match kind {
            TOMBSTONE if row.is_empty() => RowKind::Tombstone,
            PUT => RowKind::Put {
                create_revision: row.try_get_i64_le().ok()?,
                version: row.try_get_i64_le().ok()?,
                lease: row.try_get_i64_le().ok()?,
                value: row,
            },
            _ => return None,
        };
        Some(Row { key, kind })
    }
}

fn encode_key(row: &mut Vec<u8>, kind: u8, key: &[u8]) {
    row.push(kind);
    let len = u32::try_from(key.len()).expect("a request, and so a key, is far smaller than 4 GiB");
    row.extend_from_slice(&len.to_le_bytes());
    row.extend_from_slice(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_and_damage_does_not_panic() {
        let put = Row::encode_put(b"key", 3, 2, 7, b"value");
        let kind = RowKind::Put { create_revision: 3, version: 2, lease: 7, value: Bytes::from_static(b"value") };
        assert_eq!(Row::decode(put.clone()), Some(Row { key: Bytes::from_static(b"key"), kind }));

        let tombstone = Row::encode_tombstone(b"key");
        assert_eq!(Row::decode(tombstone.clone()).unwrap().kind, RowKind::Tombstone);

        for len in 0..KEY_AT + 3 + PUT_FIELDS {
            assert_eq!(Row::decode(put.slice(..len)), None, "cut to {len} bytes");
        }
        for len in 0..tombstone.len() {
            assert_eq!(Row::decode(tombstone.slice(..len)), None, "cut to {len} bytes");
        }
        assert_eq!(Row::decode(Bytes::from_static(&[9, 0, 0, 0, 0])), None);
    }
}
