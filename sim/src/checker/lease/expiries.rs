//! Ends of leases as operations: deletions of keys that no client has asked for.

use std::collections::BTreeMap;

use seedbed_core::runtime::{AppliedEntry, LeaseChange};
use seedbed_proto::etcdserverpb::LeaseRevokeRequest;

use crate::history::{History, Operation, Outcome, Request};

/// A history with the ends of leases that changed a key, as operations of nobody whose outcome is unknown; and what was
/// applied, where these have their numbers. For judges who know operations and keys, and not leases.
pub fn as_operations(history: &History, applied: &[AppliedEntry]) -> (History, Vec<AppliedEntry>) {
    let mut history = history.clone();
    let mut next = history.operations.iter().map(|operation| operation.id).max().unwrap_or(0) + 1;
    let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
    let named = |entry: &AppliedEntry| {
        let Some(LeaseChange::Expired(id)) = entry.lease.filter(|_| entry.changed) else { return *entry };
        let operation = *numbers.entry(entry.index).or_insert_with(|| {
            history.operations.push(of_nobody(next, id));
            next += 1;
            next - 1
        });
        AppliedEntry { operation, ..*entry }
    };
    let applied = applied.iter().map(named).collect();
    (history, applied)
}

fn of_nobody(number: u64, id: i64) -> Operation {
    Operation {
        id: number,
        client: 0,
        member: 0,
        incarnation: 0,
        // It is not asked for: where it stands in time is for the judge of leases.
        invoked: 0,
        returned: 0,
        request: Request::LeaseRevoke(LeaseRevokeRequest { id }),
        path: Default::default(),
        outcome: Outcome::Unknown,
    }
}
