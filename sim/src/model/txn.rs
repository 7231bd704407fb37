//! Transactions: all compares first, then one branch, in one revision.

use std::cmp::Ordering;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::{Compare, RequestOp, ResponseOp, TxnRequest, TxnResponse, request_op, response_op};

use super::{Kv, Refusals, Version, header, read_refusals};
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
        compare.target() != CompareTarget::Value && compares(compare, &zero)
    }

    pub(super) fn txn_refusals(&self, txn: &TxnRequest, branch: &Branch, revision: i64, compacted: i64) -> Refusals {
        let mut refusals = Refusals::NONE;
        let mut nested = branch.nested.iter();
        for op in way(txn, branch.succeeded) {
            refusals |= match &op.request {
                Some(request_op::Request::RequestRange(range)) => read_refusals(range.revision, revision, compacted),
                Some(request_op::Request::RequestPut(put)) => self.put_refusals(put, revision),
                Some(request_op::Request::RequestTxn(txn)) => {
                    let branch = nested.next().expect("each nested txn on the way has its branch");
                    self.txn_refusals(txn, branch, revision, compacted)
                }
                Some(request_op::Request::RequestDeleteRange(_)) | None => Refusals::NONE,
            };
        }
        refusals
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
        let revision = self.revision + i64::from(*changed);
        TxnResponse { header: header(revision), succeeded: branch.succeeded, responses }
    }
}

fn compares(compare: &Compare, version: &Version) -> bool {
    let number = |given: Option<i64>, actual: i64| actual.cmp(&given.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let ordering = match compare.target() {
        CompareTarget::Version => number(
            union.and_then(|union| if let TargetUnion::Version(n) = union { Some(*n) } else { None }),
            version.version,
        ),
        CompareTarget::Create => number(
            union.and_then(|union| if let TargetUnion::CreateRevision(n) = union { Some(*n) } else { None }),
            version.created,
        ),
        CompareTarget::Mod => number(
            union.and_then(|union| if let TargetUnion::ModRevision(n) = union { Some(*n) } else { None }),
            version.modified,
        ),
        CompareTarget::Lease => number(
            union.and_then(|union| if let TargetUnion::Lease(n) = union { Some(*n) } else { None }),
            version.lease,
        ),
        CompareTarget::Value => {
            let given: &[u8] = if let Some(TargetUnion::Value(value)) = union { value } else { &[] };
            version.value.as_ref().cmp(given)
        }
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
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
