//! Simpler requests in the place of one: with one thing less, or at half the revision, which takes fewer changes.

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use seedbed_sim::history::Request;

/// The request made simpler in one of its parts or options, in each way there is. Following these ends at a request
/// without any.
pub(crate) fn simpler(request: &Request) -> Vec<Request> {
    match request {
        Request::Range(range) => simpler_range(range).into_iter().map(Request::Range).collect(),
        Request::Put(put) => simpler_put(put).into_iter().map(Request::Put).collect(),
        Request::DeleteRange(delete) => simpler_delete(delete).into_iter().map(Request::DeleteRange).collect(),
        Request::Compact(compact) => {
            let simpler = reset(compact, &[|compact| compact.physical = false, |compact| compact.revision /= 2]);
            simpler.into_iter().map(Request::Compact).collect()
        }
        Request::LeaseTimeToLive(asked) => {
            reset(asked, &[|asked| asked.keys = false]).into_iter().map(Request::LeaseTimeToLive).collect()
        }
        Request::LeaseGrant(_) | Request::LeaseRevoke(_) | Request::LeaseKeepAlive(_) | Request::LeaseLeases(_) => {
            Vec::new()
        }
        Request::Txn(txn) => {
            let alone = txn.success.iter().chain(&txn.failure).filter_map(|op| match op.request.clone()? {
                request_op::Request::RequestRange(range) => Some(Request::Range(range)),
                request_op::Request::RequestPut(put) => Some(Request::Put(put)),
                request_op::Request::RequestDeleteRange(delete) => Some(Request::DeleteRange(delete)),
                request_op::Request::RequestTxn(txn) => Some(Request::Txn(txn)),
            });
            alone.chain(simpler_txn(txn).into_iter().map(Request::Txn)).collect()
        }
    }
}

/// What becomes of the message by each of the changes, of those that change something.
fn reset<T: Clone + PartialEq>(message: &T, changes: &[fn(&mut T)]) -> Vec<T> {
    let changed = changes.iter().map(|change| {
        let mut changed = message.clone();
        change(&mut changed);
        changed
    });
    changed.filter(|changed| changed != message).collect()
}

fn simpler_range(range: &RangeRequest) -> Vec<RangeRequest> {
    reset(
        range,
        &[
            |range| range.range_end = Bytes::new(),
            |range| range.limit = 0,
            |range| range.revision = 0,
            |range| range.revision /= 2,
            |range| range.sort_order = 0,
            |range| range.sort_target = 0,
            |range| range.serializable = false,
            |range| range.keys_only = false,
            |range| range.count_only = false,
            |range| range.min_mod_revision = 0,
            |range| range.max_mod_revision = 0,
            |range| range.min_create_revision = 0,
            |range| range.max_create_revision = 0,
        ],
    )
}

fn simpler_put(put: &PutRequest) -> Vec<PutRequest> {
    reset(
        put,
        &[
            |put| put.value = Bytes::new(),
            |put| put.value.truncate(1),
            |put| put.lease = 0,
            |put| put.prev_kv = false,
            |put| put.ignore_value = false,
            |put| put.ignore_lease = false,
        ],
    )
}

fn simpler_delete(delete: &DeleteRangeRequest) -> Vec<DeleteRangeRequest> {
    reset(delete, &[|delete| delete.range_end = Bytes::new(), |delete| delete.prev_kv = false])
}

fn simpler_txn(txn: &TxnRequest) -> Vec<TxnRequest> {
    let compares = less(&txn.compare, simpler_compare).into_iter().map(|compare| TxnRequest { compare, ..txn.clone() });
    let successes =
        less(&txn.success, simpler_operation).into_iter().map(|success| TxnRequest { success, ..txn.clone() });
    let failures =
        less(&txn.failure, simpler_operation).into_iter().map(|failure| TxnRequest { failure, ..txn.clone() });
    // What is done where a condition does not hold, done without one.
    let unconditional = TxnRequest { success: txn.failure.clone(), ..TxnRequest::default() };
    let unconditional = Some(unconditional).filter(|_| !txn.failure.is_empty());
    compares.chain(successes).chain(failures).chain(unconditional).collect()
}

fn simpler_compare(compare: &Compare) -> Vec<Compare> {
    reset(
        compare,
        &[
            |compare| compare.range_end = Bytes::new(),
            |compare| compare.result = 0,
            |compare| compare.target = 0,
            |compare| compare.target_union = None,
        ],
    )
}

fn simpler_operation(operation: &RequestOp) -> Vec<RequestOp> {
    let Some(request) = &operation.request else { return Vec::new() };
    let simpler: Vec<_> = match request {
        request_op::Request::RequestRange(range) => {
            simpler_range(range).into_iter().map(request_op::Request::RequestRange).collect()
        }
        request_op::Request::RequestPut(put) => {
            simpler_put(put).into_iter().map(request_op::Request::RequestPut).collect()
        }
        request_op::Request::RequestDeleteRange(delete) => {
            simpler_delete(delete).into_iter().map(request_op::Request::RequestDeleteRange).collect()
        }
        request_op::Request::RequestTxn(txn) => {
            let inner = txn.success.iter().chain(&txn.failure).filter_map(|operation| operation.request.clone());
            inner.chain(simpler_txn(txn).into_iter().map(request_op::Request::RequestTxn)).collect()
        }
    };
    simpler.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

/// The list without its first half, without its second, without each element, and with each element made simpler.
fn less<T: Clone>(list: &[T], simpler: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let (first, second) = list.split_at(list.len() / 2);
    let halves = if list.len() > 2 { vec![second.to_vec(), first.to_vec()] } else { Vec::new() };
    let without = (0..list.len()).map(|place| [&list[..place], &list[place + 1..]].concat());
    let with_simpler = list.iter().enumerate().flat_map(|(place, element)| {
        simpler(element).into_iter().map(move |element| {
            let mut list = list.to_vec();
            list[place] = element;
            list
        })
    });
    halves.into_iter().chain(without).chain(with_simpler).collect()
}
