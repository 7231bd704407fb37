//! The specification, held against what etcd documents.

use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::etcdserverpb::{
    Compare, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op, response_op,
};

use super::*;

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: b(key), value: b(value), ..Default::default() }
}

fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: b(key), range_end: b(end), prev_kv: true }
}

fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: b(key), range_end: b(end), ..Default::default() }
}

fn store(puts: &[(&str, &str)]) -> Kv {
    let mut kv = Kv::new();
    for (key, value) in puts {
        kv.apply(&Request::Put(put(key, value))).unwrap();
    }
    kv
}

fn read(kv: &mut Kv, request: RangeRequest) -> RangeResponse {
    match kv.apply(&Request::Range(request)).unwrap() {
        Response::Range(response) => response,
        other => panic!("{other:?}"),
    }
}

fn keys(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

fn txn(kv: &mut Kv, request: TxnRequest) -> TxnResponse {
    match kv.apply(&Request::Txn(request)).unwrap() {
        Response::Txn(response) => response,
        other => panic!("{other:?}"),
    }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(key: &str, result: CompareResult, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        key: b(key),
        result: result as i32,
        target: target as i32,
        target_union: Some(union),
        range_end: Bytes::new(),
    }
}

#[test]
fn a_key_is_counted_from_its_creation() {
    let mut kv = store(&[("a", "1"), ("a", "2")]);
    let response = read(&mut kv, range("a", ""));
    let a = &response.kvs[0];
    assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));
    kv.apply(&Request::DeleteRange(delete("a", ""))).unwrap();
    assert_eq!(read(&mut kv, range("a", "")).count, 0);
    kv.apply(&Request::Put(put("a", "3"))).unwrap();
    let response = read(&mut kv, range("a", ""));
    assert_eq!((response.kvs[0].create_revision, response.kvs[0].version), (5, 1));
}

#[test]
fn ends_of_a_range() {
    let mut kv = store(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(keys(&read(&mut kv, range("a", "c"))), ["a", "b"]);
    assert_eq!(keys(&read(&mut kv, range("b", "\0"))), ["b", "c"]);
    assert_eq!(keys(&read(&mut kv, range("\0", "\0"))), ["a", "b", "c"]);
    assert_eq!(keys(&read(&mut kv, range("b", "b"))), [""; 0]);
    assert_eq!(keys(&read(&mut kv, range("c", "a"))), [""; 0]);
}

#[test]
fn the_limit_is_cut_last_and_count_heeds_nothing() {
    let mut kv = store(&[("a", "3"), ("b", "2"), ("c", "1"), ("d", "0")]);
    let response = read(&mut kv, RangeRequest { limit: 2, min_mod_revision: 3, ..range("a", "\0") });
    assert_eq!((keys(&response), response.more, response.count), (vec!["b".into(), "c".into()], true, 4));
    let by_value = RangeRequest { limit: 2, sort_target: SortTarget::Value as i32, ..range("a", "\0") };
    let ascending = RangeRequest { sort_order: SortOrder::Ascend as i32, ..by_value.clone() };
    assert_eq!(keys(&read(&mut kv, ascending)), ["d", "c"]);
    // Without an order, etcd reads one key beyond the limit, in key order, and sorts those.
    let response = read(&mut kv, by_value);
    assert_eq!((keys(&response), response.more, response.count), (vec!["c".into(), "b".into()], true, 4));
    let response = read(&mut kv, RangeRequest { sort_order: SortOrder::Descend as i32, ..range("a", "\0") });
    assert_eq!(keys(&response), ["d", "c", "b", "a"]);
    let response = read(&mut kv, RangeRequest { count_only: true, limit: 1, ..range("a", "\0") });
    assert_eq!((response.kvs.len(), response.more, response.count), (0, false, 4));
    let response = read(&mut kv, RangeRequest { keys_only: true, max_create_revision: 2, ..range("a", "\0") });
    assert_eq!((keys(&response), response.kvs[0].value.len(), response.count), (vec!["a".into()], 0, 4));
}

#[test]
fn a_past_revision_reads_the_past_under_the_current_header() {
    let mut kv = store(&[("a", "1"), ("a", "2"), ("b", "3")]);
    let response = read(&mut kv, RangeRequest { revision: 2, ..range("a", "\0") });
    assert_eq!((keys(&response), response.kvs[0].version), (vec!["a".into()], 1));
    assert_eq!(response.header.unwrap().revision, 4);
}

#[test]
fn a_compacted_revision_is_refused_below_its_bound() {
    let mut kv = store(&[("a", "1"), ("a", "2"), ("b", "3")]);
    let compact = |revision| Request::Compact(CompactionRequest { revision, physical: false });
    let refused = |kv: &mut Kv, request: &Request| kv.apply(request).unwrap_err().iter().collect::<Vec<_>>();
    assert_eq!(refused(&mut kv, &compact(5)), [Refusal::FutureRevision]);
    assert_eq!(kv.apply(&compact(3)).unwrap().revision(), 4);
    assert_eq!(refused(&mut kv, &compact(3)), [Refusal::Compacted]);
    let at = |revision| Request::Range(RangeRequest { revision, ..range("a", "") });
    assert_eq!(refused(&mut kv, &at(2)), [Refusal::Compacted]);
    assert!(kv.apply(&at(3)).is_ok());
    assert_eq!(refused(&mut kv, &at(5)), [Refusal::FutureRevision]);
}

#[test]
fn put_ignores_and_shows_what_was_there() {
    let mut kv = store(&[("a", "1")]);
    let request = PutRequest { ignore_value: true, prev_kv: true, lease: 7, ..put("a", "") };
    let Response::Put(response) = kv.apply(&Request::Put(request)).unwrap() else { panic!() };
    assert_eq!(response.prev_kv.unwrap().value, "1");
    let request = PutRequest { ignore_lease: true, ..put("a", "2") };
    kv.apply(&Request::Put(request)).unwrap();
    let a = &read(&mut kv, range("a", "")).kvs[0];
    assert_eq!((a.value.as_ref(), a.lease, a.version), (b"2".as_slice(), 7, 3));
    let missing = kv.apply(&Request::Put(PutRequest { ignore_value: true, ..put("b", "") })).unwrap_err();
    assert!(missing.contains(Refusal::KeyNotFound));
    assert_eq!(kv.revision(), 4);
}

#[test]
fn deleting_nothing_keeps_the_revision() {
    let mut kv = store(&[("a", "1"), ("b", "2")]);
    let Response::DeleteRange(response) = kv.apply(&Request::DeleteRange(delete("a", "\0"))).unwrap() else { panic!() };
    assert_eq!((response.deleted, response.prev_kvs.len(), response.header.unwrap().revision), (2, 2, 4));
    let Response::DeleteRange(response) = kv.apply(&Request::DeleteRange(delete("a", "\0"))).unwrap() else { panic!() };
    assert_eq!((response.deleted, response.header.unwrap().revision), (0, 4));
}

#[test]
fn a_value_compare_on_a_missing_key_is_false_and_others_compare_with_zero() {
    let mut kv = store(&[("a", "1"), ("b", "1")]);
    let mut succeeds =
        |compare: Compare| txn(&mut kv, TxnRequest { compare: vec![compare], ..Default::default() }).succeeded;
    for result in [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less] {
        assert!(!succeeds(compare("x", result, CompareTarget::Value, TargetUnion::Value(b("1")))));
    }
    assert!(succeeds(compare("x", CompareResult::Equal, CompareTarget::Version, TargetUnion::Version(0))));
    assert!(succeeds(compare("x", CompareResult::Less, CompareTarget::Mod, TargetUnion::ModRevision(1))));
    assert!(succeeds(compare("a", CompareResult::Greater, CompareTarget::Create, TargetUnion::CreateRevision(1))));
    assert!(succeeds(compare("a", CompareResult::NotEqual, CompareTarget::Lease, TargetUnion::Lease(9))));
    let span = |result, revision| Compare {
        range_end: b("\0"),
        ..compare("a", result, CompareTarget::Mod, TargetUnion::ModRevision(revision))
    };
    assert!(succeeds(span(CompareResult::Greater, 1)));
    assert!(!succeeds(span(CompareResult::Greater, 2)), "b matches, a does not");
}

#[test]
fn a_txn_takes_one_revision_and_sees_its_own_writes() {
    let mut kv = store(&[("a", "1")]);
    let nested = TxnRequest {
        // The compare sees the store before the whole txn: b is not there yet.
        compare: vec![compare("b", CompareResult::Equal, CompareTarget::Version, TargetUnion::Version(0))],
        success: vec![op(request_op::Request::RequestDeleteRange(delete("a", "")))],
        failure: vec![],
    };
    let request = TxnRequest {
        compare: vec![],
        success: vec![
            op(request_op::Request::RequestRange(range("a", "\0"))),
            op(request_op::Request::RequestPut(put("b", "2"))),
            op(request_op::Request::RequestTxn(nested)),
            op(request_op::Request::RequestRange(range("a", "\0"))),
        ],
        failure: vec![],
    };
    let response = txn(&mut kv, request);
    assert_eq!((response.succeeded, response.header.unwrap().revision, kv.revision()), (true, 3, 3));
    let Some(response_op::Response::ResponseRange(before)) = &response.responses[0].response else { panic!() };
    let Some(response_op::Response::ResponseRange(after)) = &response.responses[3].response else { panic!() };
    assert_eq!((keys(before), keys(after)), (vec!["a".into()], vec!["b".into()]));
    assert_eq!((before.header.unwrap().revision, after.header.unwrap().revision), (2, 3));
}

#[test]
fn a_refused_txn_changes_nothing() {
    let mut kv = store(&[("a", "1"), ("a", "2"), ("a", "3")]);
    kv.apply(&Request::Compact(CompactionRequest { revision: 3, physical: false })).unwrap();
    let attempt = |revision| {
        Request::Txn(TxnRequest {
            success: vec![
                op(request_op::Request::RequestPut(put("b", "1"))),
                op(request_op::Request::RequestRange(RangeRequest { revision, ..range("a", "") })),
            ],
            ..Default::default()
        })
    };
    let before = kv.clone();
    assert!(kv.apply(&attempt(2)).unwrap_err().contains(Refusal::Compacted));
    assert!(kv.apply(&attempt(5)).unwrap_err().contains(Refusal::FutureRevision));
    assert_eq!(kv, before);
    let response = kv.apply(&attempt(4)).unwrap();
    assert_eq!(oldest_read(&attempt(4), &response), Some(4));
}

/// What is named of several reasons, in a store at revision 4 that is compacted to 3.
#[test]
fn the_first_reason_is_named() {
    let mut kv = store(&[("a", "1"), ("a", "2"), ("a", "3")]);
    kv.apply(&Request::Compact(CompactionRequest { revision: 3, physical: false })).unwrap();
    let mut refusal = |request: Request| match kv.answer(&request) {
        Outcome::Failed { code, message } => Refusal::of(code, &message).expect("it depends on the state"),
        answered => panic!("{answered:?}"),
    };
    let mut in_txn = |operations: Vec<request_op::Request>| {
        refusal(Request::Txn(TxnRequest { success: operations.into_iter().map(op).collect(), ..Default::default() }))
    };
    let range_at = |revision| request_op::Request::RequestRange(RangeRequest { revision, ..range("a", "") });
    let hopeless = PutRequest { ignore_value: true, lease: 7, ..put("x", "") };
    let leased = PutRequest { lease: 7, ..put("x", "") };

    assert_eq!(in_txn(vec![request_op::Request::RequestPut(hopeless.clone())]), Refusal::KeyNotFound);
    // Puts before ranges, ranges in their order.
    assert_eq!(in_txn(vec![range_at(2), request_op::Request::RequestPut(leased)]), Refusal::LeaseNotFound);
    assert_eq!(in_txn(vec![range_at(2), range_at(5)]), Refusal::Compacted);
    assert_eq!(in_txn(vec![range_at(5), range_at(2)]), Refusal::FutureRevision);
    // Only on its own, a range may name a negative revision.
    assert_eq!(in_txn(vec![range_at(-1)]), Refusal::Compacted);
    // On its own, a put is refused for its lease first.
    assert_eq!(refusal(Request::Put(hopeless)), Refusal::LeaseNotFound);
    assert_eq!(read(&mut kv, RangeRequest { revision: -1, ..range("a", "") }).count, 1);
}

#[test]
fn a_txn_cannot_need_what_it_has_deleted() {
    let mut kv = store(&[("a", "1")]);
    let needs = || op(request_op::Request::RequestPut(PutRequest { ignore_value: true, ..put("a", "") }));
    let deletes = || op(request_op::Request::RequestDeleteRange(delete("a", "\0")));
    let puts = || op(request_op::Request::RequestPut(put("a", "2")));
    let nested = |success| op(request_op::Request::RequestTxn(TxnRequest { success, ..Default::default() }));
    let of = |success| TxnRequest { success, ..Default::default() };
    for (success, deleted) in [
        (vec![deletes(), needs()], true),
        (vec![nested(vec![deletes()]), needs()], true),
        (vec![needs(), deletes()], false),
        (vec![deletes(), puts(), needs()], false),
    ] {
        let txn = of(success);
        assert_eq!(kv.deletes_what_it_needs(&txn), deleted, "{txn:?}");
        let before = kv.clone();
        assert_eq!(kv.apply(&Request::Txn(txn)).is_err(), deleted);
        kv = before;
    }
    let missing = of(vec![op(request_op::Request::RequestPut(PutRequest { ignore_lease: true, ..put("x", "") }))]);
    assert!(!kv.deletes_what_it_needs(&missing), "that is found before anything is done");
}

#[test]
fn numbers_that_name_nothing_compare_as_in_etcd() {
    let mut kv = store(&[("a", "1")]);
    let mut succeeds = |compare| txn(&mut kv, TxnRequest { compare: vec![compare], ..Default::default() }).succeeded;
    let version = |key, result| compare(key, result, CompareTarget::Version, TargetUnion::Version(9));
    for key in ["a", "x"] {
        assert!(succeeds(Compare { result: 4, ..version(key, CompareResult::Equal) }), "no result always holds");
        assert!(succeeds(Compare { target: 5, ..version(key, CompareResult::Equal) }), "no target is equal");
        assert!(!succeeds(Compare { target: 5, ..version(key, CompareResult::Less) }));
    }
    let value = compare("x", CompareResult::Equal, CompareTarget::Value, TargetUnion::Value(b("")));
    assert!(!succeeds(Compare { result: 4, ..value }), "a value that is not there is not compared");
}

#[test]
fn the_last_change_can_be_taken_back() {
    let mut kv = store(&[("a", "1"), ("b", "2")]);
    let before = kv.clone();
    let change = TxnRequest {
        success: vec![
            op(request_op::Request::RequestPut(put("c", "3"))),
            op(request_op::Request::RequestDeleteRange(delete("a", "c"))),
        ],
        ..Default::default()
    };
    txn(&mut kv, change);
    kv.undo();
    assert_eq!(kv, before);
}

#[test]
fn answers_differ_in_words() {
    let mut kv = store(&[("a", "1")]);
    let expected = kv.apply(&Request::Range(range("a", ""))).unwrap();
    let mut got = expected.clone();
    assert_eq!(difference(&expected, &got), None);
    let Response::Range(response) = &mut got else { panic!() };
    response.header.as_mut().unwrap().member_id = 9;
    response.kvs[0].version = 4;
    let difference = difference(&expected, &got).unwrap();
    assert!(difference.contains("version 4") && difference.contains("version 1"), "{difference}");
}
