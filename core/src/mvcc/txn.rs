//! Transactions.
//!
//! ```text
//!  decide    every condition, nested ones too, against the state before the txn: which branches run
//!  check     every operation of those branches against the same state: whether any is refused; puts before ranges, since
//!            of several refusals etcd names the first that it finds so
//!  apply     the operations in order, each seeing the ones before it, all under one revision
//! ```
//!
//! A txn is refused as a whole and before its first write, by every member alike (etcd #18667: a range at a compacted
//! revision, found only in the middle of applying, left members with different halves). One refusal shows only in the
//! middle, where etcd 3.4 panics: of a put that needs a key which the txn itself has deleted. What was applied before it is
//! taken back.

use super::Refusal;
use super::batch::Batch;
use super::compare::holds;
use super::error::{ApplyError, StoreError};
use super::range::{Readable, header, select};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{PutRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse};
use crate::runtime::Disk;

/// What a txn will do: its branch, and those of the txns in it.
struct Plan<'a> {
    succeeded: bool,
    operations: &'a [RequestOp],
    /// For each operation that is a txn, in order.
    nested: Vec<Plan<'a>>,
}

impl Plan<'_> {
    /// Visits the operations that will run, in their order, those of nested txns in their place. Ends at the first refusal.
    fn visit(&self, visit: &mut impl FnMut(&Request) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut nested = self.nested.iter();
        for operation in self.operations.iter().filter_map(|operation| operation.request.as_ref()) {
            match operation {
                Request::RequestTxn(_) => next(&mut nested).visit(visit)?,
                _ => visit(operation)?,
            }
        }
        Ok(())
    }
}

impl<D: Disk> Batch<D> {
    /// Runs a txn. One that changes nothing keeps the revision.
    ///
    /// Headers are filled as etcd fills them: that of the txn with the revision after it, those of its operations with
    /// the revision as the operation saw it, those of nested txns not at all.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, ApplyError> {
        let plan = self.decide(request)?;
        self.check_puts(&plan)?;
        self.check_ranges(&plan)?;
        let mut response = self.atomically(|batch| batch.apply(&plan))?;
        response.header = header(self.revision());
        Ok(response)
    }

    fn decide<'a>(&self, txn: &'a TxnRequest) -> Result<Plan<'a>, StoreError> {
        let succeeded = {
            let visible = self.inner.visible();
            let mut succeeded = true;
            for compare in &txn.compare {
                succeeded = holds(&visible.index, self.revision(), &self.rows(), compare)?;
                if !succeeded {
                    break;
                }
            }
            succeeded
        };
        let operations = if succeeded { &txn.success } else { &txn.failure };
        let nested = operations
            .iter()
            .filter_map(|operation| match &operation.request {
                Some(Request::RequestTxn(nested)) => Some(self.decide(nested)),
                _ => None,
            })
            .collect::<Result<_, _>>()?;
        Ok(Plan { succeeded, operations, nested })
    }

    fn check_puts(&self, plan: &Plan<'_>) -> Result<(), Refusal> {
        plan.visit(&mut |operation| match operation {
            Request::RequestPut(put) => self.check_put(put),
            _ => Ok(()),
        })
    }

    fn check_ranges(&self, plan: &Plan<'_>) -> Result<(), Refusal> {
        plan.visit(&mut |operation| match operation {
            Request::RequestRange(range) => check_range_revision(self.readable(), range.revision),
            _ => Ok(()),
        })
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), Refusal> {
        let needs_key = put.ignore_value || put.ignore_lease;
        if needs_key && self.inner.visible().index.get(&put.key, self.revision()).is_none() {
            return Err(Refusal::KeyNotFound(put.key.clone()));
        }
        self.check_lease(put.lease)
    }

    fn apply(&mut self, plan: &Plan<'_>) -> Result<TxnResponse, ApplyError> {
        let mut nested = plan.nested.iter();
        let mut responses = Vec::with_capacity(plan.operations.len());
        for operation in plan.operations {
            let response = match &operation.request {
                Some(Request::RequestRange(range)) => {
                    let selection = select(&self.inner.visible().index, self.readable(), range)?;
                    Some(Response::ResponseRange(selection.fetch(&self.rows())?))
                }
                Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.apply_put(put)?)),
                Some(Request::RequestDeleteRange(delete)) => {
                    Some(Response::ResponseDeleteRange(self.apply_delete_range(delete)?))
                }
                Some(Request::RequestTxn(_)) => Some(Response::ResponseTxn(self.apply(next(&mut nested))?)),
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded: plan.succeeded, responses })
    }
}

/// Stricter than a range outside of a txn, as in etcd: there, a negative revision means the current one.
pub(super) fn check_range_revision(readable: Readable, requested: i64) -> Result<(), Refusal> {
    let compacted = readable.compacted;
    if requested < 0 && requested < compacted {
        return Err(Refusal::Compacted { requested, compacted });
    }
    readable.resolve(requested).map(|_| ())
}

fn next<'p, 'a>(nested: &mut impl Iterator<Item = &'p Plan<'a>>) -> &'p Plan<'a>
where
    'a: 'p,
{
    nested.next().expect("a plan has been made for each nested txn")
}
