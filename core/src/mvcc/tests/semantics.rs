//! The answers that etcd's clients rely on.

use request_op::Request::*;

use super::*;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::mvccpb::KeyValue;

/// `a` put at 2 and 5, `b` put at 3, deleted at 6, put at 7, `c` put at 4.
async fn example() -> TestStore {
    let store = open(&MemoryDisk::default()).await;
    for (key, value) in [("a", "1"), ("b", "9"), ("c", "5"), ("a", "3")] {
        apply(&store, |batch| batch.put(&put(key, value))).await.unwrap();
    }
    apply(&store, |batch| batch.delete_range(&delete("b", ""))).await.unwrap();
    apply(&store, |batch| batch.put(&put("b", "4"))).await.unwrap();
    store
}

fn keys(response: &RangeResponse) -> String {
    response.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

fn read(store: &TestStore, request: RangeRequest) -> RangeResponse {
    store.range(&request).map_err(refusal).unwrap()
}

fn all() -> RangeRequest {
    range("\0", "\0")
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    let header = header.as_ref().unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
    header.revision
}

#[test]
fn a_fresh_store() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        assert_eq!((store.revision(), store.compact_revision()), (1, -1));
        let response = read(&store, all());
        assert_eq!((revision(&response.header), response.count, response.kvs.len()), (1, 0, 0));
        assert_eq!(
            refusal(store.range(&RangeRequest { revision: 2, ..all() }).unwrap_err()),
            Refusal::FutureRevision { requested: 2, current: 1 }
        );
    });
}

#[test]
fn ranges() {
    run(async {
        let store = example().await;
        for (key, end, expected) in [
            ("a", "", "a"),
            ("x", "", ""),
            ("a", "b", "a"),
            ("a", "c", "ab"),
            ("b", "\0", "bc"),
            ("\0", "\0", "abc"),
            ("b", "b", ""),
            ("c", "a", ""),
        ] {
            let response = read(&store, range(key, end));
            assert_eq!(keys(&response), expected, "[{key:?}, {end:?})");
            assert_eq!(response.count, expected.len() as i64);
            assert_eq!(revision(&response.header), 7);
        }
    });
}

#[test]
fn range_options() {
    use SortOrder::*;
    use SortTarget::*;
    run(async {
        let store = example().await;
        let sorted = |target: SortTarget, order: SortOrder| RangeRequest {
            sort_target: target.into(),
            sort_order: order.into(),
            ..all()
        };
        // Values: a 3, b 4, c 5. Versions: a 2, b 1, c 1. Created: a 2, b 7, c 4. Modified: a 5, b 7, c 4.
        for (what, request, expected, more) in [
            ("limit", RangeRequest { limit: 2, ..all() }, "ab", true),
            ("limit of all", RangeRequest { limit: 3, ..all() }, "abc", false),
            ("negative limit", RangeRequest { limit: -1, ..all() }, "abc", false),
            ("key, descending", sorted(Key, Descend), "cba", false),
            ("version", sorted(Version, Ascend), "bca", false),
            ("version, descending", sorted(Version, Descend), "abc", false),
            ("create", sorted(Create, Ascend), "acb", false),
            ("mod, descending", sorted(Mod, Descend), "bac", false),
            ("value, descending", sorted(Value, Descend), "cba", false),
            ("mod, order open", sorted(Mod, None), "cab", false),
            ("mod, limit last", RangeRequest { limit: 1, ..sorted(Mod, Ascend) }, "c", true),
            ("mod, order open, limit first", RangeRequest { limit: 1, ..sorted(Mod, None) }, "a", true),
            ("value, limit last", RangeRequest { limit: 1, ..sorted(Value, Descend) }, "c", true),
            ("min mod", RangeRequest { min_mod_revision: 5, ..all() }, "ab", false),
            ("max mod", RangeRequest { max_mod_revision: 5, ..all() }, "ac", false),
            ("min create", RangeRequest { min_create_revision: 4, ..all() }, "bc", false),
            ("max create", RangeRequest { max_create_revision: 4, ..all() }, "ac", false),
            ("filter, limit last", RangeRequest { min_create_revision: 4, limit: 1, ..all() }, "b", true),
            ("filter, limit of all", RangeRequest { min_create_revision: 7, limit: 1, ..all() }, "b", false),
            ("count only", RangeRequest { count_only: true, limit: 1, ..all() }, "", false),
        ] {
            let response = read(&store, request);
            assert_eq!((&keys(&response)[..], response.more), (expected, more), "{what}");
            assert_eq!(response.count, 3, "{what}: the count ignores limits and filters");
        }
        let response = read(&store, RangeRequest { keys_only: true, ..sorted(Value, Descend) });
        assert_eq!(keys(&response), "cba");
        assert!(response.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision != 0));
    });
}

#[test]
fn history() {
    run(async {
        let store = example().await;
        let at = |revision| read(&store, RangeRequest { revision, ..all() });
        for (revision_read, expected) in [(1, ""), (2, "a"), (4, "abc"), (6, "ac"), (7, "abc"), (0, "abc"), (-3, "abc")]
        {
            let response = at(revision_read);
            assert_eq!(keys(&response), expected, "at {revision_read}");
            assert_eq!(revision(&response.header), 7, "the header has the current revision");
        }
        assert_eq!(at(4).kvs[1].value, "9");
        let kv = |key: &'static str, create_revision, mod_revision, version, value: &'static str| KeyValue {
            key: key.into(),
            create_revision,
            mod_revision,
            version,
            value: value.into(),
            lease: 0,
        };
        assert_eq!(at(7).kvs, [kv("a", 2, 5, 2, "3"), kv("b", 7, 7, 1, "4"), kv("c", 4, 4, 1, "5")]);
    });
}

#[test]
fn puts() {
    run(async {
        let store = example().await;
        let with_previous = PutRequest { prev_kv: true, ..put("a", "6") };
        let response = apply(&store, |batch| batch.put(&with_previous)).await.unwrap();
        assert_eq!(revision(&response.header), 8);
        assert_eq!(response.prev_kv.unwrap().value, "3");
        let new = PutRequest { prev_kv: true, ..put("new", "1") };
        assert_eq!(apply(&store, |batch| batch.put(&new)).await.unwrap().prev_kv, None);

        let keep_value = PutRequest { ignore_value: true, ..put("a", "") };
        apply(&store, |batch| batch.put(&keep_value)).await.unwrap();
        let kv = read(&store, range("a", "")).kvs.remove(0);
        assert_eq!((&kv.value[..], kv.version, kv.mod_revision), (&b"6"[..], 4, 10));

        let missing = Refusal::KeyNotFound("missing".into());
        for request in [
            PutRequest { ignore_value: true, ..put("missing", "") },
            PutRequest { ignore_lease: true, ..put("missing", "1") },
        ] {
            assert_eq!(apply(&store, |batch| batch.put(&request)).await.unwrap_err(), missing);
        }
        let leased = PutRequest { lease: 5, ..put("a", "1") };
        assert_eq!(apply(&store, |batch| batch.put(&leased)).await.unwrap_err(), Refusal::LeaseNotFound(5));
        assert_eq!(store.revision(), 10);
    });
}

#[test]
fn deletions() {
    run(async {
        let store = example().await;
        let nothing = apply(&store, |batch| batch.delete_range(&delete("x", ""))).await.unwrap();
        assert_eq!((revision(&nothing.header), nothing.deleted), (7, 0));
        let request = DeleteRangeRequest { prev_kv: true, ..delete("b", "\0") };
        let response = apply(&store, |batch| batch.delete_range(&request)).await.unwrap();
        assert_eq!((revision(&response.header), response.deleted), (8, 2));
        let values: Vec<_> = response.prev_kvs.iter().map(|kv| kv.value.clone()).collect();
        assert_eq!(values, ["4", "5"]);
        assert_eq!(keys(&read(&store, all())), "a");
        assert_eq!(keys(&read(&store, RangeRequest { revision: 7, ..all() })), "abc");
    });
}

fn compare(key: &str, result: CompareResult, target: CompareTarget, operand: TargetUnion) -> Compare {
    Compare {
        key: key.to_owned().into(),
        range_end: Default::default(),
        result: result.into(),
        target: target.into(),
        target_union: Some(operand),
    }
}

#[test]
fn compares() {
    use CompareResult::*;
    use CompareTarget as Target;
    use TargetUnion::*;
    run(async {
        let store = example().await;
        let value = |value: &'static str| Value(value.into());
        let ranged = |compare: Compare, end: &'static str| Compare { range_end: end.into(), ..compare };
        let no_result = |compare| Compare { result: 4, ..compare };
        let no_target = |compare| Compare { target: -1, ..compare };
        for (what, compare, holds) in [
            ("version", compare("a", Equal, Target::Version, Version(2)), true),
            ("version greater", compare("a", Greater, Target::Version, Version(1)), true),
            ("not greater", compare("a", Greater, Target::Version, Version(2)), false),
            ("create", compare("a", Equal, Target::Create, CreateRevision(2)), true),
            ("create less", compare("b", Less, Target::Create, CreateRevision(7)), false),
            ("mod", compare("a", Less, Target::Mod, ModRevision(6)), true),
            ("not equal", compare("a", NotEqual, Target::Mod, ModRevision(5)), false),
            ("value", compare("a", Equal, Target::Value, value("3")), true),
            ("value less", compare("a", Less, Target::Value, value("30")), true),
            ("lease", compare("a", Equal, Target::Lease, Lease(0)), true),
            ("operand of another target counts as zero", compare("a", Greater, Target::Mod, Version(100)), true),
            ("missing key, zero version", compare("x", Equal, Target::Version, Version(0)), true),
            ("missing key, zero create", compare("x", Less, Target::Create, CreateRevision(1)), true),
            ("missing key, lease", compare("x", Greater, Target::Lease, Lease(0)), false),
            ("missing key, value", compare("x", Equal, Target::Value, value("")), false),
            ("missing key, unequal value", compare("x", NotEqual, Target::Value, value("1")), false),
            ("every key", ranged(compare("\0", Greater, Target::Mod, ModRevision(3)), "\0"), true),
            ("not every key", ranged(compare("\0", Greater, Target::Mod, ModRevision(4)), "\0"), false),
            ("values of a range", ranged(compare("a", Less, Target::Value, value("5")), "c"), true),
            ("no key, zero", ranged(compare("x", Equal, Target::Mod, ModRevision(0)), "z"), true),
            ("no key, value", ranged(compare("x", NotEqual, Target::Value, value("1")), "z"), false),
            ("no such result", no_result(compare("a", Equal, Target::Version, Version(7))), true),
            ("no such result, missing key", no_result(compare("x", Equal, Target::Version, Version(7))), true),
            ("no such result, missing value", no_result(compare("x", Equal, Target::Value, value("1"))), false),
            ("no such target equals", no_target(compare("a", Equal, Target::Version, Version(7))), true),
            ("no such target is not greater", no_target(compare("a", Greater, Target::Version, Version(1))), false),
            ("no such target, missing key", no_target(compare("x", Less, Target::Version, Version(1))), false),
        ] {
            let request = TxnRequest { compare: vec![compare], ..Default::default() };
            let response = apply(&store, |batch| batch.txn(&request)).await.unwrap();
            assert_eq!(response.succeeded, holds, "{what}");
            assert_eq!(revision(&response.header), 7, "a txn that writes nothing keeps the revision");
        }
    });
}

#[test]
fn a_txn_is_one_revision() {
    run(async {
        let store = example().await;
        let request = TxnRequest {
            compare: vec![],
            success: vec![
                op(RequestRange(all())),
                op(RequestPut(put("d", "1"))),
                op(RequestDeleteRange(delete("a", "c"))),
                op(RequestRange(all())),
                op(RequestTxn(TxnRequest {
                    // Decided before the txn, in which there was no `d`.
                    compare: vec![compare("d", CompareResult::Equal, CompareTarget::Version, TargetUnion::Version(0))],
                    success: vec![op(RequestPut(put("e", "2"))), op(RequestRange(range("d", "\0")))],
                    failure: vec![],
                })),
                op(RequestDeleteRange(delete("x", ""))),
            ],
            failure: vec![op(RequestPut(put("never", "")))],
        };
        let response = apply(&store, |batch| batch.txn(&request)).await.unwrap();
        assert!(response.succeeded);
        assert_eq!(revision(&response.header), 8);
        let mut responses = response.responses.into_iter().map(|response| response.response.unwrap());
        let mut next = || responses.next().unwrap();
        use response_op::Response::*;
        let ResponseRange(before) = next() else { panic!() };
        assert_eq!((keys(&before), revision(&before.header)), ("abc".into(), 7));
        let ResponsePut(put) = next() else { panic!() };
        assert_eq!(revision(&put.header), 8);
        let ResponseDeleteRange(deleted) = next() else { panic!() };
        assert_eq!((deleted.deleted, revision(&deleted.header)), (2, 8));
        let ResponseRange(after) = next() else { panic!() };
        assert_eq!((keys(&after), revision(&after.header)), ("cd".into(), 8));
        let ResponseTxn(nested) = next() else { panic!() };
        assert!(nested.succeeded);
        assert_eq!(nested.header, Some(ResponseHeader::default()), "etcd leaves the headers of nested txns empty");
        let Some(ResponseRange(within)) = &nested.responses[1].response else { panic!() };
        assert_eq!(keys(within), "de");
        let ResponseDeleteRange(none) = next() else { panic!() };
        assert_eq!((none.deleted, revision(&none.header)), (0, 8));

        assert_eq!(store.revision(), 8);
        assert_eq!(keys(&read(&store, all())), "cde");
        assert!(read(&store, range("d", "\0")).kvs.iter().all(|kv| (kv.create_revision, kv.mod_revision) == (8, 8)));
        assert_eq!(keys(&read(&store, RangeRequest { revision: 7, ..all() })), "abc");
    });
}

/// etcd #18667: members that found the refusal in the middle of applying were left with different states.
#[test]
fn a_refused_txn_writes_nothing() {
    run(async {
        let store = example().await;
        apply(&store, |batch| batch.compact(&compaction(5))).await.unwrap();
        let at = |revision| op(RequestRange(RangeRequest { revision, ..all() }));
        let nested = |operation| op(RequestTxn(TxnRequest { success: vec![operation], ..Default::default() }));
        let ignoring = |key| op(RequestPut(PutRequest { ignore_value: true, ..put(key, "") }));
        let compacted = |requested| Refusal::Compacted { requested, compacted: 5 };
        let missing = |key: &'static str| Refusal::KeyNotFound(key.into());
        for (operation, expected) in [
            (at(4), compacted(4)),
            (at(-1), compacted(-1)),
            (nested(at(1)), compacted(1)),
            // The txn's own revision does not exist before it.
            (at(8), Refusal::FutureRevision { requested: 8, current: 7 }),
            (ignoring("x"), missing("x")),
            // What the txn itself creates does not count.
            (ignoring("first"), missing("first")),
            (nested(ignoring("x")), missing("x")),
            // Was there before, but the txn deletes it first.
            (ignoring("c"), missing("c")),
            (op(RequestPut(PutRequest { lease: 3, ..put("z", "") })), Refusal::LeaseNotFound(3)),
        ] {
            let success = vec![op(RequestPut(put("first", "1"))), op(RequestDeleteRange(delete("c", ""))), operation];
            let request = TxnRequest { success, ..Default::default() };
            let digest = store.digest();
            assert_eq!(apply(&store, |batch| batch.txn(&request)).await.unwrap_err(), expected);
            assert_eq!(store.digest(), digest);
            assert_eq!(keys(&read(&store, all())), "abc");
        }
        let other_branch = TxnRequest { failure: vec![at(1)], ..Default::default() };
        apply(&store, |batch| batch.txn(&other_branch)).await.unwrap();
        apply(&store, |batch| batch.put(&put("first", "2"))).await.unwrap();
        assert_eq!(read(&store, range("first", "")).kvs[0].version, 1, "no trace of the refused puts");
    });
}

#[test]
fn a_txn_is_refused_for_its_puts_before_its_ranges() {
    run(async {
        let store = example().await;
        let future = op(RequestRange(RangeRequest { revision: 9, ..all() }));
        let missing = op(RequestPut(PutRequest { ignore_value: true, ..put("x", "") }));
        let nested = |request| op(RequestTxn(TxnRequest { success: vec![request], ..Default::default() }));
        for success in [vec![future.clone(), missing.clone()], vec![future, nested(missing)]] {
            let request = TxnRequest { success, ..Default::default() };
            let refusal = apply(&store, |batch| batch.txn(&request)).await.unwrap_err();
            assert_eq!(refusal, Refusal::KeyNotFound("x".into()));
        }
    });
}

#[test]
fn compactions() {
    run(async {
        let store = example().await;
        let compact = async |revision| apply(&store, |batch| batch.compact(&compaction(revision))).await;
        assert_eq!(compact(8).await.unwrap_err(), Refusal::FutureRevision { requested: 8, current: 7 });
        assert_eq!(revision(&compact(4).await.unwrap().header), 7);
        for revision in [4, 3, 0, -2] {
            let compacted = Refusal::Compacted { requested: revision, compacted: 4 };
            assert_eq!(compact(revision).await.unwrap_err(), compacted);
        }
        assert_eq!((store.revision(), store.compact_revision()), (7, 4));
        let at = |revision| store.range(&RangeRequest { revision, ..all() }).map_err(refusal);
        assert_eq!(at(3).unwrap_err(), Refusal::Compacted { requested: 3, compacted: 4 });
        assert_eq!(keys(&at(4).unwrap()), "abc", "the compact revision itself can be read");

        compact(7).await.unwrap();
        let (before, whole) = (store.hash(0).unwrap(), at(7).unwrap());
        while store.compaction_step(1).await.unwrap() {}
        assert!(!store.is_compacting().await.unwrap());
        assert_eq!(store.hash(0).unwrap(), before, "what is being deleted does not count");
        assert_eq!(at(7).unwrap(), whole);
        assert_eq!(refusal(store.hash(6).unwrap_err()), Refusal::Compacted { requested: 6, compacted: 7 });
        apply(&store, |batch| batch.put(&put("a", "7"))).await.unwrap();
        assert_eq!(read(&store, range("a", "")).kvs[0].version, 3, "the version survives compaction");
    });
}

#[test]
fn batches() {
    run(async {
        let store = example().await;
        let mut batch = store.begin().await.unwrap();
        batch.put(&put("d", "1")).unwrap();
        batch.delete_range(&delete("a", "")).unwrap();
        batch.put(&put("d", "2")).unwrap();
        assert_eq!(keys(&batch.range(&all()).unwrap()), "bcd", "a batch sees its own changes");
        assert_eq!(keys(&batch.range(&RangeRequest { revision: 8, ..all() }).unwrap()), "abcd");
        assert_eq!(batch.range(&range("d", "")).unwrap().kvs[0].version, 2);
        assert_eq!(keys(&read(&store, all())), "abc", "others do not");
        assert_eq!(store.revision(), 7);
        drop(batch);

        let mut batch = store.begin().await.unwrap();
        assert_eq!(keys(&batch.range(&all()).unwrap()), "abc", "a dropped batch leaves nothing");
        batch.put(&put("d", "3")).unwrap();
        batch.compact(&compaction(8)).unwrap();
        assert!(batch.range(&RangeRequest { revision: 7, ..all() }).is_err());
        batch.set_meta("applied", b"9");
        assert_eq!(store.meta("applied").unwrap(), None);
        batch.commit().unwrap();
        assert_eq!((store.revision(), store.compact_revision()), (8, 8));
        assert_eq!(read(&store, range("d", "")).kvs[0].version, 1);
        assert_eq!(store.meta("applied").unwrap().unwrap(), "9");
    });
}
