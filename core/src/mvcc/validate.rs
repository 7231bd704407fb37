//! What is wrong with a request, whatever the store holds.
//!
//! Checked by whoever serves a client, before anything is proposed. The checks and their order are etcd's: of several
//! faults a client is told the same one.

use std::collections::BTreeSet;

use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// etcd's default for the operations in one list of a txn.
pub const TXN_OPS_MAX: usize = 128;

/// Levels of txns within txns. A level takes two of the hundred levels of messages that are decoded at all, which protects
/// the stack, and an answer has one more at its end.
pub const TXN_LEVELS_MAX: usize = 49;

/// A fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// etcd's `key is not provided`.
    #[error("the key is empty")]
    EmptyKey,
    /// etcd's `value is provided`: together with `ignore_value`.
    #[error("a value is given, though it is to be ignored")]
    ValueProvided,
    /// etcd's `lease is provided`: together with `ignore_lease`.
    #[error("a lease is given, though it is to be ignored")]
    LeaseProvided,
    /// etcd's `too many operations in txn request`.
    #[error("there are too many operations in the txn")]
    TooManyOps,
    /// etcd's `duplicate key given in txn request`.
    #[error("a key is put twice, or put and deleted, in the txn")]
    DuplicateKey,
    /// etcd's `invalid sort option`.
    #[error("there is no such sort order or target")]
    InvalidSortOption,
    /// An operation of a txn that is none. etcd says `key not found`.
    #[error("an operation of the txn is empty")]
    EmptyOp,
}

/// Checks a range.
pub fn range(request: &RangeRequest) -> Result<(), Invalid> {
    check_key(&request.key)?;
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Invalid::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
pub fn put(request: &PutRequest) -> Result<(), Invalid> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Invalid> {
    check_key(&request.key)
}

/// Checks a txn, in which no list may have more than so many operations. What a level's longest list takes is not
/// there for the txns nested in it, of which there may be [`TXN_LEVELS_MAX`] levels, the request's own included.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Invalid> {
    check_txn(request, ops_max, TXN_LEVELS_MAX)?;
    // After the number of operations is known to be small.
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), Invalid> {
    if key.is_empty() { Err(Invalid::EmptyKey) } else { Ok(()) }
}

fn check_txn(request: &TxnRequest, ops_max: usize, levels_max: usize) -> Result<(), Invalid> {
    let nested_levels_max = levels_max.checked_sub(1).ok_or(Invalid::TooManyOps)?;
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let nested_max = ops_max.checked_sub(longest).ok_or(Invalid::TooManyOps)?;
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => check_txn(request, nested_max, nested_levels_max)?,
            None => return Err(Invalid::EmptyOp),
        }
    }
    Ok(())
}

/// What a list of operations may change.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletions: Vec<&'a DeleteRangeRequest>,
}

impl<'a> Changes<'a> {
    fn deletes(&self, key: &[u8]) -> bool {
        self.deletions.iter().any(|deletion| deletes(deletion, key))
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Invalid> {
        if self.deletes(key) || !self.puts.insert(key) { Err(Invalid::DuplicateKey) } else { Ok(()) }
    }
}

/// Whether a deletion counts as overlapping with a put of the key.
///
/// An end that is not above the start makes an empty range, which overlaps with nothing. An end of one zero byte is
/// compared as it stands here, in etcd as well, though the deletion then reaches to the last key: such a txn is accepted,
/// and its operations take effect in their order.
fn deletes(deletion: &DeleteRangeRequest, key: &[u8]) -> bool {
    match (&deletion.key[..], &deletion.range_end[..]) {
        (start, []) => key == start,
        (start, end) => start <= key && key < end,
    }
}

/// What the operations may change; an error if a key may be put twice, or put and deleted.
///
/// The branches of a nested txn exclude each other, so each counts against the operations around it but not against the
/// other. As in etcd, deletions of a nested txn count against the puts of later nested txns only, and of this level.
fn changes(operations: &[RequestOp]) -> Result<Changes<'_>, Invalid> {
    let mut all = Changes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(deletion)) = &operation.request {
            all.deletions.push(deletion);
        }
    }
    for operation in operations {
        if let Some(Request::RequestTxn(nested)) = &operation.request {
            let (then, otherwise) = (changes(&nested.success)?, changes(&nested.failure)?);
            for key in &then.puts {
                all.put(key)?;
            }
            for key in otherwise.puts.difference(&then.puts) {
                all.put(key)?;
            }
            all.deletions.extend(then.deletions);
            all.deletions.extend(otherwise.deletions);
        }
    }
    for operation in operations {
        if let Some(Request::RequestPut(put)) = &operation.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

#[cfg(test)]
#[path = "tests/validate.rs"]
mod tests;
