//! The leases that all members agree on: who was granted what, and which keys go with it.
//!
//! When a lease ends is not said here: that is for the leader's clock ([`lease`](crate::lease)), and it takes effect
//! as an entry of the log like everything else.

use bytes::Bytes;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// For how long it was granted, in seconds.
    pub ttl: i64,
    /// The place in the log of its grant, which tells it from earlier and later leases of its number.
    pub granted: u64,
    /// What was left of that when it was noted last, in seconds; 0 if it was not noted since it was renewed.
    pub rest: i64,
    keys: RedBlackTreeSetSync<Bytes>,
}

impl Lease {
    /// A lease without keys.
    pub(crate) fn new(ttl: i64, granted: u64, rest: i64) -> Lease {
        Lease { ttl, granted, rest, keys: RedBlackTreeSetSync::new_sync() }
    }

    /// The keys that go with it, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }

    /// What a leader that takes over has to give it, in seconds.
    pub fn remaining(&self) -> i64 {
        if self.rest > 0 { self.rest } else { self.ttl }
    }
}

/// All leases. A copy costs nothing, and shares what it has in common.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    granted: RedBlackTreeMapSync<i64, Lease>,
    /// The lease of each key that has one.
    attached: RedBlackTreeMapSync<Bytes, i64>,
}

impl Leases {
    /// The lease of a number.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.granted.get(&id)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.granted.iter().map(|(id, lease)| (*id, lease))
    }

    /// Those from a number on.
    pub(crate) fn from(&self, id: i64) -> impl Iterator<Item = (i64, &Lease)> {
        self.granted.range(id..).map(|(id, lease)| (*id, lease))
    }

    /// Grants a lease that there is not yet, or replaces it.
    pub(crate) fn grant(&mut self, id: i64, lease: Lease) {
        self.granted.insert_mut(id, lease);
    }

    /// Takes a lease away, whose keys have been deleted.
    pub(crate) fn revoke(&mut self, id: i64) {
        self.granted.remove_mut(&id);
    }

    /// Notes what is left of a lease; 0 takes that back. `false` if there is no such lease.
    pub(crate) fn note_rest(&mut self, id: i64, granted: u64, rest: i64) -> bool {
        match self.granted.get_mut(&id) {
            Some(lease) if lease.granted == granted => {
                lease.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A key was put with a lease, or without one: 0. A deletion leaves a key without one, too.
    pub(crate) fn put(&mut self, key: &Bytes, id: i64) {
        let before = self.attached.get(key).copied().unwrap_or(0);
        if before == id {
            return;
        }
        if before != 0 {
            self.attached.remove_mut(key);
            if let Some(lease) = self.granted.get_mut(&before) {
                lease.keys.remove_mut(key);
            }
        }
        if id != 0 {
            // A copy: the caller's key may be a slice of a whole request.
            let key = Bytes::copy_from_slice(key);
            if let Some(lease) = self.granted.get_mut(&id) {
                lease.keys.insert_mut(key.clone());
            }
            self.attached.insert_mut(key, id);
        }
    }

    /// A key whose lease does not exist, if there is any.
    pub(crate) fn orphan(&self) -> Option<(&Bytes, i64)> {
        let mut attached = self.attached.iter().map(|(key, id)| (key, *id));
        attached.find(|(_, id)| !self.granted.contains_key(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(leases: &Leases, id: i64) -> Vec<&[u8]> {
        leases.get(id).expect("it was granted").keys().map(|key| &key[..]).collect()
    }

    #[test]
    fn a_key_goes_with_the_lease_of_its_last_put() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let mut leases = Leases::default();
        leases.grant(1, Lease::new(10, 5, 0));
        leases.grant(2, Lease::new(10, 5, 0));
        leases.put(&b, 1);
        leases.put(&a, 1);
        assert_eq!(keys(&leases, 1), [b"a", b"b"]);
        let before = leases.clone();
        leases.put(&a, 2);
        leases.put(&b, 0);
        assert_eq!((keys(&leases, 1), keys(&leases, 2)), (vec![], vec![&b"a"[..]]));
        assert_eq!(keys(&before, 1), [b"a", b"b"], "a copy stays as it was");
        leases.revoke(2);
        assert_eq!(leases.orphan(), Some((&a, 2)));
        leases.put(&a, 0);
        assert_eq!(leases.orphan(), None);
    }

    #[test]
    fn what_is_left_is_the_whole_until_it_is_noted() {
        let mut leases = Leases::default();
        leases.grant(1, Lease::new(10, 5, 0));
        assert!(leases.note_rest(1, 5, 4) && !leases.note_rest(2, 5, 4));
        assert!(!leases.note_rest(1, 6, 3), "that is another lease of the number");
        assert_eq!(leases.get(1).map(Lease::remaining), Some(4));
        leases.note_rest(1, 5, 0);
        assert_eq!(leases.get(1).map(Lease::remaining), Some(10));
    }
}
