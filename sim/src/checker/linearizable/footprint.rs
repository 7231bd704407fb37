//! Which keys a request may read or change.

use std::collections::BTreeSet;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{PutRequest, TxnRequest, request_op};
use seedbed_proto::mvccpb::KeyValue;

use crate::history::{Request, Response};

/// Spans of keys, as pairs of a key and a range end in etcd's sense.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprint {
    spans: Vec<(Bytes, Bytes)>,
}

impl Footprint {
    /// Every key that a request names, on whichever way it goes.
    pub(super) fn of(request: &Request) -> Footprint {
        let mut footprint = Footprint::default();
        footprint.add(request);
        footprint
    }

    pub(super) fn add(&mut self, request: &Request) {
        match request {
            Request::Range(range) => self.span(&range.key, &range.range_end),
            Request::Put(put) => self.span(&put.key, &Bytes::new()),
            Request::DeleteRange(delete) => self.span(&delete.key, &delete.range_end),
            Request::Txn(txn) => self.add_txn(txn),
            // Its keys are whichever have it.
            Request::LeaseRevoke(_) => self.span(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0")),
            Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases(_) => {}
        }
    }

    fn add_txn(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            self.span(&compare.key, &compare.range_end);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(request_op::Request::RequestRange(range)) => self.span(&range.key, &range.range_end),
                Some(request_op::Request::RequestPut(put)) => self.span(&put.key, &Bytes::new()),
                Some(request_op::Request::RequestDeleteRange(delete)) => self.span(&delete.key, &delete.range_end),
                Some(request_op::Request::RequestTxn(txn)) => self.add_txn(txn),
                None => {}
            }
        }
    }

    fn span(&mut self, key: &Bytes, range_end: &Bytes) {
        self.spans.push((key.clone(), range_end.clone()));
    }

    /// The keys that a request names one by one.
    pub(super) fn single_keys(request: &Request) -> BTreeSet<&Bytes> {
        let mut keys = BTreeSet::new();
        match request {
            Request::Range(range) if range.range_end.is_empty() => keys.extend([&range.key]),
            Request::Put(put) => keys.extend([&put.key]),
            Request::DeleteRange(delete) if delete.range_end.is_empty() => keys.extend([&delete.key]),
            Request::Txn(_) => puts(request, &mut |put| keys.extend([&put.key])),
            _ => {}
        }
        keys
    }

    /// Whether a key lies in a span.
    pub(super) fn spans(key: &Bytes, range_end: &Bytes, wanted: &Bytes) -> bool {
        match range_end.as_ref() {
            [] => wanted == key,
            [0] => wanted >= key,
            _ => wanted >= key && wanted < range_end,
        }
    }

    pub(super) fn overlaps(&self, other: &Footprint) -> bool {
        self.spans.iter().any(|a| other.spans.iter().any(|b| overlap(a, b)))
    }
}

fn overlap(a: &(Bytes, Bytes), b: &(Bytes, Bytes)) -> bool {
    // Each begins before the other ends.
    begins_within(a, b) && begins_within(b, a)
}

fn begins_within((key, _): &(Bytes, Bytes), (other, end): &(Bytes, Bytes)) -> bool {
    match end.as_ref() {
        [] => key <= other,
        [0] => true,
        _ => key < end,
    }
}

/// Calls `visit` with each put of a request, on whichever way it goes.
pub(super) fn puts<'a>(request: &'a Request, visit: &mut impl FnMut(&'a PutRequest)) {
    match request {
        Request::Put(put) => visit(put),
        Request::Txn(txn) => puts_of_txn(txn, visit),
        _ => {}
    }
}

fn puts_of_txn<'a>(txn: &'a TxnRequest, visit: &mut impl FnMut(&'a PutRequest)) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(request_op::Request::RequestPut(put)) => visit(put),
            Some(request_op::Request::RequestTxn(txn)) => puts_of_txn(txn, visit),
            _ => {}
        }
    }
}

/// Calls `visit` with each key-value pair that a response shows.
pub(super) fn shown<'a>(response: &'a Response, visit: &mut impl FnMut(&'a KeyValue)) {
    match response {
        Response::Range(range) => range.kvs.iter().for_each(visit),
        Response::Put(put) => put.prev_kv.iter().for_each(visit),
        Response::DeleteRange(delete) => delete.prev_kvs.iter().for_each(visit),
        Response::Txn(txn) => shown_by_txn(txn, visit),
        Response::Compact(_)
        | Response::LeaseGrant(_)
        | Response::LeaseRevoke(_)
        | Response::LeaseKeepAlive(_)
        | Response::LeaseTimeToLive(_)
        | Response::LeaseLeases(_) => {}
    }
}

fn shown_by_txn<'a>(txn: &'a seedbed_proto::etcdserverpb::TxnResponse, visit: &mut impl FnMut(&'a KeyValue)) {
    use seedbed_proto::etcdserverpb::response_op::Response;
    for op in &txn.responses {
        match &op.response {
            Some(Response::ResponseRange(range)) => range.kvs.iter().for_each(&mut *visit),
            Some(Response::ResponsePut(put)) => put.prev_kv.iter().for_each(&mut *visit),
            Some(Response::ResponseDeleteRange(delete)) => delete.prev_kvs.iter().for_each(&mut *visit),
            Some(Response::ResponseTxn(txn)) => shown_by_txn(txn, visit),
            None => {}
        }
    }
}
