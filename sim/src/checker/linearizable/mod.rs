//! Strict serializability of the KV service, in the order of revisions: near-linear, where a search is exponential.
//!
//! Every answer names the store's revision, which all but gives away the order:
//!
//! ```text
//!   revision 4        5              6          an operation that changed a key owns its revision;
//!   ─── write ─┬─ write ─┬──────── write ─┬──   what changed nothing stands after the write of its header's revision;
//!              read      compact    read         a refusal has no header: it is to be explained somewhere in its time
//! ```
//!
//! 1. No revision has two owners.
//! 2. The [model](crate::model), run in that order, gives every answer, field by field (`replay`).
//! 3. The order agrees with real time: swept by time, nothing stands before what had returned when it was invoked
//!    (`timeline`). Refusals take the earliest place that explains them, which leaves most room to later ones.
//!
//! A revision without an answered owner belongs to a write of unknown outcome. Where a value names its writer, or only
//! one write is possible, it is known which; otherwise the possible ones are tried, those that evidence proposes first,
//! and a contradiction goes back to the last choice that could have to do with it. Evidence never decides: whatever it
//! proposes has to pass 2 and 3, and without it the search goes on. A write that no revision needs never happened.
//!
//! What no placement explains is a [`Violation`]. If the search for a placement is given up, the first contradiction is
//! reported as [`Checked::undecided`].

mod footprint;
mod keyline;
mod replay;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use seedbed_core::runtime::AppliedEntry;
use seedbed_proto::etcdserverpb::{TxnResponse, response_op};

use self::replay::Replay;
use self::timeline::Timeline;
use crate::history::{History, Operation, Outcome, Request, Response};
use crate::model::{FIRST_REVISION, Refusal};
use crate::outcome::Violation;

const JUDGE: &str = "linearizable";

/// No operation.
const NOBODY: u32 = u32::MAX;

/// What the applied log says of operations of unknown outcome that changed a key or compacted, and of answered revocations
/// that changed a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placements {
    /// The store's revision after each, by operation number.
    pub revisions: BTreeMap<u64, i64>,
}

impl Placements {
    /// What applied entries say, of one member or of several.
    pub fn of_log<'a>(history: &History, entries: impl IntoIterator<Item = &'a AppliedEntry>) -> Placements {
        let unknown: BTreeMap<u64, &Request> = history
            .operations
            .iter()
            .filter(|operation| {
                operation.outcome == Outcome::Unknown || matches!(operation.request, Request::LeaseRevoke(_))
            })
            .map(|operation| (operation.id, &operation.request))
            .collect();
        let revisions = entries
            .into_iter()
            .filter(|entry| match unknown.get(&entry.operation) {
                Some(Request::Compact(_)) => entry.compacted,
                Some(_) => entry.changed,
                None => false,
            })
            .map(|entry| (entry.operation, entry.revision))
            .collect();
        Placements { revisions }
    }
}

/// What was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Answered operations that changed a key.
    pub writes: usize,
    /// Answered operations that changed none, compactions included.
    pub reads: usize,
    /// Refusals that had to be explained.
    pub refused: usize,
    /// Operations of unknown outcome that are known to have changed a key.
    pub surfaced: usize,
    /// Operations that this judge has no say in: serializable reads, and whatever ended without a claim.
    pub skipped: usize,
    /// The search was given up; this is the first contradiction that it met.
    pub undecided: Option<Violation>,
}

/// Judges a history. `evidence` speeds up the search for operations of unknown outcome.
pub fn check(history: &History, evidence: Option<&Placements>) -> Result<Checked, Violation> {
    Subject::of(&history.operations, false, evidence)?.judge(evidence)
}

/// Judges a history with its serializable reads, which have to show a state of the store, but at no certain time.
pub(super) fn check_with_serializable(history: &History, evidence: Option<&Placements>) -> Result<Checked, Violation> {
    Subject::of(&history.operations, true, evidence)?.judge(evidence)
}

/// The part that an operation plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It made this revision.
    Write(i64),
    /// It saw this revision.
    Read(i64),
    /// It saw this revision, at any time after it was made.
    Stale(i64),
    /// It compacted up to the second revision at the first.
    Compaction(i64, i64),
    /// It was refused for this reason.
    Refused(Refusal),
    /// It may have made a revision.
    UnknownWrite,
    /// It may have compacted.
    UnknownCompaction,
    /// It claims nothing.
    Mute,
}

impl Role {
    /// The revision that an answer names.
    fn revision(self) -> Option<i64> {
        match self {
            Role::Write(revision) | Role::Read(revision) | Role::Stale(revision) | Role::Compaction(revision, _) => {
                Some(revision)
            }
            _ => None,
        }
    }
}

/// An operation of unknown outcome.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    operation: u32,
    /// The greatest revision that was known to be reached when it was invoked: its own must be greater.
    floor: i64,
}

/// A history, sorted into parts.
struct Subject<'h> {
    operations: &'h [Operation],
    roles: Vec<Role>,
    /// The operation that answered for a revision.
    owners: Vec<u32>,
    /// The greatest revision that any answer names.
    top: i64,
}

impl<'h> Subject<'h> {
    fn of(
        operations: &'h [Operation],
        with_serializable: bool,
        evidence: Option<&Placements>,
    ) -> Result<Self, Violation> {
        let mut roles: Vec<Role> = operations.iter().map(|operation| role(operation, with_serializable)).collect();
        settle_revocations(operations, &mut roles, evidence);
        let mut makers = 0;
        let (mut top, mut top_place) = (FIRST_REVISION, 0);
        for (place, role) in roles.iter().enumerate() {
            let (revision, least) = match *role {
                Role::Write(revision) => (revision, FIRST_REVISION + 1),
                Role::Read(revision) | Role::Stale(revision) | Role::Compaction(revision, _) => {
                    (revision, FIRST_REVISION)
                }
                _ => (FIRST_REVISION, FIRST_REVISION),
            };
            makers += i64::from(matches!(role, Role::Write(_) | Role::UnknownWrite));
            if revision < least {
                return Err(violation(format!(
                    "{}: its header's revision must be at least {least}",
                    operations[place]
                )));
            }
            if revision > top {
                (top, top_place) = (revision, place);
            }
        }
        if top - FIRST_REVISION > makers {
            return Err(violation(format!(
                "revision {} was produced by nobody: {} reports revision {top}, but only {makers} operations can have \
                 changed a key",
                first_gap(&roles, top),
                operations[top_place]
            )));
        }
        let mut owners = vec![NOBODY; top as usize + 1];
        for (place, role) in roles.iter().enumerate() {
            if let Role::Write(revision) = *role {
                let owner = &mut owners[revision as usize];
                if *owner != NOBODY {
                    return Err(violation(format!(
                        "revision {revision} was made twice: by {} and by {}",
                        operations[*owner as usize], operations[place]
                    )));
                }
                *owner = place as u32;
            }
        }
        Ok(Subject { operations, roles, owners, top })
    }

    fn judge(&self, evidence: Option<&Placements>) -> Result<Checked, Violation> {
        let timeline = Timeline::new(self);
        // Real time alone, without whatever is not pinned to a revision: what fails here, no placement helps.
        let floors = timeline.sweep_pinned()?;
        let mut checked = Checked::default();
        for role in &self.roles {
            match role {
                Role::Write(_) => checked.writes += 1,
                Role::Read(_) | Role::Stale(_) | Role::Compaction(..) => checked.reads += 1,
                Role::Refused(_) => checked.refused += 1,
                Role::Mute => checked.skipped += 1,
                Role::UnknownWrite | Role::UnknownCompaction => {}
            }
        }
        let mut replay = Replay::new(self, &timeline, &floors, evidence)?;
        checked.undecided = replay.run()?;
        checked.surfaced = replay.surfaced();
        Ok(checked)
    }

    fn describe(&self, place: u32) -> &Operation {
        &self.operations[place as usize]
    }
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

/// The least revision up to `top` that no answered operation made.
fn first_gap(roles: &[Role], top: i64) -> i64 {
    let made: BTreeSet<i64> =
        roles.iter().filter_map(|role| if let Role::Write(revision) = role { Some(*revision) } else { None }).collect();
    (FIRST_REVISION + 1..=top).find(|revision| !made.contains(revision)).unwrap_or(top)
}

fn role(operation: &Operation, with_serializable: bool) -> Role {
    if operation.request.is_serializable() {
        return match operation.response() {
            Some(response) if with_serializable => Role::Stale(response.revision()),
            _ => Role::Mute,
        };
    }
    match &operation.outcome {
        Outcome::Ok(response) => {
            let revision = response.revision();
            match (response, &operation.request) {
                (Response::Compact(_), Request::Compact(request)) => Role::Compaction(revision, request.revision),
                (Response::Put(_), _) => Role::Write(revision),
                (Response::DeleteRange(response), _) if response.deleted > 0 => Role::Write(revision),
                (Response::Txn(response), _) if has_written(response) => Role::Write(revision),
                // The end of a lease is a deletion of keys; what else there is to leases is for the judge `lease`.
                (Response::LeaseRevoke(_), _) => Role::Read(revision),
                (
                    Response::LeaseGrant(_)
                    | Response::LeaseKeepAlive(_)
                    | Response::LeaseTimeToLive(_)
                    | Response::LeaseLeases(_),
                    _,
                ) => Role::Mute,
                _ => Role::Read(revision),
            }
        }
        Outcome::Failed { .. } if operation.request.is_of_leases() => Role::Mute,
        Outcome::Failed { code, message } => Refusal::of(*code, message).map_or(Role::Mute, Role::Refused),
        Outcome::Unknown => match &operation.request {
            Request::Compact(_) => Role::UnknownCompaction,
            request if request.may_write() => Role::UnknownWrite,
            _ => Role::Mute,
        },
    }
}

/// An answer to a revocation does not say whether there were keys to delete. Evidence does; without it, a revocation has made
/// the revision that it names if nobody else says so.
fn settle_revocations(operations: &[Operation], roles: &mut [Role], evidence: Option<&Placements>) {
    let revocation = |operation: &Operation| matches!(operation.request, Request::LeaseRevoke(_));
    if !operations.iter().any(revocation) {
        return;
    }
    let mut made: BTreeSet<i64> =
        roles.iter().filter_map(|role| if let Role::Write(revision) = role { Some(*revision) } else { None }).collect();
    for (operation, role) in operations.iter().zip(roles) {
        if let Role::Read(revision) = *role
            && revocation(operation)
        {
            let writes = match evidence {
                Some(evidence) => evidence.revisions.contains_key(&operation.id),
                None => revision > FIRST_REVISION && made.insert(revision),
            };
            *role = if writes { Role::Write(revision) } else { *role };
        }
    }
}

fn has_written(response: &TxnResponse) -> bool {
    response.responses.iter().any(|op| match &op.response {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(response)) => response.deleted > 0,
        Some(response_op::Response::ResponseTxn(response)) => has_written(response),
        Some(response_op::Response::ResponseRange(_)) | None => false,
    })
}

#[cfg(test)]
mod tests;
