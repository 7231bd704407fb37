//! Transactions: all compares first, then one branch, in one revision.

use std::cmp::Ordering;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse, request_op, response_op,
};

use super::{Kv, Refusal, Refusals, Version, header, read_refusals};
use crate::history::{Request, Response};

/// Which way a txn goes. Every compare, nested ones too, sees the store as it was before the txn.
pub(super) struct Branch {
    succeeded: bool,
    /// For each nested txn on the way, in order.
    nested: Vec<Branch>,
}

fn way(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Calls `visit` with each operation on the way, those of nested txns in their place.
fn visit_operations<'a>(txn: &'a TxnRequest, branch: &Branch, visit: &mut impl FnMut(&'a request_op::Request)) {
    let mut nested = branch.nested.iter();
    for operation in way(txn, branch.succeeded).iter().filter_map(|op| op.request.as_ref()) {
        match operation {
            request_op::Request::RequestTxn(txn) => {
                let branch = nested.next().expect("each nested txn on the way has its branch");
                visit_operations(txn, branch, visit);
            }
            _ => visit(operation),
        }
    }
}

impl Kv {
    /// The way a txn goes when the store stands at `revision`.
    pub(super) fn branch(&self, txn: &TxnRequest, revision: i64) -> Branch {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare, revision));
        let nested = way(txn, succeeded)
            .iter()
            .filter_map(|op| match &op.request {
                Some(request_op::Request::RequestTxn(nested)) => Some(self.branch(nested, revision)),
                _ => None,
            })
            .collect();
        Branch { succeeded, nested }
    }

    /// Whether a compare holds: for each key of its span, or, if there is none, for a key that is all zero. A value is
    /// never equal, unequal, greater or less where there is no key.
    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let (mut all, mut any) = (true, false);
        self.visit(&compare.key, &compare.range_end, revision, |_, version| {
            any = true;
            all &= compares(compare, version);
        });
        if any {
            return all;
        }
        let zero = Version { modified: 0, created: 0, version: 0, lease: 0, value: Bytes::new() };
        compare.target != CompareTarget::Value as i32 && compares(compare, &zero)
    }

    /// All puts are looked at before any range, and last what only turns out on the way.
    pub(super) fn txn_refusals(&self, txn: &TxnRequest, branch: &Branch, revision: i64, compacted: i64) -> Refusals {
        let mut refusals = self.checked_refusals(txn, branch, revision, compacted);
        refusals |= self.own_refusal(txn, branch, revision).into_iter().collect();
        refusals
    }

    /// What etcd finds before it carries anything out.
    fn checked_refusals(&self, txn: &TxnRequest, branch: &Branch, revision: i64, compacted: i64) -> Refusals {
        let (mut of_puts, mut of_ranges) = (Refusals::NONE, Refusals::NONE);
        visit_operations(txn, branch, &mut |operation| match operation {
            // Unlike a put on its own, this one is refused for want of its key before it is for want of its lease.
            request_op::Request::RequestPut(put) => {
                let refusals = self.key_refusal(put, revision).into_iter().chain(self.lease_refusal(put));
                of_puts |= refusals.collect();
            }
            request_op::Request::RequestRange(range) => {
                of_ranges |= inner_read_refusals(range.revision, revision, compacted);
            }
            request_op::Request::RequestDeleteRange(_) | request_op::Request::RequestTxn(_) => {}
        });
        of_puts |= of_ranges;
        of_puts
    }

    /// A put needs a key that the txn itself has deleted before.
    fn own_refusal(&self, txn: &TxnRequest, branch: &Branch, revision: i64) -> Option<Refusal> {
        let mut before: Vec<&request_op::Request> = Vec::new();
        let mut refusal = None;
        visit_operations(txn, branch, &mut |operation| {
            if let request_op::Request::RequestPut(put) = operation
                && (put.ignore_value || put.ignore_lease)
            {
                let last = before.iter().rev().find_map(|operation| match operation {
                    request_op::Request::RequestPut(other) if other.key == put.key => Some(true),
                    request_op::Request::RequestDeleteRange(delete) if spans(delete, &put.key) => Some(false),
                    _ => None,
                });
                if !last.unwrap_or_else(|| self.get(&put.key, revision).is_some()) {
                    refusal = Some(Refusal::KeyNotFound);
                }
            }
            before.push(operation);
        });
        refusal
    }

    /// Whether etcd's checks let a txn pass that cannot be carried out: it deletes what it needs. etcd 3.4 panics there,
    /// on every member.
    pub fn deletes_what_it_needs(&self, txn: &TxnRequest) -> bool {
        let branch = self.branch(txn, self.revision);
        let checked = self.checked_refusals(txn, &branch, self.revision, self.compacted);
        checked.is_empty() && self.own_refusal(txn, &branch, self.revision).is_some()
    }

    pub(super) fn txn(&mut self, txn: &TxnRequest, branch: &Branch, changed: &mut bool) -> TxnResponse {
        let mut nested = branch.nested.iter();
        let responses = way(txn, branch.succeeded)
            .iter()
            .map(|op| {
                let response = op.request.as_ref().map(|request| match request {
                    request_op::Request::RequestRange(range) => {
                        response_op::Response::ResponseRange(self.range(range, self.revision + i64::from(*changed)))
                    }
                    request_op::Request::RequestPut(put) => response_op::Response::ResponsePut(self.put(put, changed)),
                    request_op::Request::RequestDeleteRange(delete) => {
                        response_op::Response::ResponseDeleteRange(self.delete_range(delete, changed))
                    }
                    request_op::Request::RequestTxn(txn) => {
                        let branch = nested.next().expect("each nested txn on the way has its branch");
                        response_op::Response::ResponseTxn(self.txn(txn, branch, changed))
                    }
                });
                ResponseOp { response }
            })
            .collect();
        // As etcd leaves it to nested txns; the outermost gets its own later.
        TxnResponse { header: header(0), succeeded: branch.succeeded, responses }
    }
}

/// Whether a deletion reaches a key.
fn spans(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    match &delete.range_end {
        end if end.is_empty() => delete.key == key,
        end if &end[..] == b"\0" => delete.key <= key,
        end => (&delete.key..end).contains(&key),
    }
}

/// Reading within a txn is refused for a negative revision below the compacted one, too.
fn inner_read_refusals(at: i64, revision: i64, compacted: i64) -> Refusals {
    if at < 0 && at < compacted { Refusal::Compacted.into() } else { read_refusals(at, revision, compacted) }
}

/// A target that does not exist is equal to whatever it is compared with; a result that does not exist always holds.
fn compares(compare: &Compare, version: &Version) -> bool {
    let number = |given: Option<i64>, actual: i64| actual.cmp(&given.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(
            union.and_then(|union| if let TargetUnion::Version(n) = union { Some(*n) } else { None }),
            version.version,
        ),
        Ok(CompareTarget::Create) => number(
            union.and_then(|union| if let TargetUnion::CreateRevision(n) = union { Some(*n) } else { None }),
            version.created,
        ),
        Ok(CompareTarget::Mod) => number(
            union.and_then(|union| if let TargetUnion::ModRevision(n) = union { Some(*n) } else { None }),
            version.modified,
        ),
        Ok(CompareTarget::Lease) => number(
            union.and_then(|union| if let TargetUnion::Lease(n) = union { Some(*n) } else { None }),
            version.lease,
        ),
        Ok(CompareTarget::Value) => {
            let given: &[u8] = if let Some(TargetUnion::Value(value)) = union { value } else { &[] };
            version.value.as_ref().cmp(given)
        }
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Err(_) => true,
    }
}

/// The least past revision that an answered request has read, if it named one.
pub fn oldest_read(request: &Request, response: &Response) -> Option<i64> {
    match (request, response) {
        (Request::Range(range), _) => Some(range.revision).filter(|&revision| revision > 0),
        (Request::Txn(txn), Response::Txn(response)) => oldest_read_of_txn(txn, response),
        _ => None,
    }
}

fn oldest_read_of_txn(txn: &TxnRequest, response: &TxnResponse) -> Option<i64> {
    way(txn, response.succeeded)
        .iter()
        .zip(&response.responses)
        .filter_map(|(op, response)| match (&op.request, &response.response) {
            (Some(request_op::Request::RequestRange(range)), _) => Some(range.revision).filter(|&at| at > 0),
            (Some(request_op::Request::RequestTxn(txn)), Some(response_op::Response::ResponseTxn(response))) => {
                oldest_read_of_txn(txn, response)
            }
            _ => None,
        })
        .min()
}
