//! What no client operation has asked for, as operations: ends of leases, and what locks, elections and those who use them have
//! done to keys.

use std::collections::BTreeMap;

use seedbed_core::runtime::AppliedEntry;

use crate::history::{History, Operation, Outcome, Request};

/// A history with the changes of keys that are in nobody's history, as operations of nobody whose outcome is unknown; and what
/// was applied, where these have their numbers. For judges who know operations and keys, and nothing else. `unasked` says what
/// the entries at these indices ask for.
pub fn as_operations(
    history: &History,
    applied: &[AppliedEntry],
    unasked: &BTreeMap<u64, Request>,
) -> (History, Vec<AppliedEntry>) {
    let mut history = history.clone();
    let mut next = history.operations.iter().map(|operation| operation.id).max().unwrap_or(0) + 1;
    let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
    let named = |entry: &AppliedEntry| {
        let request = unasked.get(&entry.index).filter(|_| entry.operation == 0 && entry.changed);
        let Some(request) = request else { return *entry };
        let operation = *numbers.entry(entry.index).or_insert_with(|| {
            history.operations.push(of_nobody(next, request.clone()));
            next += 1;
            next - 1
        });
        AppliedEntry { operation, ..*entry }
    };
    let applied = applied.iter().map(named).collect();
    (history, applied)
}

fn of_nobody(number: u64, request: Request) -> Operation {
    Operation {
        id: number,
        client: 0,
        member: 0,
        incarnation: 0,
        // Nobody knows when it was asked for. Where it stands in time is for judges who do.
        invoked: 0,
        returned: 0,
        request,
        path: Default::default(),
        cached: false,
        outcome: Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use seedbed_core::runtime::LeaseChange;
    use seedbed_proto::etcdserverpb::LeaseRevokeRequest;

    use super::*;

    #[test]
    fn what_changes_a_key_becomes_an_operation_of_nobody() {
        let revoke = |id| Request::LeaseRevoke(LeaseRevokeRequest { id });
        let entry = |index, changed| AppliedEntry {
            index,
            term: 1,
            operation: 0,
            revision: 1,
            changed,
            compacted: false,
            lease: Some(LeaseChange::Expired(index as i64)),
            digest: 0,
        };
        let log = [entry(1, true), entry(2, false), entry(1, true)];
        let unasked = BTreeMap::from([(1, revoke(1)), (2, revoke(2))]);
        let (history, named) = as_operations(&History::default(), &log, &unasked);
        history.validate().expect("it can be judged");
        let [added] = &history.operations[..] else { panic!("{:?}", history.operations) };
        assert_eq!(added.request, revoke(1), "the second one had no keys");
        let numbers: Vec<u64> = named.iter().map(|entry| entry.operation).collect();
        assert_eq!(numbers, [added.id, 0, added.id], "once, in each member's log");
    }
}
