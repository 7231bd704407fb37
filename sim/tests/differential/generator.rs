//! Draws requests: few keys, so that requests meet; every option and every way to be refused, so that none goes unheld.
//!
//! Most requests are drawn to be answered, since a refusal says little about the store. One in five may be wrong, in one way
//! and anywhere. Some are drawn for one limit: the operations of a txn, its depth, the size of a request.

use bytes::Bytes;
use rand_pcg::Pcg64;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::range_request::SortTarget;
use seedbed_proto::etcdserverpb::watch_create_request::FilterType;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    request_op,
};
use seedbed_sim::history::{Outcome, Request, Response};
use seedbed_sim::model::{Fault, REQUEST_BYTES_MAX, TXN_OPERATIONS_MAX};
use seedbed_sim::rng::{Draw, stream};

use crate::deviations::{LEASE_TTL_MIN_S, MESSAGE_BYTES_MAX, TXN_DEPTH_MAX};

/// Bytes by which requests miss the limit of their size. etcd counts an envelope of its own as well, so nothing is said
/// about sizes that are nearer to it.
const SIZE_MARGIN: usize = 64;

/// How often a txn is drawn anew because it changes a key twice.
const TXN_DRAWS: u32 = 6;

/// Keys that are prefixes and neighbours of each other, with the least and the greatest bytes. No more than etcd's sorting
/// leaves in order where they are equal.
const KEYS: [&[u8]; 10] = [b"\0", b"a", b"a\0", b"a\xff", b"aa", b"ab", b"b", b"c", b"\xff", b"\xff\xff"];

/// Draws the requests of one sequence.
pub(crate) struct Generator {
    rng: Pcg64,
    keys: Vec<Bytes>,
    /// The store's revision, and the one that it was compacted to, as far as answers have told.
    revision: i64,
    compacted: i64,
    /// A value that was read.
    value: Bytes,
    /// Leases that exist, as far as answers have told.
    leases: Vec<i64>,
    /// What may be wrong with the request that is being drawn.
    wrong: Wrong,
}

/// What may be wrong with a request. Only one of these, since etcd names the first thing that is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Its form: empty keys, options that exclude each other, operations that are none.
    Form,
    /// A txn's form: keys that are changed twice.
    Doubles,
    /// What it expects of the store: revisions, leases, keys.
    Expectation,
}

impl Generator {
    /// The requests of the sequence with this number.
    pub(crate) fn new(seed: u64, sequence: u64) -> Self {
        let mut rng = stream(seed, "differential", sequence);
        let keys = if rng.chance(150) {
            (0..40).map(|number| format!("k{number:02}").into()).collect()
        } else {
            KEYS.map(Bytes::from_static).to_vec()
        };
        Generator {
            rng,
            keys,
            revision: 1,
            compacted: -1,
            value: Bytes::new(),
            leases: Vec::new(),
            wrong: Wrong::Nothing,
        }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Request {
        self.wrong = match self.rng.between(0, 99) {
            0..=4 => Wrong::Form,
            5..=8 => Wrong::Doubles,
            9..=19 => Wrong::Expectation,
            _ => Wrong::Nothing,
        };
        match self.rng.between(0, 999) {
            0..=269 => Request::Range(self.range()),
            270..=319 => self.of_leases(),
            320..=599 => Request::Put(self.put()),
            600..=679 => Request::DeleteRange(self.delete()),
            680..=939 => Request::Txn(self.tidy_txn()),
            940..=974 => Request::Compact(self.compact()),
            975..=984 => Request::Txn(self.txn_of_many()),
            985..=987 => Request::Txn(self.deep_txn()),
            988..=989 => self.large(),
            _ => self.unsorted(),
        }
    }

    /// A watch of what has happened, or of what comes.
    ///
    /// Not of the compacted revision itself: etcd 3.4 forgets its deletions (etcd #18089).
    pub(crate) fn watch(&mut self) -> WatchCreateRequest {
        self.wrong = if self.rng.chance(100) { Wrong::Form } else { Wrong::Nothing };
        let key = self.key();
        let range_end = if self.rng.chance(600) { self.range_end(&key) } else { Bytes::new() };
        let first = self.compacted.max(0) + 1;
        let start_revision = match self.rng.between(0, 9) {
            0 if self.compacted > 1 => self.rng.between(1, self.compacted as u64 - 1) as i64,
            0..=1 => self.revision + 1,
            // From now on.
            2 => 0,
            _ => self.rng.between(first as u64, (self.revision + 1) as u64) as i64,
        };
        let filters = match self.rng.between(0, 5) {
            0 => vec![FilterType::Noput as i32],
            1 => vec![FilterType::Nodelete as i32],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters,
            prev_kv: self.rng.chance(500),
            fragment: self.rng.chance(300),
            // Not of one that ends by itself: when its number is free again is a matter of moments.
            watch_id: if (start_revision == 0 || start_revision > self.compacted) && self.rng.chance(200) {
                self.rng.between(1000, 1004) as i64
            } else {
                0
            },
            ..WatchCreateRequest::default()
        }
    }

    /// Whether to cancel one of the watches.
    pub(crate) fn cancels(&mut self) -> bool {
        self.rng.chance(150)
    }

    /// A request was answered like this.
    pub(crate) fn saw(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Ok(response) = outcome else { return };
        self.revision = self.revision.max(response.revision());
        match (request, response) {
            (Request::Compact(compact), _) => self.compacted = compact.revision,
            (Request::LeaseGrant(grant), _) => self.leases.push(grant.id),
            (Request::LeaseRevoke(revoke), _) => self.leases.retain(|lease| *lease != revoke.id),
            (_, Response::Range(range)) => {
                if let Some(kv) = range.kvs.last() {
                    self.value = kv.value.clone();
                }
            }
            _ => {}
        }
    }

    /// Whether to be wrong here, so many times in a thousand.
    fn slips(&mut self, wrong: Wrong, permille: u32) -> bool {
        self.wrong == wrong && self.rng.chance(permille)
    }

    fn key(&mut self) -> Bytes {
        if self.slips(Wrong::Form, 60) { Bytes::new() } else { self.rng.pick(&self.keys).clone() }
    }

    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.between(0, 9) {
            0..=2 => Bytes::from_static(b"\0"),
            3..=6 => self.rng.pick(&self.keys).clone(),
            7 => [key, &b"\0"[..]].concat().into(),
            8 => key.clone(),
            _ => Bytes::from_static(b"\xff\xff\xff"),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.between(0, 9) {
            0 => Bytes::new(),
            1..=2 => self.value.clone(),
            3..=6 => Bytes::from_static(self.rng.pick::<&[u8]>(&[b"\0", b"x", b"xx", b"y", b"\xff"])),
            _ => {
                let len = self.rng.between(1, 40) as usize;
                vec![b'a' + self.rng.between(0, 25) as u8; len].into()
            }
        }
    }

    /// A revision near those that exist, to compare with or to filter by.
    fn some_revision(&mut self) -> i64 {
        match self.rng.between(0, 19) {
            0 => *self.rng.pick(&[i64::MIN, -1, i64::MAX]),
            1 => self.revision + 1,
            _ => (self.revision - self.rng.between(0, 30) as i64).max(1),
        }
    }

    /// A revision to read at.
    fn past(&mut self) -> i64 {
        if self.wrong == Wrong::Expectation {
            let (compacted, revision) = (self.compacted, self.revision);
            return *self.rng.pick(&[i64::MIN, -2, -1, compacted - 1, 1, revision + 1, revision + 2, i64::MAX]);
        }
        let least = self.compacted.max(1);
        match self.rng.between(0, 3) {
            0 => least,
            1 => self.revision,
            _ => (self.revision - self.rng.between(0, 20) as i64).max(least),
        }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = if self.rng.chance(700) { self.range_end(&key) } else { Bytes::new() };
        let mut request = RangeRequest { key, range_end, ..RangeRequest::default() };
        if self.rng.chance(300) {
            request.limit = match self.rng.between(0, 19) {
                0 => *self.rng.pick(&[-1, i64::MIN, i64::MAX]),
                limit => limit as i64 % 6 + 1,
            };
        }
        if self.rng.chance(250) || self.slips(Wrong::Expectation, 250) {
            request.revision = self.past();
        }
        if self.rng.chance(400) {
            request.sort_order = self.rng.between(0, 2) as i32;
            request.sort_target = self.rng.between(0, 4) as i32;
        }
        request.serializable = self.rng.chance(250);
        request.count_only = self.rng.chance(70);
        // Where ties have to be looked at, values have to be seen.
        let may_hide = self.keys.len() == KEYS.len() || request.sort_target != SortTarget::Value as i32;
        request.keys_only = may_hide && self.rng.chance(100);
        for bound in [
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            if self.rng.chance(60) {
                *bound = self.some_revision();
            }
        }
        request
    }

    fn put(&mut self) -> PutRequest {
        let key = self.key();
        let mut request = PutRequest { key, prev_kv: self.rng.chance(300), ..PutRequest::default() };
        request.ignore_value =
            self.rng.chance(60) || self.slips(Wrong::Expectation, 250) || self.slips(Wrong::Form, 200);
        request.ignore_lease = self.rng.chance(60) || self.slips(Wrong::Form, 200);
        if !request.ignore_value || self.slips(Wrong::Form, 500) {
            request.value = self.value();
        }
        if !request.ignore_lease && self.rng.chance(250) && !self.leases.is_empty() {
            request.lease = *self.rng.pick(&self.leases);
        }
        // None of these exists.
        if self.slips(Wrong::Form, 100) || (!request.ignore_lease && self.slips(Wrong::Expectation, 250)) {
            request.lease = *self.rng.pick(&[i64::MIN, -1, 1000, 7587, i64::MAX]);
        }
        request
    }

    fn of_leases(&mut self) -> Request {
        let id = *self.rng.pick(&[-2, 1, 2, 3, 4, 5]);
        match self.rng.between(0, 9) {
            0..=3 => {
                let ttl = if self.wrong == Wrong::Expectation { 9_000_000_001 } else { 9_000_000_000 };
                let ttl = if self.rng.chance(500) { ttl } else { LEASE_TTL_MIN_S };
                Request::LeaseGrant(LeaseGrantRequest { id, ttl })
            }
            4 => Request::LeaseRevoke(LeaseRevokeRequest { id }),
            5 => Request::LeaseKeepAlive(LeaseKeepAliveRequest { id }),
            6..=8 => Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: self.rng.chance(700) }),
            _ => Request::LeaseLeases(LeaseLeasesRequest {}),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.rng.chance(300) { self.range_end(&key) } else { Bytes::new() };
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.chance(500) }
    }

    fn compact(&mut self) -> CompactionRequest {
        let physical = self.rng.chance(250);
        let revision = if self.wrong == Wrong::Expectation {
            let (compacted, revision) = (self.compacted, self.revision);
            *self.rng.pick(&[i64::MIN, -1, 0, 1, compacted - 1, compacted, revision + 1, i64::MAX])
        } else {
            let next = self.compacted + 1;
            next + self.rng.between(0, (self.revision - next).clamp(0, 40) as u64) as i64
        };
        CompactionRequest { revision, physical }
    }

    /// A txn that seldom changes a key twice, unless it may be wrong.
    fn tidy_txn(&mut self) -> TxnRequest {
        let mut txn = self.txn(2);
        for _ in 1..TXN_DRAWS {
            if self.wrong == Wrong::Doubles || Fault::of(&Request::Txn(txn.clone())) != Some(Fault::DuplicateKey) {
                break;
            }
            txn = self.txn(2);
        }
        txn
    }

    /// A txn with others in it, down to so many levels.
    fn txn(&mut self, levels: u32) -> TxnRequest {
        let compare = (0..self.rng.between(0, 2)).map(|_| self.compare()).collect();
        // One in eight only reads.
        let reads = self.rng.chance(125);
        TxnRequest { compare, success: self.operations(levels, reads), failure: self.operations(levels, reads) }
    }

    fn operations(&mut self, levels: u32, reads: bool) -> Vec<RequestOp> {
        (0..self.rng.between(0, 4))
            .map(|_| {
                let request = match self.rng.between(0, 99) {
                    _ if self.slips(Wrong::Form, 40) => None,
                    _ if reads => Some(request_op::Request::RequestRange(self.range())),
                    0..=39 => Some(request_op::Request::RequestPut(self.put())),
                    40..=54 => Some(request_op::Request::RequestDeleteRange(self.delete())),
                    55..=74 if levels > 0 => Some(request_op::Request::RequestTxn(self.txn(levels - 1))),
                    _ => Some(request_op::Request::RequestRange(self.range())),
                };
                RequestOp { request }
            })
            .collect()
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let range_end = if self.rng.chance(250) { self.range_end(&key) } else { Bytes::new() };
        // The number after the last stands for one that does not exist.
        let unknown = |number: i32, count: i32| if number == count { i32::MAX } else { number };
        let result = if self.rng.chance(30) { 4 } else { self.rng.between(0, 3) as i32 };
        let target = if self.rng.chance(30) { 5 } else { self.rng.between(0, 4) as i32 };
        // What is to be compared with may be of another target, or missing.
        let union = if self.rng.chance(100) { self.rng.between(0, 5) as i32 } else { target };
        let target_union = match CompareTarget::try_from(union) {
            Ok(CompareTarget::Version) => Some(TargetUnion::Version(self.rng.between(0, 3) as i64)),
            Ok(CompareTarget::Create) => Some(TargetUnion::CreateRevision(self.zero_or_some_revision())),
            Ok(CompareTarget::Mod) => Some(TargetUnion::ModRevision(self.zero_or_some_revision())),
            Ok(CompareTarget::Value) => Some(TargetUnion::Value(self.value())),
            Ok(CompareTarget::Lease) => Some(TargetUnion::Lease(self.rng.between(0, 1) as i64)),
            Err(_) => None,
        };
        Compare { result: unknown(result, 4), target: unknown(target, 5), key, range_end, target_union }
    }

    fn zero_or_some_revision(&mut self) -> i64 {
        if self.rng.chance(300) { 0 } else { self.some_revision() }
    }

    /// A txn about as long as one may be, in one of its lists, or over two levels.
    fn txn_of_many(&mut self) -> TxnRequest {
        let near = |rng: &mut Pcg64, most: usize| rng.between(most as u64 - 2, most as u64 + 2) as usize;
        let mut txn = TxnRequest::default();
        match self.rng.between(0, 3) {
            0 => {
                let compare = self.compare();
                txn.compare = vec![compare; near(&mut self.rng, TXN_OPERATIONS_MAX)];
            }
            1 => txn.success = self.short_operations(TXN_OPERATIONS_MAX),
            2 => txn.failure = self.short_operations(TXN_OPERATIONS_MAX),
            _ => {
                let outer = self.rng.between(1, TXN_OPERATIONS_MAX as u64 - 4) as usize;
                let inner = self.short_operations(TXN_OPERATIONS_MAX - outer);
                let nested = TxnRequest { success: inner, ..TxnRequest::default() };
                txn.success = vec![RequestOp { request: Some(request_op::Request::RequestTxn(nested)) }];
                let filler = RequestOp { request: Some(request_op::Request::RequestRange(self.get())) };
                txn.success.resize(outer, filler);
            }
        }
        txn
    }

    /// Operations that do not collide, two more or less than so many.
    fn short_operations(&mut self, about: usize) -> Vec<RequestOp> {
        let count = self.rng.between(about as u64 - 2, about as u64 + 2) as usize;
        let puts = self.rng.chance(500);
        (0..count)
            .map(|number| {
                let request = if puts && number < self.keys.len() {
                    let key = self.keys[number].clone();
                    request_op::Request::RequestPut(PutRequest { key, ..PutRequest::default() })
                } else {
                    request_op::Request::RequestRange(self.get())
                };
                RequestOp { request: Some(request) }
            })
            .collect()
    }

    fn get(&mut self) -> RangeRequest {
        RangeRequest { key: self.rng.pick(&self.keys).clone(), ..RangeRequest::default() }
    }

    /// A txn in a txn in a txn, with something to read and to write in the middle.
    fn deep_txn(&mut self) -> TxnRequest {
        let deepest = TXN_DEPTH_MAX as u64;
        let depth = match self.rng.between(0, 4) {
            0 => deepest,
            1 => deepest + 1,
            2 => self.rng.between(deepest + 2, TXN_OPERATIONS_MAX as u64 + 1),
            _ => self.rng.between(2, deepest),
        };
        let range = self.range();
        let key = self.rng.pick(&self.keys).clone();
        let put = PutRequest { key, prev_kv: true, ..PutRequest::default() };
        let innermost = if self.rng.chance(500) {
            request_op::Request::RequestRange(range)
        } else {
            request_op::Request::RequestPut(put)
        };
        let of = |request| TxnRequest { success: vec![RequestOp { request: Some(request) }], ..TxnRequest::default() };
        (1..depth).fold(of(innermost), |txn, _| of(request_op::Request::RequestTxn(txn)))
    }

    /// A request a little smaller or larger than the log takes, or larger than a message may be.
    fn large(&mut self) -> Request {
        let (smaller, larger) = (REQUEST_BYTES_MAX - SIZE_MARGIN, REQUEST_BYTES_MAX + SIZE_MARGIN);
        let bytes = *self.rng.pick(&[smaller, larger, larger, MESSAGE_BYTES_MAX + SIZE_MARGIN]);
        let padding = Bytes::from(vec![b'p'; bytes - 32]);
        let key = self.rng.pick(&self.keys).clone();
        match self.rng.between(0, 5) {
            0 | 1 => Request::Put(PutRequest { key, value: padding, ..PutRequest::default() }),
            2 => Request::DeleteRange(DeleteRangeRequest { key: padding, ..DeleteRangeRequest::default() }),
            3 => Request::Range(RangeRequest { key: padding, ..RangeRequest::default() }),
            writes => {
                let compare = Compare {
                    target: CompareTarget::Value as i32,
                    result: CompareResult::Less as i32,
                    key: key.clone(),
                    target_union: Some(TargetUnion::Value(padding)),
                    ..Compare::default()
                };
                let request = if writes == 4 {
                    request_op::Request::RequestPut(PutRequest { key, ..PutRequest::default() })
                } else {
                    request_op::Request::RequestRange(RangeRequest { key, ..RangeRequest::default() })
                };
                let success = vec![RequestOp { request: Some(request) }];
                Request::Txn(TxnRequest { compare: vec![compare], success, ..TxnRequest::default() })
            }
        }
    }

    /// A request with a sort order or target that does not exist, and nothing else that is wrong by itself.
    fn unsorted(&mut self) -> Request {
        self.wrong = Wrong::Nothing;
        let mut range = self.range();
        let number = *self.rng.pick(&[-1, 5, i32::MIN, i32::MAX]);
        if self.rng.chance(500) {
            range.sort_order = number;
        } else {
            range.sort_target = number;
        }
        if self.rng.chance(500) {
            return Request::Range(range);
        }
        let mut txn = self.tidy_txn();
        if Fault::of(&Request::Txn(txn.clone())).is_some() {
            txn = TxnRequest::default();
        }
        let list = if self.rng.chance(500) { &mut txn.success } else { &mut txn.failure };
        list.push(RequestOp { request: Some(request_op::Request::RequestRange(range)) });
        Request::Txn(txn)
    }
}
