//! What the members did, as seen from inside: material for the judges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use seedbed_core::raft::NodeId;
use seedbed_core::runtime::{AppliedEntry, Change, LeaseChange, Probe};

use crate::clock::true_now_ns;
use crate::history::Request;
use crate::trace;

/// Everything that the probes of one run reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Entries in the order each member applied them. A member that restarts may apply some again.
    pub applied: BTreeMap<NodeId, Vec<AppliedEntry>>,
    /// Who began to lead, in the order of events.
    pub leads: Vec<Lead>,
    /// Votes made durable, in the order of events.
    pub votes: Vec<Vote>,
    /// When the entries that granted leases, and those that ended them at their end, were applied for the first time, by index.
    pub leased: BTreeMap<u64, u64>,
    /// When monotonic clocks of members jumped forward, and how far, in virtual nanoseconds.
    pub jumps: Vec<(u64, u64)>,
    /// When revisions were applied for the first time.
    pub reached: BTreeMap<i64, u64>,
    /// What entries without a client operation have changed, by index.
    pub unasked: BTreeMap<u64, Request>,
    /// When disks did not sync, in the order of events.
    pub stalls: Vec<Stall>,
    /// When everything was healed, and what was committed after that.
    pub healed: Option<Healed>,
}

/// The healing of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healed {
    /// When, in virtual nanoseconds.
    pub at: u64,
    /// The greatest index that anybody had applied by then.
    pub applied: u64,
    /// When somebody applied an operation beyond it for the first time.
    pub committed: Option<u64>,
}

impl Healed {
    /// From the healing to the first commit after it.
    pub fn to_commit_ns(&self) -> Option<u64> {
        self.committed.map(|committed| committed - self.at)
    }
}

/// For a while, no fsync of a member returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The member.
    pub node: NodeId,
    /// From when, in virtual nanoseconds.
    pub from: u64,
    /// Until when; `u64::MAX` if it never ended.
    pub until: u64,
}

/// A member began to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The member.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// A member made its vote durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The member.
    pub node: NodeId,
    /// The term it voted in.
    pub term: u64,
    /// For whom.
    pub candidate: NodeId,
    /// Whether a quorum is known to have granted it: then the member acknowledges a leader, which it may do after having
    /// voted for another.
    pub committed: bool,
}

thread_local! {
    static EVIDENCE: RefCell<Evidence> = RefCell::default();
}

/// Takes what has been reported in the run of this thread so far; what follows is reported into an empty one.
pub fn take() -> Evidence {
    EVIDENCE.take()
}

/// Looks at what has been reported in the run of this thread so far.
pub fn with<T>(look: impl FnOnce(&Evidence) -> T) -> T {
    EVIDENCE.with_borrow(look)
}

/// From now on, no fsync of a member returns.
pub fn stalled(node: NodeId) {
    let stall = Stall { node, from: true_now_ns(), until: u64::MAX };
    EVIDENCE.with_borrow_mut(|evidence| evidence.stalls.push(stall));
}

/// A member's disk syncs again.
pub fn unstalled(node: NodeId) {
    EVIDENCE.with_borrow_mut(|evidence| {
        if let Some(stall) = evidence.stalls.iter_mut().rev().find(|stall| stall.node == node) {
            stall.until = true_now_ns();
        }
    });
}

/// A member's monotonic clock has jumped forward.
pub fn jumped(by: Duration) {
    EVIDENCE.with_borrow_mut(|evidence| evidence.jumps.push((true_now_ns(), by.as_nanos() as u64)));
}

/// Everything is healed.
pub fn healed() {
    EVIDENCE.with_borrow_mut(|evidence| {
        let applied = evidence.applied.values().flatten().map(|entry| entry.index).max().unwrap_or(0);
        evidence.healed = Some(Healed { at: true_now_ns(), applied, committed: None });
    });
}

/// Collects into the [`Evidence`] of the run, and into its trace.
#[derive(Clone, Copy, Debug)]
pub enum SimProbe {}

impl Probe for SimProbe {
    fn applied(node: NodeId, entry: AppliedEntry) {
        let AppliedEntry { index, term, operation, revision, changed, compacted, lease, digest } = entry;
        trace::record(
            "applied",
            &[
                node.0,
                index,
                term,
                operation,
                revision as u64,
                u64::from(changed),
                u64::from(compacted),
                traced(lease),
                digest,
            ],
        );
        EVIDENCE.with_borrow_mut(|evidence| {
            evidence.applied.entry(node).or_default().push(entry);
            if changed {
                evidence.reached.entry(revision).or_insert_with(true_now_ns);
            }
            if let Some(LeaseChange::Granted(_) | LeaseChange::Expired(_)) = lease {
                evidence.leased.entry(index).or_insert_with(true_now_ns);
            }
            if let Some(healed) = &mut evidence.healed
                && healed.committed.is_none()
                && operation > 0
                && index > healed.applied
            {
                healed.committed = Some(true_now_ns());
            }
        });
    }

    fn unasked(_: NodeId, index: u64, change: Change) {
        let request = match change {
            Change::Put(request) => Request::Put(request),
            Change::DeleteRange(request) => Request::DeleteRange(request),
            Change::Txn(request) => Request::Txn(request),
            Change::LeaseGrant(request) => Request::LeaseGrant(request),
            Change::LeaseRevoke(request) => Request::LeaseRevoke(request),
        };
        EVIDENCE.with_borrow_mut(|evidence| {
            evidence.unasked.entry(index).or_insert(request);
        });
    }

    fn leads(node: NodeId, term: u64) {
        trace::record("leads", &[node.0, term]);
        EVIDENCE.with_borrow_mut(|evidence| evidence.leads.push(Lead { node, term }));
    }

    fn voted(node: NodeId, term: u64, candidate: NodeId, committed: bool) {
        trace::record("voted", &[node.0, term, candidate.0, u64::from(committed)]);
        EVIDENCE.with_borrow_mut(|evidence| evidence.votes.push(Vote { node, term, candidate, committed }));
    }
}

/// What became of a lease, as a number: 0 where nothing did.
fn traced(lease: Option<LeaseChange>) -> u64 {
    let (kind, id) = match lease {
        None => return 0,
        Some(LeaseChange::Granted(id)) => (1, id),
        Some(LeaseChange::Revoked(id)) => (2, id),
        Some(LeaseChange::Expired(id)) => (3, id),
        Some(LeaseChange::Noted) => (4, 0),
    };
    (id as u64).rotate_left(3) ^ kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_collected_and_traced() {
        take();
        let hash = trace::hash();
        let entry = AppliedEntry {
            index: 1,
            term: 1,
            operation: 7,
            revision: 2,
            changed: false,
            compacted: false,
            lease: None,
            digest: 5,
        };
        SimProbe::applied(NodeId(3), entry);
        SimProbe::voted(NodeId(3), 1, NodeId(2), false);
        assert_ne!(hash, trace::hash());
        let evidence = take();
        assert_eq!(evidence.applied[&NodeId(3)], [entry]);
        assert_eq!(evidence.votes.len(), 1);
        assert_eq!(take(), Evidence::default());
    }
}
