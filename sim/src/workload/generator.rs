//! Draws requests: few keys, so that clients meet; every option of the protocol, so that none goes unjudged.

use bytes::Bytes;
use rand_pcg::Pcg64;
use seedbed_core::read::ReadPath;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};

use crate::history::{Ask, Request, Response, value_of};
use crate::plan::{LeasePlan, Mix, WorkloadPlan};
use crate::rng::Draw;

/// Draws the requests of one client.
pub struct Generator {
    rng: Pcg64,
    keys: u32,
    value_bytes: usize,
    mix: Mix,
    /// The greatest revision that this client has seen.
    seen: i64,
    /// The last value that it has seen.
    value: Bytes,
    leases: Option<LeasePlan>,
    /// The last lease whose number a member has chosen.
    own_lease: i64,
}

impl Generator {
    /// A generator that draws from `rng`.
    pub fn new(rng: Pcg64, plan: &WorkloadPlan) -> Self {
        Generator {
            rng,
            keys: plan.keys,
            value_bytes: plan.value_bytes as usize,
            mix: plan.mix.clone(),
            seen: 1,
            value: Bytes::new(),
            leases: plan.leases,
            own_lease: 1,
        }
    }

    /// The client has seen this answer: reads of the past and compactions go near its revision, and compares ask for a
    /// value of it.
    pub fn saw(&mut self, response: &Response) {
        self.seen = self.seen.max(response.revision());
        if let Response::Range(range) = response
            && let Some(kv) = range.kvs.last()
        {
            self.value = kv.value.clone();
        }
        if let Response::LeaseGrant(granted) = response
            && self.leases.is_some_and(|leases| granted.id > i64::from(leases.numbers))
        {
            self.own_lease = granted.id;
        }
    }

    /// What an operation asks; what it writes carries the operation's number.
    pub fn ask(&mut self, operation: u64) -> Ask {
        let weights = self.mix.weights();
        let total: u32 = weights.iter().sum();
        let mut drawn = self.rng.between(0, u64::from(total.max(1)) - 1) as u32;
        let kind = weights.iter().position(|weight| match drawn.checked_sub(*weight) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        let path = match kind {
            Some(7) => ReadPath::Log,
            Some(8) => ReadPath::Lease,
            _ => ReadPath::default(),
        };
        let request = match kind {
            Some(0 | 7 | 8) | None => Request::Range(self.get()),
            Some(1) => Request::Range(RangeRequest { serializable: true, ..self.get() }),
            Some(2) => Request::Range(self.range()),
            Some(3) => Request::Put(self.put(operation)),
            Some(4) => Request::DeleteRange(self.delete()),
            Some(5) => Request::Txn(self.txn(operation)),
            Some(9) => Request::LeaseGrant(self.grant()),
            Some(10) => Request::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            Some(11) => Request::LeaseKeepAlive(LeaseKeepAliveRequest { id: self.lease() }),
            Some(12) => {
                Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id: self.lease(), keys: self.rng.chance(700) })
            }
            Some(13) => Request::LeaseLeases(LeaseLeasesRequest {}),
            Some(_) => Request::Compact(CompactionRequest {
                // Now and then one that is still to come.
                revision: self.seen + 4 - self.rng.between(0, 44).min(self.seen as u64) as i64,
                physical: self.rng.chance(200),
            }),
        };
        Ask { request, path }
    }

    /// Draws that many requests that nobody asks. What was seen of answers changes numbers in a request, and never how
    /// much is drawn for it: the next one is the same as if these had been asked.
    pub fn skip(&mut self, requests: u32) {
        for _ in 0..requests {
            self.ask(1);
        }
    }

    fn key(&mut self) -> Bytes {
        format!("k{:03}", self.rng.between(0, u64::from(self.keys.max(1)) - 1)).into()
    }

    /// A key's end, for a range that begins at it: a few keys further, or every key from it on.
    fn range_end(&mut self) -> Bytes {
        if self.rng.chance(150) { Bytes::from_static(b"\0") } else { self.key() }
    }

    fn get(&mut self) -> RangeRequest {
        let key = self.key();
        let revision = if self.rng.chance(50) { self.past() } else { 0 };
        RangeRequest { key, revision, ..RangeRequest::default() }
    }

    fn past(&mut self) -> i64 {
        (self.seen - self.rng.between(0, 30) as i64).max(1)
    }

    fn range(&mut self) -> RangeRequest {
        let mut request = RangeRequest { key: self.key(), range_end: self.range_end(), ..RangeRequest::default() };
        if self.rng.chance(300) {
            request.limit = self.rng.between(1, 4) as i64;
        }
        if self.rng.chance(200) {
            request.revision = self.past();
        }
        if self.rng.chance(300) {
            request.sort_order = *self.rng.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]) as i32;
            request.sort_target = *self.rng.pick(&[
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ]) as i32;
        }
        request.keys_only = self.rng.chance(100);
        request.count_only = self.rng.chance(100);
        request.serializable = self.rng.chance(100);
        if self.rng.chance(150) {
            match self.rng.between(0, 3) {
                0 => request.min_mod_revision = self.past(),
                1 => request.max_mod_revision = self.past(),
                2 => request.min_create_revision = self.past(),
                _ => request.max_create_revision = self.past(),
            }
        }
        request
    }

    fn put(&mut self, operation: u64) -> PutRequest {
        let key = self.key();
        let mut request = PutRequest { key, prev_kv: self.rng.chance(400), ..PutRequest::default() };
        if self.rng.chance(30) {
            request.ignore_value = true;
        } else {
            request.value = value_of(operation, self.value_bytes);
        }
        request.ignore_lease = self.rng.chance(30);
        if let Some(leases) = self.leases
            && self.rng.chance(leases.leased_percent * 10)
            && !request.ignore_lease
        {
            request.lease = self.lease();
        }
        request
    }

    /// One of those that clients have in common, or its own.
    fn lease(&mut self) -> i64 {
        let numbers = self.leases.map_or(1, |leases| leases.numbers);
        let common = self.rng.between(1, u64::from(numbers)) as i64;
        if self.rng.chance(200) { self.own_lease } else { common }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let leases = self.leases.expect("a valid plan that grants leases says which");
        let [least, most] = leases.ttl_s;
        let (id, ttl) = (self.rng.between(1, u64::from(leases.numbers)) as i64, self.rng.between(least, most) as i64);
        LeaseGrantRequest { id: if self.rng.chance(150) { 0 } else { id }, ttl }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.rng.chance(200) { self.key() } else { Bytes::new() };
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.chance(500) }
    }

    fn txn(&mut self, operation: u64) -> TxnRequest {
        let compare = (0..self.rng.between(0, 2)).map(|_| self.compare()).collect();
        let success = self.branch(operation, true);
        let failure = self.branch(operation, false);
        TxnRequest { compare, success, failure }
    }

    fn branch(&mut self, operation: u64, may_nest: bool) -> Vec<RequestOp> {
        (0..self.rng.between(0, 3))
            .map(|_| {
                let request = match self.rng.between(0, 99) {
                    0..=34 => request_op::Request::RequestPut(self.put(operation)),
                    35..=49 => request_op::Request::RequestDeleteRange(self.delete()),
                    50..=79 => request_op::Request::RequestRange(RangeRequest { serializable: false, ..self.range() }),
                    80..=92 => request_op::Request::RequestRange(self.get()),
                    _ if may_nest => request_op::Request::RequestTxn(TxnRequest {
                        compare: vec![self.compare()],
                        success: self.branch(operation, false),
                        failure: self.branch(operation, false),
                    }),
                    _ => request_op::Request::RequestRange(self.get()),
                };
                RequestOp { request: Some(request) }
            })
            .collect()
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let range_end = if self.rng.chance(200) { self.range_end() } else { Bytes::new() };
        let result = *self.rng.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        let (target, union) = match self.rng.between(0, 4) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.rng.between(0, 3) as i64)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(self.past())),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(self.past())),
            3 => (CompareTarget::Value, TargetUnion::Value(self.value.clone())),
            _ => (CompareTarget::Lease, TargetUnion::Lease(if self.leases.is_some() { self.lease() } else { 0 })),
        };
        Compare { result: result as i32, target: target as i32, key, range_end, target_union: Some(union) }
    }
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{PutResponse, ResponseHeader};

    use super::*;
    use crate::plan::Plan;
    use crate::rng;

    const PLAN: &str = include_str!("../../../scenarios/regressions/txn-put-beside-empty-deletion.json");

    /// The kind and the keys of a request: all that does not follow from what was seen.
    fn kind(ask: &Ask) -> String {
        match &ask.request {
            Request::Range(range) => format!("range {:?} {:?} {}", range.key, range.range_end, range.limit),
            Request::Put(put) => format!("put {:?} {}", put.key, put.prev_kv),
            Request::DeleteRange(delete) => format!("delete {:?} {:?}", delete.key, delete.range_end),
            Request::Txn(txn) => format!("txn {} {} {}", txn.compare.len(), txn.success.len(), txn.failure.len()),
            Request::Compact(_) => "compact".to_owned(),
            other => format!("{other}"),
        }
    }

    #[test]
    fn what_is_skipped_does_not_change_what_comes_then() {
        let plan = Plan::from_json(PLAN).expect("a plan of the repository").workload;
        let generator = || Generator::new(rng::stream(7, "workload", 3), &plan);
        let mut all = generator();
        let asked: Vec<String> = (1..=300)
            .map(|operation| {
                let ask = all.ask(operation);
                let header = Some(ResponseHeader { revision: operation as i64 * 3, ..ResponseHeader::default() });
                all.saw(&Response::Put(PutResponse { header, prev_kv: None }));
                kind(&ask)
            })
            .collect();
        let mut some = generator();
        let mut drawn = 0;
        for nth in [1, 2, 40, 41, 177, 300] {
            some.skip(nth - 1 - drawn);
            drawn = nth;
            assert_eq!(kind(&some.ask(9)), asked[nth as usize - 1], "operation {nth}");
        }
    }
}
