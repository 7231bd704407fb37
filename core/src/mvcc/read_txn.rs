//! Transactions that change nothing, whichever branch they take: answered from what is visible, without a batch.

use super::Store;
use super::compare::holds;
use super::error::ApplyError;
use super::range::{header, select};
use super::txn::check_range_revision;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse};
use crate::runtime::Disk;

/// Whether a txn holds nothing but ranges. A nested txn counts as a change, as in etcd, whatever is in it.
pub fn reads_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| range_of(operation).is_some())
}

fn range_of(operation: &RequestOp) -> Option<&RangeRequest> {
    match &operation.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    }
}

impl<D: Disk> Store<D> {
    /// Runs a txn that [only reads](reads_only), in one moment's state. Other operations are left out of the response.
    pub fn read_txn(&self, txn: &TxnRequest) -> Result<TxnResponse, ApplyError> {
        self.inner.backend.check()?;
        let (succeeded, current, selections, view) = {
            let visible = self.inner.visible();
            let readable = visible.state.readable();
            let view = visible.view(&self.inner.backend)?;
            let mut succeeded = true;
            for compare in &txn.compare {
                succeeded = holds(&visible.index, readable.current, &*view, compare)?;
                if !succeeded {
                    break;
                }
            }
            let branch = if succeeded { &txn.success } else { &txn.failure };
            let ranges = || branch.iter().filter_map(range_of);
            ranges().try_for_each(|range| check_range_revision(readable, range.revision))?;
            let selections =
                ranges().map(|range| select(&visible.index, readable, range)).collect::<Result<Vec<_>, _>>()?;
            (succeeded, readable.current, selections, view)
        };
        let mut responses = Vec::with_capacity(selections.len());
        for selection in selections {
            responses.push(ResponseOp { response: Some(Response::ResponseRange(selection.fetch(&*view)?)) });
        }
        Ok(TxnResponse { header: header(current), succeeded, responses })
    }
}
