//! Which keys a request means.

use std::ops::Bound;

/// The ends of a range in an ordered map.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The keys that a pair of `key` and `range_end` stands for, in etcd's convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRange<'a> {
    /// No end: the key itself.
    One(&'a [u8]),
    /// From the first up to, but without, the second. Nothing, if the second is not greater.
    Between(&'a [u8], &'a [u8]),
    /// An end of one zero byte: the key and all that are greater.
    From(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            end => KeyRange::Between(key, end),
        }
    }

    /// As bounds for an ordered map; `None` if no key can be in it, which such maps answer with a panic.
    pub(crate) fn bounds(self) -> Option<Bounds<'a>> {
        match self {
            KeyRange::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            KeyRange::Between(key, end) if key < end => Some((Bound::Included(key), Bound::Excluded(end))),
            KeyRange::Between(..) => None,
            KeyRange::From(key) => Some((Bound::Included(key), Bound::Unbounded)),
        }
    }

    /// Whether a key is in it.
    pub(crate) fn contains(self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::Between(first, end) => first <= key && key < end,
            KeyRange::From(first) => first <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn etcds_convention() {
        let keys: BTreeMap<Bytes, ()> =
            ["\0", "a", "a\0", "b", "c"].map(|key| (Bytes::from_static(key.as_bytes()), ())).into();
        let within = |key: &str, end: &str| -> Vec<String> {
            let range = KeyRange::new(key.as_bytes(), end.as_bytes());
            let contained: Vec<&Bytes> = keys.keys().filter(|key| range.contains(key)).collect();
            let found: Vec<&Bytes> = range
                .bounds()
                .map_or(Vec::new(), |bounds| keys.range::<[u8], _>(bounds).map(|(key, ())| key).collect());
            assert_eq!(contained, found);
            found.into_iter().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
        };
        assert_eq!(within("a", ""), ["a"]);
        assert_eq!(within("a", "b"), ["a", "a\0"]);
        assert_eq!(within("a", "a\0"), ["a"]);
        assert_eq!(within("b", "\0"), ["b", "c"]);
        assert_eq!(within("\0", "\0"), ["\0", "a", "a\0", "b", "c"]);
        assert_eq!(within("b", "b"), [""; 0]);
        assert_eq!(within("c", "a"), [""; 0]);
    }
}
