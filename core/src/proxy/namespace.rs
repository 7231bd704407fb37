//! A prefix that clients of a proxy do not see: their keys lie under it, and nothing else is there for them.
//!
//! ```text
//!   client     "a" .. "b"        "a" .. "\0"            "" (no key)
//!   members    "ns/a" .. "ns/b"  "ns/a" .. "ns0"        "": refused as it is without a prefix
//! ```
//!
//! Names of locks and elections are keys, too.

use bytes::Bytes;

use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchCreateRequest,
};
use crate::proto::mvccpb::{Event, KeyValue};
use crate::proto::v3electionpb::LeaderKey;

/// The end that stands for no end.
const OPEN: &[u8] = b"\0";

/// A prefix; nothing, if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespace {
    prefix: Bytes,
    /// The first key behind all those with the prefix; [`OPEN`], if there is none.
    end: Bytes,
}

impl Namespace {
    pub(super) fn new(prefix: Bytes) -> Self {
        Namespace { end: behind(&prefix), prefix }
    }

    fn is_empty(&self) -> bool {
        self.prefix.is_empty()
    }

    /// A key, as members know it. None stays none.
    pub(super) fn enter(&self, key: &mut Bytes) {
        if !self.is_empty() && !key.is_empty() {
            *key = [&self.prefix[..], &key[..]].concat().into();
        }
    }

    /// A key and an end, as members know them.
    pub(super) fn enter_range(&self, key: &mut Bytes, range_end: &mut Bytes) {
        if self.is_empty() {
            return;
        }
        self.enter(key);
        match &range_end[..] {
            [] => {}
            OPEN => *range_end = self.end.clone(),
            _ => self.enter(range_end),
        }
    }

    /// A name, which may be empty.
    pub(super) fn enter_name(&self, name: &mut Bytes) {
        if !self.is_empty() {
            *name = [&self.prefix[..], &name[..]].concat().into();
        }
    }

    /// A member's key, as clients know it.
    pub(super) fn leave(&self, key: &mut Bytes) {
        if !self.is_empty() && key.starts_with(&self.prefix) {
            *key = key.slice(self.prefix.len()..);
        }
    }

    /// Keys of which others may be elsewhere: those that clients know.
    pub(super) fn leave_keys(&self, keys: &mut Vec<Bytes>) {
        keys.retain(|key| key.starts_with(&self.prefix));
        keys.iter_mut().for_each(|key| self.leave(key));
    }

    pub(super) fn leave_pair(&self, kv: &mut KeyValue) {
        self.leave(&mut kv.key);
    }

    pub(super) fn enter_watch(&self, request: &mut WatchCreateRequest) {
        if request.key.is_empty() {
            // No key at all means the least one.
            request.key = Bytes::from_static(&[0]);
        }
        self.enter_range(&mut request.key, &mut request.range_end);
    }

    pub(super) fn leave_event(&self, event: &mut Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|kv| self.leave_pair(kv));
    }

    pub(super) fn enter_leader(&self, leader: &mut LeaderKey) {
        self.enter_name(&mut leader.name);
        self.enter(&mut leader.key);
    }

    pub(super) fn leave_leader(&self, leader: &mut LeaderKey) {
        self.leave(&mut leader.name);
        self.leave(&mut leader.key);
    }

    pub(super) fn enter_get(&self, request: &mut RangeRequest) {
        self.enter_range(&mut request.key, &mut request.range_end);
    }

    pub(super) fn leave_get(&self, response: &mut RangeResponse) {
        response.kvs.iter_mut().for_each(|kv| self.leave_pair(kv));
    }

    pub(super) fn enter_put(&self, request: &mut PutRequest) {
        self.enter(&mut request.key);
    }

    pub(super) fn leave_put(&self, response: &mut PutResponse) {
        response.prev_kv.iter_mut().for_each(|kv| self.leave_pair(kv));
    }

    pub(super) fn enter_delete(&self, request: &mut DeleteRangeRequest) {
        self.enter_range(&mut request.key, &mut request.range_end);
    }

    pub(super) fn leave_delete(&self, response: &mut DeleteRangeResponse) {
        response.prev_kvs.iter_mut().for_each(|kv| self.leave_pair(kv));
    }

    /// Whatever it is nested in: an operation's depth is bounded by the decoder.
    pub(super) fn enter_txn(&self, txn: &mut TxnRequest) {
        if self.is_empty() {
            return;
        }
        for compare in &mut txn.compare {
            self.enter_range(&mut compare.key, &mut compare.range_end);
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => self.enter_get(range),
                Some(Request::RequestPut(put)) => self.enter_put(put),
                Some(Request::RequestDeleteRange(delete)) => self.enter_delete(delete),
                Some(Request::RequestTxn(nested)) => self.enter_txn(nested),
                None => {}
            }
        }
    }

    pub(super) fn leave_txn(&self, txn: &mut TxnResponse) {
        if self.is_empty() {
            return;
        }
        for operation in &mut txn.responses {
            match &mut operation.response {
                Some(Response::ResponseRange(range)) => self.leave_get(range),
                Some(Response::ResponsePut(put)) => self.leave_put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.leave_delete(delete),
                Some(Response::ResponseTxn(nested)) => self.leave_txn(nested),
                None => {}
            }
        }
    }
}

/// The first key behind all those with a prefix.
fn behind(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < u8::MAX) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(OPEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{Compare, RequestOp, ResponseOp};

    fn ranged(prefix: &'static str, key: &'static str, end: &'static str) -> (Bytes, Bytes) {
        let namespace = Namespace::new(prefix.into());
        let (mut key, mut end) = (Bytes::from(key), Bytes::from(end));
        namespace.enter_range(&mut key, &mut end);
        (key, end)
    }

    #[test]
    fn ranges_end_where_the_prefix_does() {
        assert_eq!(ranged("ns/", "a", ""), ("ns/a".into(), "".into()));
        assert_eq!(ranged("ns/", "a", "b"), ("ns/a".into(), "ns/b".into()));
        assert_eq!(ranged("ns/", "a", "\0"), ("ns/a".into(), "ns0".into()));
        assert_eq!(ranged("ns/", "\0", "\0"), ("ns/\0".into(), "ns0".into()));
        assert_eq!(ranged("", "a", "\0"), ("a".into(), "\0".into()));
        // What is refused without a prefix is refused with one.
        assert_eq!(ranged("ns/", "", ""), ("".into(), "".into()));
        assert_eq!(behind(b"a\xff\xff"), "b");
        assert_eq!(behind(b"\xff"), "\0");
    }

    #[test]
    fn clients_see_nothing_of_it() {
        let namespace = Namespace::new("ns/".into());
        let mut keys = vec![Bytes::from("ns/a"), Bytes::from("other"), Bytes::from("ns/")];
        namespace.leave_keys(&mut keys);
        assert_eq!(keys, ["a", ""]);
    }

    #[test]
    fn a_txn_is_entered_at_every_depth() {
        let namespace = Namespace::new("ns/".into());
        let operation = |request| RequestOp { request: Some(request) };
        let nested = TxnRequest {
            compare: vec![Compare { key: "c".into(), range_end: "\0".into(), ..Compare::default() }],
            failure: vec![operation(Request::RequestPut(PutRequest { key: "p".into(), ..Default::default() }))],
            ..TxnRequest::default()
        };
        let mut txn = TxnRequest { success: vec![operation(Request::RequestTxn(nested))], ..TxnRequest::default() };
        namespace.enter_txn(&mut txn);
        let Some(Request::RequestTxn(nested)) = &txn.success[0].request else { panic!("{txn:?}") };
        assert_eq!((&nested.compare[0].key[..], &nested.compare[0].range_end[..]), (&b"ns/c"[..], &b"ns0"[..]));
        let Some(Request::RequestPut(put)) = &nested.failure[0].request else { panic!("{nested:?}") };
        assert_eq!(put.key, "ns/p");

        let range = RangeResponse {
            kvs: vec![KeyValue { key: "ns/k".into(), ..KeyValue::default() }],
            ..RangeResponse::default()
        };
        let inner = TxnResponse {
            responses: vec![ResponseOp { response: Some(Response::ResponseRange(range)) }],
            ..TxnResponse::default()
        };
        let mut outer = TxnResponse {
            responses: vec![ResponseOp { response: Some(Response::ResponseTxn(inner)) }],
            ..TxnResponse::default()
        };
        namespace.leave_txn(&mut outer);
        let Some(Response::ResponseTxn(inner)) = &outer.responses[0].response else { panic!("{outer:?}") };
        let Some(Response::ResponseRange(range)) = &inner.responses[0].response else { panic!("{inner:?}") };
        assert_eq!(range.kvs[0].key, "k");
    }
}
