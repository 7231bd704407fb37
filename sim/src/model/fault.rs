//! What is wrong with a request by itself, whatever the store holds.
//!
//! Of several faults etcd names the first in this order: those of single operations, in the order in which the request
//! lists them; then a key that is changed twice; then the size, if it is to be proposed.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op};
use tonic::Code;

use crate::history::{Outcome, Request};

/// Operations in one list of a txn, by default.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Bytes of a request that is proposed, by default.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;

/// The longest time of a lease, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

/// A fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An empty key.
    EmptyKey,
    /// A value together with `ignore_value`.
    ValueProvided,
    /// A lease together with `ignore_lease`.
    LeaseProvided,
    /// More operations than a txn may have.
    TooManyOperations,
    /// A key that is put twice, or put and deleted.
    DuplicateKey,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// An operation of a txn that is none.
    EmptyOperation,
    /// More bytes than an entry of the log may have.
    TooLarge,
    /// A lease for longer than leases may be.
    TtlTooLarge,
}

impl Fault {
    /// The fault that etcd names, if there is any.
    pub fn of(request: &Request) -> Option<Fault> {
        let found = match request {
            Request::Range(range) => range_fault(range),
            Request::Put(put) => put_fault(put).and_then(|()| size_fault(put)),
            Request::DeleteRange(delete) => key_fault(&delete.key).and_then(|()| size_fault(delete)),
            Request::Txn(txn) => operations_fault(txn, TXN_OPERATIONS_MAX)
                .and_then(|()| Changes::of(&txn.success))
                .and_then(|_| Changes::of(&txn.failure))
                .and_then(|_| if only_reads(txn) { Ok(()) } else { size_fault(txn) }),
            Request::LeaseGrant(grant) if grant.ttl > TTL_MAX => Err(Fault::TtlTooLarge),
            Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases(_) => Ok(()),
        };
        found.err()
    }

    fn status(self) -> (Code, &'static str) {
        let message = match self {
            Fault::EmptyKey => "etcdserver: key is not provided",
            Fault::ValueProvided => "etcdserver: value is provided",
            Fault::LeaseProvided => "etcdserver: lease is provided",
            Fault::TooManyOperations => "etcdserver: too many operations in txn request",
            Fault::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Fault::InvalidSortOption => "etcdserver: invalid sort option",
            Fault::EmptyOperation => "etcdserver: key not found",
            Fault::TooLarge => "etcdserver: request is too large",
            Fault::TtlTooLarge => return (Code::OutOfRange, "etcdserver: too large lease TTL"),
        };
        (Code::InvalidArgument, message)
    }

    /// The answer that names this fault.
    pub fn outcome(self) -> Outcome {
        let (code, message) = self.status();
        Outcome::Failed { code: code as i32, message: message.to_owned() }
    }
}

fn key_fault(key: &Bytes) -> Result<(), Fault> {
    if key.is_empty() { Err(Fault::EmptyKey) } else { Ok(()) }
}

fn size_fault(request: &impl Message) -> Result<(), Fault> {
    if request.encoded_len() > REQUEST_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(()) }
}

/// Whether a txn is answered without a proposal.
fn only_reads(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.all(|op| matches!(&op.request, Some(request_op::Request::RequestRange(_))))
}

fn range_fault(range: &RangeRequest) -> Result<(), Fault> {
    key_fault(&range.key)?;
    match (SortOrder::try_from(range.sort_order), SortTarget::try_from(range.sort_target)) {
        (Ok(_), Ok(_)) => Ok(()),
        _ => Err(Fault::InvalidSortOption),
    }
}

fn put_fault(put: &PutRequest) -> Result<(), Fault> {
    key_fault(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Fault::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Fault::LeaseProvided);
    }
    Ok(())
}

/// The longest of a txn's lists is taken from the budget of the txns in it.
fn operations_fault(txn: &TxnRequest, budget: usize) -> Result<(), Fault> {
    let longest = [txn.compare.len(), txn.success.len(), txn.failure.len()].into_iter().max().unwrap_or(0);
    if longest > budget {
        return Err(Fault::TooManyOperations);
    }
    txn.compare.iter().try_for_each(|compare| key_fault(&compare.key))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range_fault(range),
        Some(request_op::Request::RequestPut(put)) => put_fault(put),
        Some(request_op::Request::RequestDeleteRange(delete)) => key_fault(&delete.key),
        Some(request_op::Request::RequestTxn(nested)) => operations_fault(nested, budget - longest),
        None => Err(Fault::EmptyOperation),
    })
}

/// What a list of operations may change, with the txns nested in it.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a DeleteRangeRequest>,
}

impl<'a> Changes<'a> {
    /// A key that is put may neither be put again nor deleted.
    ///
    /// - Of the two branches of a nested txn only one will run: both may put the same key.
    /// - Puts of nested txns are held against the deletions of this list, and against those of nested txns before them,
    ///   but not of nested txns after them, nor of their own other branch. Puts of this list are held against all.
    fn of(operations: &'a [RequestOp]) -> Result<Self, Fault> {
        let requests = || operations.iter().filter_map(|op| op.request.as_ref());
        let mut changes = Changes::default();
        changes.deletes.extend(requests().filter_map(|request| match request {
            request_op::Request::RequestDeleteRange(delete) => Some(delete),
            _ => None,
        }));
        for request in requests() {
            if let request_op::Request::RequestTxn(nested) = request {
                let then = Changes::of(&nested.success)?;
                let other = Changes::of(&nested.failure)?;
                for key in then.puts.union(&other.puts) {
                    changes.put(key)?;
                }
                changes.deletes.extend(then.deletes);
                changes.deletes.extend(other.deletes);
            }
        }
        for request in requests() {
            if let request_op::Request::RequestPut(put) = request {
                changes.put(&put.key)?;
            }
        }
        Ok(changes)
    }

    fn put(&mut self, key: &'a Bytes) -> Result<(), Fault> {
        if !self.puts.insert(key) || self.deletes.iter().any(|delete| deletes(delete, key)) {
            return Err(Fault::DuplicateKey);
        }
        Ok(())
    }
}

/// Whether etcd takes a deletion for one of the key when it looks for duplicates. There, and there only, an end of one
/// zero byte is an end like any other.
fn deletes(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    match &delete.range_end {
        end if end.is_empty() => delete.key == key,
        end => (&delete.key..end).contains(&key),
    }
}

#[cfg(test)]
mod tests {
    use request_op::Request::{RequestDeleteRange, RequestPut, RequestRange, RequestTxn};
    use seedbed_proto::etcdserverpb::Compare;

    use super::*;

    fn op(request: request_op::Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &'static str) -> RequestOp {
        op(RequestPut(PutRequest { key: key.into(), ..Default::default() }))
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        op(RequestDeleteRange(DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(RequestTxn(TxnRequest { compare: vec![], success, failure }))
    }

    fn of(success: Vec<RequestOp>) -> Option<Fault> {
        let fault = Fault::of(&Request::Txn(TxnRequest { success: success.clone(), ..Default::default() }));
        assert_eq!(fault, Fault::of(&Request::Txn(TxnRequest { failure: success, ..Default::default() })));
        fault
    }

    #[test]
    fn single_operations_in_their_order() {
        let unsorted = RangeRequest { key: "a".into(), sort_target: 9, ..Default::default() };
        assert_eq!(Fault::of(&Request::Range(RangeRequest::default())), Some(Fault::EmptyKey));
        assert_eq!(of(vec![put("a"), op(RequestRange(unsorted.clone())), put("")]), Some(Fault::InvalidSortOption));
        assert_eq!(of(vec![nested(vec![RequestOp::default()], vec![]), put("")]), Some(Fault::EmptyOperation));
        let put = PutRequest { key: "a".into(), value: "v".into(), lease: 1, ..Default::default() };
        let both = PutRequest { ignore_value: true, ignore_lease: true, ..put.clone() };
        assert_eq!(Fault::of(&Request::Put(both)), Some(Fault::ValueProvided));
        assert_eq!(Fault::of(&Request::Put(PutRequest { ignore_lease: true, ..put })), Some(Fault::LeaseProvided));
        let compare = vec![Compare::default()];
        let txn = TxnRequest { compare, success: vec![op(RequestRange(unsorted))], failure: vec![] };
        assert_eq!(Fault::of(&Request::Txn(txn)), Some(Fault::EmptyKey), "compares come first");
    }

    #[test]
    fn a_txn_shares_its_budget_with_those_in_it() {
        let deletes = |count| vec![delete("a", ""); count];
        assert_eq!(of(deletes(TXN_OPERATIONS_MAX)), None);
        assert_eq!(of(deletes(TXN_OPERATIONS_MAX + 1)), Some(Fault::TooManyOperations));
        assert_eq!(of(vec![nested(deletes(TXN_OPERATIONS_MAX - 1), vec![])]), None);
        assert_eq!(of(vec![nested(deletes(TXN_OPERATIONS_MAX), vec![])]), Some(Fault::TooManyOperations));
    }

    #[test]
    fn keys_that_are_changed_twice() {
        let duplicate = Some(Fault::DuplicateKey);
        for (operations, fault) in [
            (vec![put("a"), put("b"), delete("c", "d")], None),
            (vec![put("a"), put("a")], duplicate),
            (vec![put("b"), delete("a", "c")], duplicate),
            (vec![put("c"), delete("a", "c")], None),
            (vec![put("b"), delete("b", "a")], None),
            (vec![put("b"), delete("a", "\0")], None),
            (vec![delete("a", ""), delete("a", "")], None),
            (vec![put("a"), nested(vec![put("a")], vec![])], duplicate),
            (vec![nested(vec![put("a")], vec![put("a")])], None),
            (vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])], duplicate),
            // A list's own deletions count wherever they stand, those of nested txns against what comes after.
            (vec![nested(vec![put("a")], vec![]), delete("a", "")], duplicate),
            (vec![nested(vec![delete("a", "")], vec![]), nested(vec![put("a")], vec![])], duplicate),
            (vec![nested(vec![put("a")], vec![]), nested(vec![delete("a", "")], vec![])], None),
            (vec![nested(vec![delete("a", "")], vec![put("a")])], None),
            (vec![put("a"), nested(vec![], vec![delete("a", "")])], duplicate),
        ] {
            assert_eq!(of(operations.clone()), fault, "{operations:?}");
        }
    }

    #[test]
    fn only_what_is_proposed_can_be_too_large() {
        let key = Bytes::from(vec![b'k'; REQUEST_BYTES_MAX + 1]);
        let range = RangeRequest { key: key.clone(), ..Default::default() };
        assert_eq!(Fault::of(&Request::Range(range.clone())), None);
        assert_eq!(of(vec![op(RequestRange(range.clone()))]), None);
        assert_eq!(of(vec![nested(vec![op(RequestRange(range))], vec![])]), Some(Fault::TooLarge));
        let delete = DeleteRangeRequest { key, ..Default::default() };
        assert_eq!(Fault::of(&Request::DeleteRange(delete)), Some(Fault::TooLarge));
    }
}
