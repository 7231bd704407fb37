//! The deviations that are meant, as DEVIATIONS.md lists them with their reasons: these, and nothing more.

use prost::Message;
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::etcdserverpb::{
    RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, request_op, response_op,
};
use seedbed_proto::mvccpb::KeyValue;
use seedbed_sim::history::{Outcome, Request, Response};
use seedbed_sim::model::{Fault, Kv, REQUEST_BYTES_MAX, Refusal};
use tonic::Code;

/// The shortest lease of a sequence, in seconds: none ends before the sequence does.
pub(crate) const LEASE_TTL_MIN_S: i64 = 1000;

/// Levels of txns that the server takes.
pub(crate) const TXN_DEPTH_MAX: usize = 49;

/// Bytes of a message that is looked at at all.
pub(crate) const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (512 << 10);

/// Up to so many elements etcd's sort leaves equals in their order.
const STABLE_SORT_MAX: usize = 12;

/// What is expected of those that are asked.
pub(crate) struct Expected {
    pub(crate) etcd: Answer,
    pub(crate) server: Answer,
    pub(crate) model: Answer,
}

/// An answer that is expected.
pub(crate) enum Answer {
    /// What etcd answers.
    Etcds,
    /// This one.
    This(Outcome),
    /// That the request cannot be decoded, in the decoder's own words.
    Undecodable,
    /// None: the question is not put.
    Unasked,
}

impl Answer {
    /// Whether the question is put.
    pub(crate) fn is_asked(&self) -> bool {
        !matches!(self, Answer::Unasked)
    }
}

/// What a request must be answered with, when the store is in this state.
pub(crate) fn expected(request: &Request, state: &Kv) -> Expected {
    use Answer::{Etcds, This, Unasked, Undecodable};
    let bytes = encoded_len(request);
    if bytes > MESSAGE_BYTES_MAX {
        // `message-size`
        let etcd = format!("grpc: received message larger than max ({bytes} vs. {MESSAGE_BYTES_MAX})");
        let server = format!(
            "Error, decoded message length too large: found {bytes} bytes, the limit is: {MESSAGE_BYTES_MAX} bytes"
        );
        return Expected {
            etcd: This(refused(Code::ResourceExhausted, etcd)),
            server: This(refused(Code::OutOfRange, server)),
            model: Unasked,
        };
    }
    match request {
        // `invalid-sort-option`
        Request::Range(range) if is_unsorted(range) => {
            let refused = Fault::InvalidSortOption.outcome();
            Expected { etcd: Unasked, server: This(refused.clone()), model: This(refused) }
        }
        Request::Txn(txn) if operations(txn).any(is_unsorted_operation) => {
            let refused = Fault::InvalidSortOption.outcome();
            Expected { etcd: Unasked, server: This(refused.clone()), model: This(refused) }
        }
        // `txn-depth`
        Request::Txn(txn) if depth(txn) > TXN_DEPTH_MAX => {
            let server =
                if depth(txn) == TXN_DEPTH_MAX + 1 { This(Fault::TooManyOperations.outcome()) } else { Undecodable };
            Expected { etcd: Unasked, server, model: Unasked }
        }
        // `put-after-delete`
        Request::Txn(txn) if Fault::of(request).is_none() && state.deletes_what_it_needs(txn) => {
            let refused = Refusal::KeyNotFound.outcome();
            Expected { etcd: Unasked, server: This(refused.clone()), model: This(refused) }
        }
        _ => Expected { etcd: Etcds, server: Etcds, model: Etcds },
    }
}

fn refused(code: Code, message: String) -> Outcome {
    Outcome::Failed { code: code as i32, message }
}

fn encoded_len(request: &Request) -> usize {
    match request {
        Request::Range(range) => range.encoded_len(),
        Request::Put(put) => put.encoded_len(),
        Request::DeleteRange(delete) => delete.encoded_len(),
        Request::Txn(txn) => txn.encoded_len(),
        Request::Compact(compact) => compact.encoded_len(),
        Request::LeaseGrant(grant) => grant.encoded_len(),
        Request::LeaseRevoke(revoke) => revoke.encoded_len(),
        Request::LeaseKeepAlive(keep) => keep.encoded_len(),
        Request::LeaseTimeToLive(asked) => asked.encoded_len(),
        Request::LeaseLeases(asked) => asked.encoded_len(),
    }
}

fn operations(txn: &TxnRequest) -> impl Iterator<Item = &request_op::Request> {
    txn.success.iter().chain(&txn.failure).filter_map(|operation| operation.request.as_ref())
}

fn is_unsorted(range: &RangeRequest) -> bool {
    SortOrder::try_from(range.sort_order).is_err() || SortTarget::try_from(range.sort_target).is_err()
}

fn is_unsorted_operation(operation: &request_op::Request) -> bool {
    match operation {
        request_op::Request::RequestRange(range) => is_unsorted(range),
        request_op::Request::RequestTxn(txn) => operations(txn).any(is_unsorted_operation),
        _ => false,
    }
}

fn depth(txn: &TxnRequest) -> usize {
    let nested = operations(txn).map(|operation| match operation {
        request_op::Request::RequestTxn(txn) => depth(txn),
        _ => 0,
    });
    1 + nested.max().unwrap_or(0)
}

/// Time and order that say nothing: all of a lease is left, as good as, if less than a sequence takes is gone; and what etcd
/// lists in any order is put in one.
pub(crate) fn settle_leases(outcome: &mut Outcome) {
    match outcome {
        Outcome::Ok(Response::LeaseTimeToLive(left)) => {
            let gone = left.granted_ttl - left.ttl;
            if left.ttl >= 0 && (0..LEASE_TTL_MIN_S).contains(&gone) {
                left.ttl = left.granted_ttl;
            }
            left.keys.sort();
        }
        Outcome::Ok(Response::LeaseLeases(list)) => list.leases.sort_by_key(|lease| lease.id),
        _ => {}
    }
}

/// `order-of-equals`: where etcd's sort leaves the order of equals open, puts them into the order of their keys. Of those
/// that the limit cuts, which ones are left is open as well: they lose what tells them apart. Server and model are equal
/// without this.
pub(crate) fn settle_ties(request: &Request, outcome: &mut Outcome) {
    match (request, outcome) {
        (Request::Range(range), Outcome::Ok(Response::Range(response))) => settle_range(range, response),
        (Request::Txn(txn), Outcome::Ok(Response::Txn(response))) => {
            settle_operations(if response.succeeded { &txn.success } else { &txn.failure }, &mut response.responses);
        }
        _ => {}
    }
}

fn settle_operations(operations: &[RequestOp], responses: &mut [ResponseOp]) {
    for (operation, response) in operations.iter().zip(responses) {
        match (&operation.request, &mut response.response) {
            (Some(request_op::Request::RequestRange(range)), Some(response_op::Response::ResponseRange(response))) => {
                settle_range(range, response)
            }
            (Some(request_op::Request::RequestTxn(txn)), Some(response_op::Response::ResponseTxn(response))) => {
                settle_operations(
                    if response.succeeded { &txn.success } else { &txn.failure },
                    &mut response.responses,
                );
            }
            _ => {}
        }
    }
}

fn settle_range(range: &RangeRequest, response: &mut RangeResponse) {
    let target = range.sort_target();
    if target == SortTarget::Key || sorted_max(range, response) <= STABLE_SORT_MAX {
        return;
    }
    let groups: Vec<_> =
        response.kvs.chunk_by_mut(|a, b| by_target_alone(target, a) == by_target_alone(target, b)).collect();
    let last = groups.len().saturating_sub(1);
    for (place, group) in groups.into_iter().enumerate() {
        if response.more && place == last {
            group.fill(by_target_alone(target, &group[0]));
        } else {
            group.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }
}

/// How many keys etcd has sorted, at most.
fn sorted_max(range: &RangeRequest, response: &RangeResponse) -> usize {
    let filters =
        [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
    match (response.more, range.sort_order()) {
        (false, _) => response.kvs.len(),
        // One beyond the limit.
        (true, SortOrder::None) if filters == [0; 4] => response.kvs.len() + 1,
        (true, _) => usize::try_from(response.count).unwrap_or(usize::MAX),
    }
}

/// A pair that has nothing but what it is sorted by.
fn by_target_alone(target: SortTarget, kv: &KeyValue) -> KeyValue {
    let nothing = KeyValue::default();
    match target {
        SortTarget::Key => KeyValue { key: kv.key.clone(), ..nothing },
        SortTarget::Version => KeyValue { version: kv.version, ..nothing },
        SortTarget::Create => KeyValue { create_revision: kv.create_revision, ..nothing },
        SortTarget::Mod => KeyValue { mod_revision: kv.mod_revision, ..nothing },
        SortTarget::Value => KeyValue { value: kv.value.clone(), ..nothing },
    }
}
