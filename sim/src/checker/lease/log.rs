//! The log, followed by the model; and whether its order agrees with real time.

use std::collections::{BTreeMap, BTreeSet};

use seedbed_core::runtime::{AppliedEntry, LeaseChange};
use seedbed_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeRequest, LeaseTimeToLiveResponse,
};

use super::{Circumstances, LeaseCounts, violation};
use crate::history::{History, Operation, Outcome, Request, Response};
use crate::model::{FIRST_REVISION, Kv, Refusal, difference};
use crate::outcome::Violation;

/// One life of a lease: its number may be granted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) id: i64,
    /// Seconds that it was granted for.
    pub(super) ttl: i64,
    /// The index of its grant.
    pub(super) granted: u64,
    /// The index at which it ended, and whether that was at its end.
    pub(super) ended: Option<(u64, bool)>,
    /// The places in the history of the renewals that were answered.
    pub(super) renewals: Vec<usize>,
}

impl Life {
    fn is_alive(&self, index: u64) -> bool {
        self.granted <= index && self.ended.is_none_or(|(ended, _)| index < ended)
    }
}

/// The log, as the model has followed it.
pub(super) struct Followed<'h> {
    pub(super) operations: &'h [Operation],
    pub(super) circumstances: &'h Circumstances,
    pub(super) lives: Vec<Life>,
    /// Of questions what is left, by their place in the history, the lives that they were about, where that is known.
    pub(super) told: Vec<(usize, usize)>,
    pub(super) counts: LeaseCounts,
    kv: Kv,
    /// By number, the places in `lives`, in order.
    by_id: BTreeMap<i64, Vec<usize>>,
    /// The index that made a revision.
    makers: BTreeMap<i64, u64>,
    /// Where operations stand in the log, by their place in the history.
    indices: BTreeMap<usize, u64>,
    /// The operation of an entry that did something to a lease; none, if it is a server's.
    changes: BTreeMap<u64, Option<usize>>,
}

impl<'h> Followed<'h> {
    pub(super) fn follow(history: &'h History, circumstances: &'h Circumstances) -> Result<Self, Violation> {
        let operations = &history.operations[..];
        let places: BTreeMap<u64, usize> =
            operations.iter().enumerate().map(|(place, operation)| (operation.id, place)).collect();
        let mut followed = Followed {
            operations,
            circumstances,
            lives: Vec::new(),
            told: Vec::new(),
            counts: LeaseCounts::default(),
            kv: Kv::following_leases(),
            by_id: BTreeMap::new(),
            makers: BTreeMap::from([(FIRST_REVISION, 0)]),
            indices: BTreeMap::new(),
            changes: BTreeMap::new(),
        };
        for entry in circumstances.applied.values() {
            followed.entry(entry, places.get(&entry.operation).copied())?;
        }
        Ok(followed)
    }

    fn entry(&mut self, entry: &AppliedEntry, place: Option<usize>) -> Result<(), Violation> {
        if entry.lease == Some(LeaseChange::Noted) {
            self.counts.noted += 1;
        }
        let asked = place.map(|place| &self.operations[place].request);
        let request = match (asked.or(self.circumstances.unasked.get(&entry.index)), entry.lease) {
            (Some(Request::LeaseGrant(asked)), lease) => {
                let chosen = match lease {
                    Some(LeaseChange::Granted(id)) if asked.id == 0 => id,
                    // A number that a member had chosen, and that there was already: it chooses another.
                    None if asked.id == 0 => return Ok(()),
                    _ => asked.id,
                };
                Request::LeaseGrant(LeaseGrantRequest { id: chosen, ttl: asked.ttl.max(self.circumstances.ttl_min) })
            }
            // What has no say in this: reads through the log, membership, what members publish.
            (None | Some(Request::Range(_)), _) => return Ok(()),
            (Some(request), _) => request.clone(),
        };
        let before = self.kv.revision();
        let keys = match request {
            Request::LeaseRevoke(LeaseRevokeRequest { id }) => self.kv.keys_of_lease(id, before).len(),
            _ => 0,
        };
        let applied = self.kv.apply(&request);
        let shown = || match place {
            Some(place) => self.operations[place].to_string(),
            None => format!("a member's own \"{request}\""),
        };
        let revision = self.kv.revision();
        if revision != entry.revision {
            return Err(violation(format!(
                "entry {} of the log leads to revision {revision}, and the store says {}: {}",
                entry.index,
                entry.revision,
                shown()
            )));
        }
        match (place.map(|place| &self.operations[place].outcome), &applied) {
            (Some(Outcome::Ok(got)), Ok(expected)) => {
                if let Some(difference) = difference(expected, got) {
                    return Err(violation(format!("in the order of the log, {}: {difference}", shown())));
                }
            }
            (Some(Outcome::Ok(_)), Err(refusals)) => {
                let refusals: Vec<_> = refusals.iter().collect();
                return Err(violation(format!(
                    "in the order of the log, it should have been refused ({refusals:?}): {}",
                    shown()
                )));
            }
            (Some(Outcome::Failed { code, message }), Err(refusals))
                if Refusal::of(*code, message).is_some_and(|refusal| refusals.contains(refusal)) => {}
            (Some(Outcome::Failed { .. }), _) => {
                return Err(violation(format!("in the order of the log, there was no such reason: {}", shown())));
            }
            (Some(Outcome::Unknown) | None, _) => {}
        }
        if revision > before {
            self.makers.insert(revision, entry.index);
        }
        if let Some(place) = place {
            self.indices.insert(place, entry.index);
        }
        if applied.is_ok() {
            self.lease_changed(entry, &request, place, keys);
        }
        Ok(())
    }

    fn lease_changed(&mut self, entry: &AppliedEntry, request: &Request, place: Option<usize>, keys: usize) {
        match request {
            Request::LeaseGrant(LeaseGrantRequest { id, ttl }) => {
                self.counts.granted += 1;
                self.by_id.entry(*id).or_default().push(self.lives.len());
                self.lives.push(Life { id: *id, ttl: *ttl, granted: entry.index, ended: None, renewals: Vec::new() });
            }
            Request::LeaseRevoke(LeaseRevokeRequest { id }) => {
                let expired = matches!(entry.lease, Some(LeaseChange::Expired(_)));
                *(if expired { &mut self.counts.expired } else { &mut self.counts.revoked }) += 1;
                self.counts.keys += keys as u64;
                let last = self.by_id.get(id).and_then(|lives| lives.last()).copied();
                if let Some(life) = last.and_then(|last| self.lives.get_mut(last)) {
                    life.ended = Some((entry.index, expired));
                }
            }
            _ => return,
        }
        self.changes.insert(entry.index, place);
    }

    /// Sweeps by time, with the greatest index among what has returned.
    pub(super) fn sweep(&mut self) -> Result<(), Violation> {
        let operations = self.operations;
        let mut by_invocation: Vec<usize> = (0..operations.len()).collect();
        by_invocation.sort_by_key(|place| operations[*place].invoked);
        let mut by_return: Vec<usize> =
            (0..operations.len()).filter(|place| operations[*place].outcome != Outcome::Unknown).collect();
        by_return.sort_by_key(|place| operations[*place].returned);
        let mut returns = by_return.into_iter().peekable();
        let mut stands: BTreeMap<usize, u64> = BTreeMap::new();
        let (mut reached, mut reached_by) = (0, None);
        for place in by_invocation {
            let operation = &operations[place];
            while let Some(other) = returns.next_if(|other| operations[*other].returned < operation.invoked) {
                let index = stands.remove(&other).or_else(|| self.indices.get(&other).copied());
                if let Some(index) = index.filter(|index| *index > reached) {
                    (reached, reached_by) = (index, Some(other));
                }
            }
            match self.indices.get(&place) {
                Some(index) if *index <= reached => {
                    return Err(violation(format!(
                        "the log goes back: {operation} took effect at entry {index}, but {} had returned, at entry \
                         {reached}",
                        reached_by.map_or_else(String::new, |place: usize| operations[place].to_string()),
                    )));
                }
                Some(_) => {}
                None => {
                    if let Some(index) = self.place(place, reached)? {
                        stands.insert(place, index);
                    }
                }
            }
        }
        Ok(())
    }

    /// The earliest place of an operation without an entry; none, if it says nothing of leases and revisions.
    fn place(&mut self, place: usize, reached: u64) -> Result<Option<u64>, Violation> {
        let operation = &self.operations[place];
        let response = match &operation.outcome {
            Outcome::Ok(response) => response,
            Outcome::Failed { code, message } => {
                return Refusal::of(*code, message)
                    .map_or(Ok(None), |reason| self.place_refused(operation, reason, reached));
            }
            Outcome::Unknown => return Ok(None),
        };
        if is_logged(&operation.request) {
            return Err(violation(format!("it was acknowledged, and is in no log: {operation}")));
        }
        let Some((first, last)) = self.while_at(response.revision()) else {
            return Err(violation(format!("nobody has made revision {}: {operation}", response.revision())));
        };
        let from = reached.max(first);
        let index = match (&operation.request, response) {
            (request, _) if request.is_serializable() => return Ok(None),
            (Request::LeaseKeepAlive(asked), Response::LeaseKeepAlive(response)) if asked.id == response.id => {
                // Its revision is an earlier one.
                let index = self.earliest(operation, from, u64::MAX, |this, index| this.kept(response, index));
                if response.ttl > 0 {
                    self.counts.renewed += 1;
                    if let [life] = self.lives_seen(operation, response.id, from)[..] {
                        self.lives[life].renewals.push(place);
                    }
                }
                index
            }
            (Request::LeaseTimeToLive(asked), Response::LeaseTimeToLive(response)) if asked.id == response.id => {
                let keys = asked.keys;
                if let [life] = self.lives_seen(operation, response.id, from)[..] {
                    self.told.push((place, life));
                }
                self.earliest(operation, from, last, |this, index| this.left(response, keys, index))
            }
            (Request::LeaseLeases(_), Response::LeaseLeases(response)) => {
                self.earliest(operation, from, last, |this, index| this.listed(response, index))
            }
            (Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_), _) => {
                return Err(violation(format!("it is answered for another lease: {operation}")));
            }
            _ => Some(from).filter(|from| *from <= last),
        };
        match index {
            Some(index) => Ok(Some(index)),
            None => Err(violation(format!(
                "no moment explains it: {operation}, with everything up to entry {reached} of the log behind it, and \
                 revision {} made by entry {first}",
                response.revision()
            ))),
        }
    }

    /// The earliest place of a refusal without an entry, where it is about leases.
    fn place_refused(&self, operation: &Operation, reason: Refusal, reached: u64) -> Result<Option<u64>, Violation> {
        let wanting = match reason {
            Refusal::LeaseNotFound => true,
            Refusal::LeaseExists => false,
            Refusal::Compacted | Refusal::FutureRevision | Refusal::KeyNotFound => return Ok(None),
        };
        let named = operation.request.leases();
        let holds = |this: &Self, index: u64| named.iter().any(|id| this.life_at(*id, index).is_none() == wanting);
        match self.earliest(operation, reached, u64::MAX, holds) {
            Some(index) => Ok(Some(index)),
            None => Err(violation(format!(
                "at no moment was there that reason: {operation}, with everything up to entry {reached} of the log behind it"
            ))),
        }
    }

    /// The entries at which the store stood at a revision, the first and the last, if somebody has made it.
    fn while_at(&self, revision: i64) -> Option<(u64, u64)> {
        let first = self.makers.get(&revision).copied()?;
        let last = self.makers.get(&(revision + 1)).map_or(u64::MAX, |next| next - 1);
        Some((first, last))
    }

    /// The first index at which something holds, among those where it may begin to, that the operation can have seen.
    fn earliest(&self, operation: &Operation, from: u64, last: u64, holds: impl Fn(&Self, u64) -> bool) -> Option<u64> {
        if from > last {
            return None;
        }
        let later = self.changes.range(from + 1..).take_while(|(index, _)| **index <= last);
        let mut candidates = [from].into_iter().chain(later.map(|(index, _)| *index));
        candidates.find(|index| self.can_have_seen(operation, *index) && holds(self, *index))
    }

    /// The lives of a number that an operation can have seen: of which one it was is not known, if they are several.
    fn lives_seen(&self, operation: &Operation, id: i64, from: u64) -> Vec<usize> {
        let lives = self.by_id.get(&id).into_iter().flatten().copied();
        let seen = |life: &usize| {
            let Life { granted, ended, .. } = self.lives[*life];
            ended.is_none_or(|(ended, _)| ended > from) && self.can_have_seen(operation, granted)
        };
        lives.filter(seen).collect()
    }

    /// Whether the change at an index was asked for, or, if it was a server's own, applied, before an operation returned.
    fn can_have_seen(&self, operation: &Operation, index: u64) -> bool {
        match self.changes.get(&index) {
            None => true,
            Some(Some(place)) => self.operations[*place].invoked <= operation.returned,
            Some(None) => {
                let applied = self.circumstances.leased.get(&index);
                applied.is_none_or(|applied| *applied <= operation.returned)
            }
        }
    }

    fn life_at(&self, id: i64, index: u64) -> Option<usize> {
        self.by_id.get(&id)?.iter().copied().find(|life| self.lives[*life].is_alive(index))
    }

    fn kept(&self, response: &LeaseKeepAliveResponse, index: u64) -> bool {
        match self.life_at(response.id, index) {
            Some(life) => response.ttl == self.lives[life].ttl,
            None => response.ttl == 0,
        }
    }

    fn left(&self, response: &LeaseTimeToLiveResponse, with_keys: bool, index: u64) -> bool {
        match self.life_at(response.id, index) {
            Some(life) => {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                let keys = if with_keys { self.kv.keys_of_lease(response.id, revision) } else { Vec::new() };
                response.ttl >= 0 && response.granted_ttl == self.lives[life].ttl && response.keys == keys
            }
            None => response.ttl == -1 && response.granted_ttl == 0 && response.keys.is_empty(),
        }
    }

    fn listed(&self, response: &LeaseLeasesResponse, index: u64) -> bool {
        let alive = self.lives.iter().filter(|life| life.is_alive(index)).map(|life| life.id);
        let listed: BTreeSet<i64> = response.leases.iter().map(|lease| lease.id).collect();
        listed.len() == response.leases.len() && listed == alive.collect()
    }
}

/// Whether an answer says that there is an entry.
fn is_logged(request: &Request) -> bool {
    match request {
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_) => true,
        Request::Txn(_) => request.may_write(),
        _ => false,
    }
}
