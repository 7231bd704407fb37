use prost::Message;

use super::*;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{Compare, RangeResponse, ResponseOp, TxnResponse};
use crate::proto::mvccpb::KeyValue;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
}

fn delete_op(key: &'static str, range_end: &'static str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    }))
}

fn txn_op(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
}

fn judged(success: Vec<RequestOp>) -> Result<(), Invalid> {
    let branch = |success, failure| txn(&TxnRequest { compare: Vec::new(), success, failure }, TXN_OPS_MAX);
    let verdict = branch(success.clone(), Vec::new());
    assert_eq!(verdict, branch(Vec::new(), success), "both branches are judged alike");
    verdict
}

#[test]
fn single_requests() {
    assert_eq!(range(&RangeRequest::default()), Err(Invalid::EmptyKey));
    let valid = RangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(range(&valid), Ok(()));
    assert_eq!(range(&RangeRequest { sort_order: 3, ..valid.clone() }), Err(Invalid::InvalidSortOption));
    assert_eq!(range(&RangeRequest { sort_target: -1, ..valid.clone() }), Err(Invalid::InvalidSortOption));

    assert_eq!(put(&PutRequest::default()), Err(Invalid::EmptyKey));
    let valid = PutRequest { key: "a".into(), value: "v".into(), lease: 1, ..Default::default() };
    assert_eq!(put(&valid), Ok(()));
    assert_eq!(put(&PutRequest { ignore_value: true, ..valid.clone() }), Err(Invalid::ValueProvided));
    assert_eq!(put(&PutRequest { ignore_lease: true, ..valid.clone() }), Err(Invalid::LeaseProvided));

    assert_eq!(delete_range(&DeleteRangeRequest::default()), Err(Invalid::EmptyKey));
}

#[test]
fn operations_of_a_txn() {
    assert_eq!(judged(vec![]), Ok(()));
    assert_eq!(judged(vec![RequestOp::default()]), Err(Invalid::EmptyOp));
    assert_eq!(judged(vec![put_op("")]), Err(Invalid::EmptyKey));
    assert_eq!(judged(vec![txn_op(vec![], vec![put_op("")])]), Err(Invalid::EmptyKey));
    let compare = vec![Compare::default()];
    let request = TxnRequest { compare, ..Default::default() };
    assert_eq!(txn(&request, TXN_OPS_MAX), Err(Invalid::EmptyKey));
}

#[test]
fn nesting_spends_the_same_budget() {
    let deletions = |n| vec![delete_op("a", ""); n];
    assert_eq!(judged(deletions(TXN_OPS_MAX)), Ok(()));
    assert_eq!(judged(deletions(TXN_OPS_MAX + 1)), Err(Invalid::TooManyOps));
    assert_eq!(judged(vec![txn_op(deletions(TXN_OPS_MAX - 1), vec![])]), Ok(()));
    assert_eq!(judged(vec![txn_op(deletions(TXN_OPS_MAX), vec![])]), Err(Invalid::TooManyOps));
    let compare = vec![Compare { key: "a".into(), ..Default::default() }; TXN_OPS_MAX + 1];
    assert_eq!(txn(&TxnRequest { compare, ..Default::default() }, TXN_OPS_MAX), Err(Invalid::TooManyOps));
}

#[test]
fn levels_end_before_a_decoder_does() {
    let levels = |count| {
        (1..count).fold(TxnRequest { success: vec![delete_op("a", "")], ..Default::default() }, |txn, _| TxnRequest {
            success: vec![op(Request::RequestTxn(txn))],
            ..Default::default()
        })
    };
    let deepest = levels(TXN_LEVELS_MAX);
    assert_eq!(txn(&deepest, TXN_OPS_MAX), Ok(()));
    assert_eq!(txn(&levels(TXN_LEVELS_MAX + 1), TXN_OPS_MAX), Err(Invalid::TooManyOps));

    // The deepest answer that it can have.
    let found = RangeResponse { kvs: vec![KeyValue { version: 1, ..Default::default() }], ..Default::default() };
    let answer = (1..TXN_LEVELS_MAX)
        .fold(answered(Response::ResponseRange(found)), |txn, _| answered(Response::ResponseTxn(txn)));
    assert_eq!(TxnResponse::decode(&answer.encode_to_vec()[..]), Ok(answer));
    assert_eq!(TxnRequest::decode(&deepest.encode_to_vec()[..]), Ok(deepest));
}

fn answered(response: Response) -> TxnResponse {
    TxnResponse { responses: vec![ResponseOp { response: Some(response) }], ..Default::default() }
}

#[test]
fn overlaps() {
    let duplicate = Err(Invalid::DuplicateKey);
    assert_eq!(judged(vec![put_op("a"), put_op("b")]), Ok(()));
    assert_eq!(judged(vec![put_op("a"), put_op("a")]), duplicate);
    assert_eq!(judged(vec![put_op("a"), delete_op("a", "")]), duplicate);
    assert_eq!(judged(vec![delete_op("a", "c"), put_op("b")]), duplicate);
    assert_eq!(judged(vec![delete_op("a", "b"), put_op("b")]), Ok(()));
    assert_eq!(judged(vec![delete_op("a", "c"), delete_op("b", "d"), delete_op("a", "")]), Ok(()));
    let both = TxnRequest { compare: vec![], success: vec![put_op("a")], failure: vec![put_op("a")] };
    assert_eq!(txn(&both, TXN_OPS_MAX), Ok(()), "only one branch runs");
}

#[test]
fn overlaps_across_levels() {
    let duplicate = Err(Invalid::DuplicateKey);
    assert_eq!(judged(vec![put_op("a"), txn_op(vec![put_op("a")], vec![])]), duplicate);
    assert_eq!(judged(vec![put_op("a"), txn_op(vec![], vec![put_op("a")])]), duplicate);
    assert_eq!(judged(vec![txn_op(vec![put_op("a")], vec![put_op("a")])]), Ok(()), "the branches exclude each other");
    assert_eq!(judged(vec![txn_op(vec![put_op("a")], vec![]), txn_op(vec![], vec![put_op("a")])]), duplicate);
    assert_eq!(judged(vec![delete_op("a", "c"), txn_op(vec![put_op("b")], vec![])]), duplicate);
    assert_eq!(judged(vec![txn_op(vec![delete_op("a", "c")], vec![]), put_op("b")]), duplicate);
    assert_eq!(judged(vec![txn_op(vec![delete_op("a", "")], vec![put_op("a")])]), Ok(()));
}

/// Accepted by etcd, so by us.
#[test]
fn overlaps_that_etcd_overlooks() {
    assert_eq!(judged(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
    // A range whose end is not above its start deletes nothing.
    assert_eq!(judged(vec![delete_op("b", "a"), put_op("b")]), Ok(()));
    assert_eq!(judged(vec![delete_op("b", "b"), put_op("b")]), Ok(()));
    let (puts, deletes) = (txn_op(vec![put_op("a")], vec![]), txn_op(vec![delete_op("a", "")], vec![]));
    assert_eq!(judged(vec![puts.clone(), deletes.clone()]), Ok(()));
    assert_eq!(judged(vec![deletes, puts]), Err(Invalid::DuplicateKey));
}
