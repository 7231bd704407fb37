//! The conditions of a txn.

use std::cmp::Ordering;

use bytes::Bytes;

use super::error::StoreError;
use super::index::Index;
use super::key_index::Found;
use super::key_range::KeyRange;
use super::range::Rows;
use crate::proto::etcdserverpb::Compare;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Whether a condition holds as of `main`: for each key of its range, or, if there is none, for the zero of its target.
///
/// A value has no zero: a missing key's value compares as false, whichever way it is compared. Numbers that name no target
/// or no result are taken as etcd takes them: such a target equals every operand, such a result holds for every order.
pub(crate) fn holds(index: &Index, main: i64, rows: &impl Rows, compare: &Compare) -> Result<bool, StoreError> {
    let mut exists = false;
    for (key, found) in index.range(KeyRange::new(&compare.key, &compare.range_end), main) {
        exists = true;
        if !judge(compare, order_of(compare, key, found, rows)?) {
            return Ok(false);
        }
    }
    if exists {
        return Ok(true);
    }
    Ok(match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => false,
        Ok(_) => judge(compare, 0.cmp(&operand(compare))),
        Err(_) => judge(compare, Ordering::Equal),
    })
}

/// How the key's property lies to the operand.
fn order_of(compare: &Compare, key: &Bytes, found: Found, rows: &impl Rows) -> Result<Ordering, StoreError> {
    let Ok(target) = CompareTarget::try_from(compare.target) else { return Ok(Ordering::Equal) };
    Ok(match target {
        CompareTarget::Version => found.version.cmp(&operand(compare)),
        CompareTarget::Create => found.created.cmp(&operand(compare)),
        CompareTarget::Mod => found.modified.main.cmp(&operand(compare)),
        CompareTarget::Lease => rows.key_value(key, found)?.lease.cmp(&operand(compare)),
        CompareTarget::Value => {
            let value = rows.key_value(key, found)?.value;
            match &compare.target_union {
                Some(TargetUnion::Value(operand)) => value.cmp(operand),
                _ => value[..].cmp(&[]),
            }
        }
    })
}

/// The number to compare with. As in etcd it is 0 if the request carries none, or one of another target.
fn operand(compare: &Compare) -> i64 {
    match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(operand)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(operand)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(operand)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(operand))) => *operand,
        _ => 0,
    }
}

fn judge(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
