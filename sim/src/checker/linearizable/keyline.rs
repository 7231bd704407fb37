//! The life of one key, to prove that an answer has no explanation.
//!
//! The search for placements can only convict after it has tried them all. Most contradictions concern one key, and for
//! one key all placements can be followed at once: the states that it may have at each revision, whatever the other keys
//! do. Every demand made here is made by the whole judge too, so no states left means no placement left.
//!
//! ```text
//!   revision    4            5 (gap)                6
//!   states      {#4@4}       {#4@4, #5@5, gone}     a read shows #4@4: {#4@4}; one shows #4@2: {}, convicted
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse, request_op, response_op,
};
use seedbed_proto::mvccpb::KeyValue;

use super::footprint::{Footprint, shown};
use super::{NOBODY, Subject, Unknown};
use crate::history::{Request, Response};
use crate::model::FIRST_REVISION;

/// States beyond which the proof is given up.
const STATES_MAX: usize = 10_000;

/// A key at a revision: its pair, if it lives, and which of the unknown operations it already includes, as bits.
type State<'h> = (Option<Pair<'h>>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair<'h> {
    modified: i64,
    created: i64,
    version: i64,
    lease: i64,
    value: &'h Bytes,
}

#[derive(Clone, Copy)]
enum Effect<'h> {
    Put(&'h PutRequest),
    Delete,
}

/// What an answer says of the key.
#[derive(Clone, Copy)]
enum Sight<'h> {
    Absent,
    Exactly(&'h KeyValue),
    /// Without its value.
    Bare(&'h KeyValue),
}

#[derive(Default)]
struct Moment<'h> {
    before: Vec<Sight<'h>>,
    effects: Vec<Effect<'h>>,
    after: Vec<Sight<'h>>,
}

/// Whether no placement explains what is known of one of the keys that an answered operation names or shows.
pub(super) fn refutes(subject: &Subject<'_>, unknowns: &[Unknown], forced: &BTreeMap<i64, usize>, place: u32) -> bool {
    let operation = subject.describe(place);
    let mut keys: BTreeSet<&Bytes> = Footprint::single_keys(&operation.request);
    if let Some(response) = operation.response() {
        shown(response, &mut |kv| {
            keys.insert(&kv.key);
        });
    }
    keys.into_iter().any(|key| Keyline::of(subject, key).is_impossible(subject, unknowns, forced))
}

struct Keyline<'h> {
    key: &'h Bytes,
    moments: BTreeMap<i64, Moment<'h>>,
}

impl<'h> Keyline<'h> {
    fn of(subject: &Subject<'h>, key: &'h Bytes) -> Self {
        let mut keyline = Keyline { key, moments: BTreeMap::new() };
        for (operation, role) in subject.operations.iter().zip(&subject.roles) {
            if let (Some(response), true) = (operation.response(), role.revision().is_some()) {
                keyline.add(&operation.request, response);
            }
        }
        keyline
    }

    fn at(&mut self, revision: i64) -> &mut Moment<'h> {
        self.moments.entry(revision).or_default()
    }

    fn add(&mut self, request: &'h Request, response: &'h Response) {
        let revision = response.revision();
        match (request, response) {
            (Request::Range(request), Response::Range(response)) => {
                let at = if request.revision > 0 { request.revision } else { revision };
                if let Some(sight) = self.range(request, response) {
                    self.at(at).after.push(sight);
                }
            }
            (Request::Put(request), Response::Put(response)) if request.key == *self.key => {
                if request.prev_kv {
                    let sight = response.prev_kv.as_ref().map_or(Sight::Absent, Sight::Exactly);
                    self.at(revision).before.push(sight);
                }
                self.at(revision).effects.push(Effect::Put(request));
            }
            (Request::DeleteRange(request), Response::DeleteRange(response)) if self.deletes(request) => {
                let changes = response.deleted > 0;
                let sight = match response.prev_kvs.iter().find(|kv| kv.key == *self.key) {
                    Some(kv) => Some(Sight::Exactly(kv)),
                    None if request.prev_kv || !changes => Some(Sight::Absent),
                    None => None,
                };
                let moment = self.at(revision);
                let sights = if changes { &mut moment.before } else { &mut moment.after };
                sights.extend(sight);
                if changes {
                    moment.effects.push(Effect::Delete);
                }
            }
            (Request::Txn(request), Response::Txn(response)) => {
                let (mut sights, mut effects) = (Vec::new(), Vec::new());
                self.txn(request, response, &mut sights, &mut effects);
                let moment = self.at(revision);
                if effects.is_empty() {
                    moment.after.extend(sights);
                } else {
                    // Its reads may stand on either side of its own changes.
                    moment.effects.extend(effects);
                }
            }
            _ => {}
        }
    }

    fn deletes(&self, request: &DeleteRangeRequest) -> bool {
        Footprint::spans(&request.key, &request.range_end, self.key)
    }

    fn range(&self, request: &RangeRequest, response: &'h RangeResponse) -> Option<Sight<'h>> {
        if request.count_only || !Footprint::spans(&request.key, &request.range_end, self.key) {
            return None;
        }
        let whole = request.limit == 0
            && request.min_mod_revision == 0
            && request.max_mod_revision == 0
            && request.min_create_revision == 0
            && request.max_create_revision == 0;
        match response.kvs.iter().find(|kv| kv.key == *self.key) {
            Some(kv) if request.keys_only => Some(Sight::Bare(kv)),
            Some(kv) => Some(Sight::Exactly(kv)),
            None => whole.then_some(Sight::Absent),
        }
    }

    fn txn(
        &self,
        request: &'h TxnRequest,
        response: &'h TxnResponse,
        sights: &mut Vec<Sight<'h>>,
        effects: &mut Vec<Effect<'h>>,
    ) {
        use request_op::Request as Asked;
        use response_op::Response as Answered;
        let way = if response.succeeded { &request.success } else { &request.failure };
        for (asked, answered) in way.iter().zip(&response.responses) {
            match (&asked.request, &answered.response) {
                (Some(Asked::RequestRange(request)), Some(Answered::ResponseRange(response)))
                    if request.revision <= 0 =>
                {
                    sights.extend(self.range(request, response));
                }
                (Some(Asked::RequestPut(request)), _) if request.key == *self.key => {
                    effects.push(Effect::Put(request));
                }
                (Some(Asked::RequestDeleteRange(request)), Some(Answered::ResponseDeleteRange(response)))
                    if self.deletes(request) && response.deleted > 0 =>
                {
                    effects.push(Effect::Delete);
                }
                (Some(Asked::RequestTxn(request)), Some(Answered::ResponseTxn(response))) => {
                    self.txn(request, response, sights, effects);
                }
                _ => {}
            }
        }
    }

    /// Follows every placement of the unknown operations at once.
    fn is_impossible(&self, subject: &Subject<'h>, unknowns: &[Unknown], forced: &BTreeMap<i64, usize>) -> bool {
        // Each unknown operation that may change the key, with what it may do to it.
        let mut candidates: Vec<(usize, Vec<Vec<Effect<'h>>>)> = Vec::new();
        for (filler, unknown) in unknowns.iter().enumerate() {
            let Some(ways) = self.possible(&subject.operations[unknown.operation as usize].request) else {
                return false;
            };
            if !ways.is_empty() {
                candidates.push((filler, ways));
            }
        }
        if candidates.len() > 64 {
            return false;
        }
        let free: BTreeSet<usize> = {
            let fixed: BTreeSet<usize> = forced.values().copied().collect();
            (0..unknowns.len()).filter(|filler| !fixed.contains(filler)).collect()
        };
        let nothing = Moment::default();
        let mut states: BTreeSet<State<'h>> = BTreeSet::from([(None, 0)]);
        for revision in FIRST_REVISION..=subject.top {
            let gap = revision > FIRST_REVISION && subject.owners[revision as usize] == NOBODY;
            if gap {
                let only = forced.get(&revision);
                let mut after = if only.is_some() { BTreeSet::new() } else { states.clone() };
                let mut concerns = false;
                for (bit, (filler, ways)) in candidates.iter().enumerate() {
                    let fits = match only {
                        Some(only) => only == filler,
                        None => free.contains(filler) && unknowns[*filler].floor < revision,
                    };
                    if !fits {
                        continue;
                    }
                    concerns = true;
                    for &(pair, used) in states.iter().filter(|(_, used)| used & (1 << bit) == 0) {
                        after.extend(ways.iter().map(|way| (apply(pair, way, revision), used | 1 << bit)));
                        // A txn may go a way that leaves this key alone.
                        after.insert((pair, used | 1 << bit));
                    }
                }
                if concerns {
                    states = after;
                }
            }
            let moment = self.moments.get(&revision).unwrap_or(&nothing);
            for sight in &moment.before {
                states.retain(|(pair, _)| agrees(pair, sight));
            }
            if !moment.effects.is_empty() {
                states =
                    states.into_iter().map(|(pair, used)| (apply(pair, &moment.effects, revision), used)).collect();
            }
            for sight in &moment.after {
                states.retain(|(pair, _)| agrees(pair, sight));
            }
            if states.is_empty() {
                return true;
            }
            if states.len() > STATES_MAX {
                return false;
            }
        }
        false
    }

    /// What a request may do to the key, one entry for each way that changes it. `None`: too much to follow.
    fn possible(&self, request: &'h Request) -> Option<Vec<Vec<Effect<'h>>>> {
        let effects = match request {
            Request::Put(put) if put.key == *self.key => vec![Effect::Put(put)],
            Request::DeleteRange(delete) if self.deletes(delete) => vec![Effect::Delete],
            Request::Txn(txn) => {
                let mut effects = Vec::new();
                if self.possible_in_txn(txn, &mut effects) > 1 {
                    return None;
                }
                effects
            }
            _ => Vec::new(),
        };
        Some(effects.into_iter().map(|effect| vec![effect]).collect())
    }

    /// Every effect that a txn may have on the key, and how many of them at most at once.
    fn possible_in_txn(&self, txn: &'h TxnRequest, effects: &mut Vec<Effect<'h>>) -> usize {
        let mut most = 0;
        for way in [&txn.success, &txn.failure] {
            let mut here = 0;
            for op in way {
                here += match &op.request {
                    Some(request_op::Request::RequestPut(put)) if put.key == *self.key => {
                        effects.push(Effect::Put(put));
                        1
                    }
                    Some(request_op::Request::RequestDeleteRange(delete)) if self.deletes(delete) => {
                        effects.push(Effect::Delete);
                        1
                    }
                    Some(request_op::Request::RequestTxn(nested)) => self.possible_in_txn(nested, effects),
                    _ => 0,
                };
            }
            most = most.max(here);
        }
        most
    }
}

fn apply<'h>(mut pair: Option<Pair<'h>>, effects: &[Effect<'h>], revision: i64) -> Option<Pair<'h>> {
    for effect in effects {
        pair = match effect {
            Effect::Delete => None,
            Effect::Put(put) => Some(Pair {
                modified: revision,
                created: pair.map_or(revision, |pair| pair.created),
                version: pair.map_or(1, |pair| pair.version + 1),
                lease: pair.filter(|_| put.ignore_lease).map_or(put.lease, |pair| pair.lease),
                value: pair.filter(|_| put.ignore_value).map_or(&put.value, |pair| pair.value),
            }),
        };
    }
    pair
}

fn agrees(pair: &Option<Pair<'_>>, sight: &Sight<'_>) -> bool {
    let same = |pair: &Pair<'_>, kv: &KeyValue| {
        pair.modified == kv.mod_revision
            && pair.created == kv.create_revision
            && pair.version == kv.version
            && pair.lease == kv.lease
    };
    match (pair, sight) {
        (None, Sight::Absent) => true,
        (Some(pair), Sight::Exactly(kv)) => same(pair, kv) && *pair.value == kv.value,
        (Some(pair), Sight::Bare(kv)) => same(pair, kv) && kv.value.is_empty(),
        _ => false,
    }
}
