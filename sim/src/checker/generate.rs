//! Legal histories of any size, from a seed: what tests mutate and benches measure.
//!
//! Clients run concurrently in virtual time; each operation takes effect on the [model](crate::model) at a moment of its
//! own between its invocation and its return. Some lose their answer: those take effect in time, late, or never.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};

use super::linearizable::Placements;
use crate::history::{History, Operation, Outcome, Request, Response, VERSION, value_of};
use crate::model::Kv;
use crate::plan::Mix;

/// What kind of history.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many clients.
    pub clients: u64,
    /// Operations of all clients together.
    pub operations: usize,
    /// How many different keys.
    pub keys: u64,
    /// Members that serve.
    pub members: u64,
    /// Operations in a thousand whose outcome nobody learns: of writes and compactions.
    pub unknown_permille: u32,
    /// Requests in a thousand with unusual options: past revisions, filters, orders, limits, ignored values.
    pub unusual_permille: u32,
    /// The greatest time that an operation takes to its effect, and from there to its return, in nanoseconds.
    pub latency: u64,
    /// How often each kind of operation is drawn.
    pub mix: Mix,
}

impl Shape {
    /// What a busy cluster sees: 64 clients, reads and writes in equal parts.
    pub fn busy(clients: u64, operations: usize) -> Shape {
        Shape {
            clients,
            operations,
            keys: 1000,
            members: 3,
            unknown_permille: 50,
            unusual_permille: 50,
            latency: 1_000_000,
            mix: Mix { get: 400, range: 40, put: 440, delete: 40, txn: 80, ..Default::default() },
        }
    }
}

/// A legal history, and how it came about.
#[derive(Debug)]
pub struct Generated {
    /// What clients saw.
    pub history: History,
    /// Where each operation of unknown outcome took effect, if it did.
    pub placements: Placements,
    /// The state after the last operation.
    pub last: Kv,
}

/// Makes the legal history of a seed.
pub fn generate(seed: u64, shape: &Shape) -> Generated {
    let mut run = Run {
        shape,
        rng: Pcg64::seed_from_u64(seed),
        keys: (0..shape.keys).map(|key| format!("k{key:04}").into()).collect(),
        kv: Kv::new(),
        operations: Vec::with_capacity(shape.operations),
        placements: Placements::default(),
        applied: BTreeMap::new(),
    };
    // Events by time; at equal times by the order of their making.
    let mut events: BinaryHeap<Reverse<(u64, u64, Event)>> = BinaryHeap::new();
    let mut made = 0;
    let mut at = |events: &mut BinaryHeap<_>, time, event| {
        events.push(Reverse((time, made, event)));
        made += 1;
    };
    for client in 0..shape.clients {
        let time = run.rng.random_range(0..shape.latency);
        at(&mut events, time, Event::Invoke(client));
    }
    while let Some(Reverse((now, _, event))) = events.pop() {
        match event {
            Event::Invoke(_) if run.operations.len() == shape.operations => {}
            Event::Invoke(client) => {
                let (effect, returned) = run.invoke(client, now);
                if let Some(effect) = effect {
                    at(&mut events, effect, Event::Effect(run.operations.len() - 1));
                }
                let think = run.rng.random_range(0..=shape.latency / 4);
                at(&mut events, returned + think, Event::Invoke(client));
            }
            Event::Effect(place) => run.effect(place),
        }
    }
    Generated {
        history: History { version: VERSION, operations: run.operations },
        placements: run.placements,
        last: run.kv,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Invoke(u64),
    Effect(usize),
}

struct Run<'a> {
    shape: &'a Shape,
    rng: Pcg64,
    keys: Vec<Bytes>,
    kv: Kv,
    operations: Vec<Operation>,
    placements: Placements,
    /// The revision up to which each member has applied, as its last serializable read shows.
    applied: BTreeMap<u64, i64>,
}

/// The code of an operation that has not taken effect yet. Every operation whose answer is not lost does.
const PENDING: i32 = -1;

impl Run<'_> {
    /// Invokes an operation: when it takes effect, if ever, and when its client goes on.
    fn invoke(&mut self, client: u64, now: u64) -> (Option<u64>, u64) {
        let id = self.operations.len() as u64 + 1;
        let request = self.request(id);
        let latency = self.shape.latency;
        let effect = now + self.rng.random_range(0..=latency);
        let returned = effect + self.rng.random_range(0..=latency);
        let losable = request.may_write() || matches!(request, Request::Compact(_));
        let lost = losable && self.chance(self.shape.unknown_permille);
        let effect = match self.rng.random_range(0..4) {
            0 | 1 if lost => Some(effect),
            2 if lost => Some(effect + self.rng.random_range(0..=latency * 8)),
            _ if lost => None,
            _ => Some(effect),
        };
        let outcome = if lost { Outcome::Unknown } else { Outcome::Failed { code: PENDING, message: String::new() } };
        let member = self.rng.random_range(1..=self.shape.members);
        self.operations.push(Operation {
            id,
            client,
            member,
            incarnation: 0,
            path: Default::default(),
            cached: false,
            invoked: now,
            returned,
            request,
            outcome,
        });
        (effect, returned)
    }

    fn effect(&mut self, place: usize) {
        let operation = &mut self.operations[place];
        if let Request::Range(range) = &operation.request
            && range.serializable
        {
            let applied = self.applied.entry(operation.member).or_insert(1);
            *applied = self.rng.random_range(*applied..=self.kv.revision());
            let answer = self.kv.serializable(range, *applied);
            operation.outcome = match answer {
                Ok(response) => Outcome::Ok(Response::Range(response)),
                Err(refusals) => refusals.iter().next().expect("a refusal has a reason").outcome(),
            };
            return;
        }
        let before = self.kv.revision();
        let answer = self.kv.apply(&operation.request);
        if operation.outcome == Outcome::Unknown {
            let compacted = matches!(operation.request, Request::Compact(_));
            if answer.is_ok() && (compacted || self.kv.revision() > before) {
                self.placements.revisions.insert(operation.id, self.kv.revision());
            }
            return;
        }
        operation.outcome = match answer {
            Ok(response) => Outcome::Ok(response),
            Err(refusals) => refusals.iter().next().expect("a refusal has a reason").outcome(),
        };
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.rng.random_range(0..1000) < permille
    }

    fn key(&mut self) -> Bytes {
        let key = self.rng.random_range(0..self.keys.len());
        self.keys[key].clone()
    }

    fn unusual(&mut self) -> bool {
        self.chance(self.shape.unusual_permille)
    }

    fn request(&mut self, id: u64) -> Request {
        let mix = &self.shape.mix;
        let weights = [mix.get, mix.get_serializable, mix.range, mix.put, mix.delete, mix.txn, mix.compact];
        let mut drawn = self.rng.random_range(0..weights.iter().sum::<u32>());
        let kind = weights
            .iter()
            .position(|&weight| {
                let here = drawn < weight;
                drawn = drawn.saturating_sub(weight);
                here
            })
            .expect("the draw is below the sum");
        match kind {
            0 => Request::Range(RangeRequest { key: self.key(), ..Default::default() }),
            1 => Request::Range(RangeRequest { key: self.key(), serializable: true, ..Default::default() }),
            2 => Request::Range(self.range()),
            3 => Request::Put(self.put(id)),
            4 => Request::DeleteRange(self.delete()),
            5 => Request::Txn(self.txn(id, 1)),
            _ => Request::Compact(CompactionRequest { revision: self.past().max(1), physical: false }),
        }
    }

    /// A revision that is likely to be readable, and sometimes compacted or still to come.
    fn past(&mut self) -> i64 {
        let (least, most) = (self.kv.compacted().max(1), self.kv.revision());
        match self.rng.random_range(0..8) {
            0 => (least - 1).max(1),
            1 => most + 1,
            _ => self.rng.random_range(least..=most),
        }
    }

    fn span(&mut self) -> (Bytes, Bytes) {
        match self.rng.random_range(0..8) {
            0 if self.keys.len() < 16 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            1 if self.keys.len() < 16 => (self.key(), Bytes::from_static(b"\0")),
            _ => {
                let from = self.rng.random_range(0..self.keys.len());
                let to = (from + self.rng.random_range(1..=8)).min(self.keys.len() - 1);
                (self.keys[from].clone(), self.keys[to].clone())
            }
        }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.span();
        let mut range = RangeRequest { key, range_end, ..Default::default() };
        if self.rng.random_range(0..4) == 0 {
            range.limit = self.rng.random_range(1..4);
        }
        if self.unusual() {
            match self.rng.random_range(0..6) {
                0 => range.keys_only = true,
                1 => range.count_only = true,
                2 => range.min_mod_revision = self.past(),
                3 => range.max_create_revision = self.past(),
                _ => range.revision = self.past(),
            }
            range.sort_order = self.rng.random_range(0..3);
            range.sort_target = self.rng.random_range(0..5);
        }
        range
    }

    fn put(&mut self, id: u64) -> PutRequest {
        let mut put =
            PutRequest { key: self.key(), value: value_of(id, 16), prev_kv: self.chance(300), ..Default::default() };
        if self.unusual() {
            if self.rng.random_range(0..2) == 0 {
                (put.ignore_value, put.value) = (true, Bytes::new());
            } else {
                put.ignore_lease = true;
            }
        }
        put
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let mut delete = DeleteRangeRequest { key: self.key(), prev_kv: self.chance(300), ..Default::default() };
        if self.unusual() {
            (delete.key, delete.range_end) = self.span();
        }
        delete
    }

    /// A compare, then some reads, and at most one change on either way: changes of one txn must not overlap.
    fn txn(&mut self, id: u64, nesting: u32) -> TxnRequest {
        let (key, range_end) = if self.unusual() { self.span() } else { (self.key(), Bytes::new()) };
        let modified = self.kv.mod_revision(&key);
        let (target, union) = match self.rng.random_range(0..4) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.rng.random_range(0..3))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            2 => (CompareTarget::Value, TargetUnion::Value(value_of(self.rng.random_range(1..=id), 16))),
            _ => (CompareTarget::Mod, TargetUnion::ModRevision(modified)),
        };
        let result = [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less]
            [self.rng.random_range(0..4)];
        let compare = Compare {
            result: result as i32,
            target: target as i32,
            key: key.clone(),
            target_union: Some(union),
            range_end,
        };
        let success = self.ways(id, nesting, &key);
        let failure = self.ways(id, nesting, &key);
        TxnRequest { compare: vec![compare], success, failure }
    }

    fn ways(&mut self, id: u64, nesting: u32, key: &Bytes) -> Vec<RequestOp> {
        let mut ways = Vec::new();
        if self.rng.random_range(0..3) == 0 {
            ways.push(request_op::Request::RequestRange(self.range()));
        }
        match self.rng.random_range(0..8) {
            0 => ways.push(request_op::Request::RequestDeleteRange(self.delete())),
            1..4 => ways.push(request_op::Request::RequestPut(PutRequest { key: key.clone(), ..self.put(id) })),
            4 if nesting > 0 => ways.push(request_op::Request::RequestTxn(self.txn(id, nesting - 1))),
            _ => {}
        }
        if self.rng.random_range(0..3) == 0 {
            ways.push(request_op::Request::RequestRange(RangeRequest { key: key.clone(), ..Default::default() }));
        }
        ways.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_one_history() {
        let shape = Shape::busy(8, 500);
        assert_eq!(generate(1, &shape).history, generate(1, &shape).history);
        assert_ne!(generate(1, &shape).history, generate(2, &shape).history);
    }

    #[test]
    fn every_answer_is_there_and_some_are_lost() {
        let generated = generate(3, &Shape::busy(8, 2000));
        generated.history.validate().unwrap();
        let operations = &generated.history.operations;
        assert!(operations.iter().all(|op| !matches!(op.outcome, Outcome::Failed { code: PENDING, .. })));
        let lost = operations.iter().filter(|op| op.outcome == Outcome::Unknown).count();
        assert!((20..=100).contains(&lost), "{lost} of about 56");
        assert!(generated.placements.revisions.len() < lost);
    }
}
