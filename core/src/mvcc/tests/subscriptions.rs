//! Subscriptions to changes of keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

fn subscribe(store: &TestStore, key: &str, range_end: &str, next: i64) -> Subscriber {
    let mut subscriber = store.subscriber();
    subscriber.subscribe(1, key.to_owned().into(), range_end.to_owned().into(), next);
    subscriber
}

fn is_due(subscriber: &Subscriber) -> bool {
    subscriber.due().now_or_never().is_some()
}

async fn put_key(store: &TestStore, key: &str) -> i64 {
    apply(store, |batch| batch.put(&put(key, "v"))).await.unwrap().header.unwrap().revision
}

#[test]
fn a_commit_wakes_whom_it_concerns_and_nobody_else() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        let concerned = [("b", ""), ("a", "c"), ("b", "c"), ("b", "\0"), ("\0", "\0"), ("a\0", "bb")];
        let others = [("a", ""), ("a", "b"), ("c", "\0"), ("b\0", "d"), ("b", "b\0\0"), ("bb", "bc")];
        let next = store.revision() + 1;
        let subscribers = [&concerned[..], &others[..5], &others[5..]].concat();
        let subscribers: Vec<Subscriber> =
            subscribers.into_iter().map(|(key, range_end)| subscribe(&store, key, range_end, next)).collect();
        let mut waiting: Vec<_> = subscribers.iter().map(|subscriber| Box::pin(subscriber.due())).collect();
        assert!(!waiting.iter_mut().any(|due| due.as_mut().now_or_never().is_some()));
        let revision = put_key(&store, "b").await;
        let woken: Vec<bool> = waiting.iter_mut().map(|due| due.as_mut().now_or_never().is_some()).collect();
        let behind: Vec<bool> =
            subscribers.iter().map(|subscriber| subscriber.behind(i64::MIN, revision).is_some()).collect();
        // "b" up to "b\0\0" has the key itself.
        let expected = [true, true, true, true, true, true, false, false, false, false, true, false];
        assert_eq!((woken, behind), (expected.to_vec(), expected.to_vec()));
    });
}

#[test]
fn a_prefix_is_found_whatever_it_ends_with() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        let ranges: [(&[u8], &[u8]); 4] =
            [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\xff", b"b"), (b"\xff", b"\xff\xff")];
        let keys: [&[u8]; 5] = [b"a", b"a\xfe", b"a\xff", b"a\xff\xffz", b"\xff"];
        for key in keys {
            let mut subscriber = store.subscriber();
            for (id, (first, end)) in ranges.into_iter().enumerate() {
                subscriber.subscribe(id as i64, first.into(), end.into(), store.revision() + 1);
            }
            let request = PutRequest { key: key.into(), ..PutRequest::default() };
            apply(&store, |batch| batch.put(&request)).await.unwrap();
            let looked: Vec<i64> = subscriber.look(i64::MIN..=store.revision()).into_iter().map(|(id, _)| id).collect();
            let within = |id: &i64| KeyRange::new(ranges[*id as usize].0, ranges[*id as usize].1).contains(key);
            assert_eq!(looked, (0..4).filter(within).collect::<Vec<i64>>(), "{key:?}");
        }
        assert!(store.inner.subscriptions.is_empty());
    });
}

#[test]
fn whoever_nothing_concerns_moves_along_though_history_is_compacted() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        let quiet = subscribe(&store, "quiet", "", store.revision() + 1);
        for _ in 0..5 {
            put_key(&store, "loud").await;
        }
        apply(&store, |batch| batch.compact(&compaction(6))).await.unwrap();
        let revision = put_key(&store, "quiet").await;
        assert_eq!(quiet.behind(i64::MIN, store.revision()), Some(7..=revision));
    });
}

#[test]
fn the_past_is_looked_at_up_to_what_is_known_and_the_future_from_its_start_on() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        for _ in 0..3 {
            put_key(&store, "key").await;
        }
        let past = subscribe(&store, "key", "", 2);
        assert!(is_due(&past));
        assert_eq!(past.behind(i64::MIN, 4), Some(2..=4));
        assert_eq!(past.look(i64::MIN..=3), [(1, 2)]);
        assert_eq!(past.behind(i64::MIN, 4), Some(4..=4));
        assert_eq!((past.look(i64::MIN..=4), past.look(i64::MIN..=4)), (vec![(1, 4)], vec![]));
        assert_eq!(past.behind(i64::MIN, 4), None);

        let future = subscribe(&store, "key", "", 6);
        assert_eq!(put_key(&store, "key").await, 5);
        assert!(!is_due(&future) && future.behind(i64::MIN, 5).is_none());
        assert_eq!(put_key(&store, "key").await, 6);
        assert!(is_due(&future));
        assert_eq!(future.behind(i64::MIN, 6), Some(6..=6));
        assert_eq!(past.behind(i64::MIN, 6), Some(5..=6));
    });
}

#[test]
fn a_snapshot_concerns_everybody_from_where_it_found_the_store() {
    run(async {
        let sent = open(&MemoryDisk::default()).await;
        for _ in 0..5 {
            put_key(&sent, "key").await;
        }
        let store = open(&MemoryDisk::default()).await;
        put_key(&store, "key").await;
        let one = subscribe(&store, "other", "", 3);
        let range = subscribe(&store, "a", "\0", 2);
        let mut waiting = Box::pin(one.due());
        assert!(waiting.as_mut().now_or_never().is_none());
        super::snapshots::install(&store, super::snapshots::chunks(&sent, 4096)).await.unwrap();
        assert!(waiting.now_or_never().is_some() && is_due(&range));
        assert_eq!(one.behind(i64::MIN, 6), Some(3..=6));
        assert_eq!(range.behind(i64::MIN, 6), Some(2..=6));
    });
}

#[test]
fn a_snapshot_of_the_same_revision_concerns_nobody() {
    run(async {
        let sent = open(&MemoryDisk::default()).await;
        put_key(&sent, "key").await;
        let store = open(&MemoryDisk::default()).await;
        put_key(&store, "key").await;
        let quiet = subscribe(&store, "quiet", "", 3);
        super::snapshots::install(&store, super::snapshots::chunks(&sent, 4096)).await.unwrap();
        put_key(&store, "key").await;
        assert!(!is_due(&quiet) && quiet.behind(i64::MIN, 3).is_none());
    });
}

#[test]
fn those_who_come_from_the_past_are_told_apart() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        for _ in 0..5 {
            put_key(&store, "key").await;
        }
        let mut two = subscribe(&store, "key", "", 2);
        two.subscribe(2, "key".into(), Bytes::new(), 6);
        assert_eq!((two.behind(i64::MIN, 6), two.behind(4, 6)), (Some(2..=6), Some(6..=6)));
        assert_eq!(two.look(6..=6), [(2, 6)]);
        assert_eq!(two.look(i64::MIN..=6), [(1, 2)]);
    });
}

#[test]
fn what_has_ended_hears_nothing_and_leaves_nothing_behind() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        let mut two = subscribe(&store, "key", "", 2);
        two.subscribe(2, "a".into(), "\0".into(), 2);
        let dropped = subscribe(&store, "a", "\0", 2);
        assert!(!store.inner.subscriptions.is_empty());
        two.unsubscribe(2);
        drop(dropped);
        put_key(&store, "key").await;
        assert_eq!(two.first_behind(2), Some(1));
        assert_eq!(two.look(i64::MIN..=2), [(1, 2)]);
        two.unsubscribe(1);
        assert_eq!(two.behind(i64::MIN, 2), None);
        assert!(store.inner.subscriptions.is_empty());
    });
}

/// What is done to a store with a subscriber.
#[derive(Clone, Debug)]
enum Step {
    /// Changes that readers see at once: puts of keys, and deletions from a key on.
    Commit(Vec<(bool, usize)>),
    /// An end of a range: that many keys after its first; none: from there on.
    Subscribe {
        id: i64,
        key: usize,
        end: Option<usize>,
        back: i64,
    },
    Unsubscribe(i64),
    /// Looks at what is there to look at, up to so many revisions behind the first of it.
    Look(i64),
}

const KEYS: [&str; 5] = ["a", "a\0", "b", "ba", "c"];

fn step() -> impl Strategy<Value = Step> {
    let (id, key) = (0..4i64, 0..KEYS.len());
    let change = (proptest::bool::weighted(0.8), key.clone());
    prop_oneof![
        4 => proptest::collection::vec(change, 1..5).prop_map(Step::Commit),
        2 => (id.clone(), key, proptest::option::of(0..KEYS.len()), -3..3i64)
            .prop_map(|(id, key, end, back)| Step::Subscribe { id, key, end, back }),
        1 => id.prop_map(Step::Unsubscribe),
        2 => (0..4i64).prop_map(Step::Look),
    ]
}

/// A subscription as it should be.
struct Expected {
    key: Bytes,
    range_end: Bytes,
    next: i64,
    /// Revisions that concern it and that it has not looked at.
    owed: BTreeSet<i64>,
}

impl Expected {
    fn notice(&mut self, at: i64, changed: &[u8]) {
        if at >= self.next && KeyRange::new(&self.key, &self.range_end).contains(changed) {
            self.owed.insert(at);
        }
    }
}

proptest! {
    #[test]
    fn everything_that_concerns_a_subscription_is_looked_at(steps in proptest::collection::vec(step(), 1..60)) {
        run(async {
            let store = open(&MemoryDisk::default()).await;
            let mut subscriber = store.subscriber();
            let mut expected: BTreeMap<i64, Expected> = BTreeMap::new();
            let mut history: Vec<(i64, Bytes)> = Vec::new();
            for step in steps {
                match step {
                    Step::Commit(changes) => {
                        let before = store.revision();
                        let mut batch = store.begin().await.unwrap();
                        for (puts, key) in changes {
                            if puts {
                                batch.put(&put(KEYS[key], "v")).unwrap();
                            } else {
                                batch.delete_range(&delete(KEYS[key], "\0")).unwrap();
                            }
                        }
                        batch.commit().unwrap();
                        let piece = store.changes(before + 1..=i64::MAX, PieceLimit::default(), |_| false).unwrap();
                        for Change { kv, .. } in piece.changes {
                            expected.values_mut().for_each(|expected| expected.notice(kv.mod_revision, &kv.key));
                            history.push((kv.mod_revision, kv.key));
                        }
                    }
                    Step::Subscribe { id, key, end, back } => {
                        let range_end = match end {
                            None => "\0",
                            Some(0) => "",
                            Some(more) => KEYS.get(key + more).copied().unwrap_or("d"),
                        };
                        let (key, range_end) = (Bytes::from(KEYS[key]), Bytes::from(range_end));
                        let next = (store.revision() + 1 - back).max(1);
                        subscriber.unsubscribe(id);
                        subscriber.subscribe(id, key.clone(), range_end.clone(), next);
                        let mut subscription = Expected { key, range_end, next, owed: BTreeSet::new() };
                        history.iter().for_each(|(at, key)| subscription.notice(*at, key));
                        expected.insert(id, subscription);
                    }
                    Step::Unsubscribe(id) => {
                        subscriber.unsubscribe(id);
                        expected.remove(&id);
                    }
                    Step::Look(most) => {
                        let Some(behind) = subscriber.behind(i64::MIN, store.revision()) else { continue };
                        let upto = (behind.start() + most).min(store.revision());
                        for (id, next) in subscriber.look(i64::MIN..=upto) {
                            let subscription = expected.get_mut(&id).expect("it is subscribed");
                            assert!(subscription.owed.first().is_none_or(|first| next <= *first));
                            subscription.next = subscription.next.max(upto + 1);
                            subscription.owed.retain(|at| *at > upto);
                        }
                    }
                }
                let revision = store.revision();
                for (id, Expected { owed, .. }) in &expected {
                    let (Some(first), behind) = (owed.first(), subscriber.behind(i64::MIN, revision)) else { continue };
                    assert!(subscriber.is_behind(*id, revision), "{id} misses {owed:?}");
                    assert!(behind.is_some_and(|behind| behind.contains(first)), "{id} misses {owed:?}");
                }
            }
        });
    }
}
