//! The store against a naive model: whatever is asked of both, in any order, they answer alike.
//!
//! The model keeps a whole map for each revision and knows neither index nor rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use request_op::Request;

use super::*;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::mvccpb::KeyValue;

type Pairs = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Debug)]
struct Model {
    /// The pairs at each revision that can be read.
    history: BTreeMap<i64, Pairs>,
    current: i64,
    compacted: i64,
    applied: u64,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn within(pairs: &Pairs, key: &[u8], end: &[u8]) -> Vec<KeyValue> {
    let wanted = |candidate: &[u8]| match end {
        b"" => candidate == key,
        b"\0" => candidate >= key,
        end => candidate >= key && candidate < end,
    };
    pairs.values().filter(|kv| wanted(&kv.key)).cloned().collect()
}

/// One request being applied: the pairs so far, and whether any has changed.
struct Change {
    pairs: Pairs,
    changed: bool,
}

impl Model {
    fn new() -> Model {
        Model { history: [(1, Pairs::new())].into(), current: 1, compacted: -1, applied: 0 }
    }

    fn change(&self) -> Change {
        Change { pairs: self.history[&self.current].clone(), changed: false }
    }

    fn settle(&mut self, change: Change) {
        if change.changed {
            self.current += 1;
            self.history.insert(self.current, change.pairs);
        }
    }

    fn revision_in(&self, change: &Change) -> i64 {
        self.current + i64::from(change.changed)
    }

    fn apply(&mut self, request: &Request) -> Result<response_op::Response, Refusal> {
        if let Request::RequestPut(PutRequest { lease: lease @ 1.., .. }) = request {
            return Err(Refusal::LeaseNotFound(*lease));
        }
        let mut change = self.change();
        let mut response = match request {
            Request::RequestTxn(txn) => {
                self.check(txn)?;
                response_op::Response::ResponseTxn(self.txn(txn, &mut change)?)
            }
            other => self.operation(other, &mut change)?,
        };
        self.settle(change);
        if let response_op::Response::ResponseTxn(txn) = &mut response {
            txn.header = header(self.current);
        }
        Ok(response)
    }

    fn operation(&self, request: &Request, change: &mut Change) -> Result<response_op::Response, Refusal> {
        use response_op::Response::*;
        let next = self.current + 1;
        Ok(match request {
            Request::RequestRange(range) => ResponseRange(self.range(range, Some(change))?),
            Request::RequestPut(put) => {
                let previous = change.pairs.get(&put.key).cloned();
                let ignored = if put.ignore_value || put.ignore_lease {
                    previous.clone().ok_or_else(|| Refusal::KeyNotFound(put.key.clone()))?
                } else {
                    KeyValue::default()
                };
                let kv = KeyValue {
                    key: put.key.clone(),
                    create_revision: previous.as_ref().map_or(next, |kv| kv.create_revision),
                    mod_revision: next,
                    version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
                    value: if put.ignore_value { ignored.value } else { put.value.clone() },
                    lease: 0,
                };
                change.pairs.insert(put.key.clone(), kv);
                change.changed = true;
                ResponsePut(PutResponse { header: header(next), prev_kv: previous.filter(|_| put.prev_kv) })
            }
            Request::RequestDeleteRange(delete) => {
                let deleted = within(&change.pairs, &delete.key, &delete.range_end);
                for kv in &deleted {
                    change.pairs.remove(&kv.key);
                    change.changed = true;
                }
                ResponseDeleteRange(DeleteRangeResponse {
                    header: header(self.revision_in(change)),
                    deleted: deleted.len() as i64,
                    prev_kvs: if delete.prev_kv { deleted } else { Vec::new() },
                })
            }
            Request::RequestTxn(txn) => ResponseTxn(self.txn(txn, change)?),
        })
    }

    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn txn(&self, txn: &TxnRequest, change: &mut Change) -> Result<TxnResponse, Refusal> {
        let (succeeded, operations) = self.branch(txn);
        let responses = operations
            .iter()
            .map(|operation| {
                let response = Some(self.operation(operation.request.as_ref().unwrap(), change)?);
                Ok(ResponseOp { response })
            })
            .collect::<Result<_, _>>()?;
        Ok(TxnResponse { header: header(0), succeeded, responses })
    }

    fn check(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        self.check_each(txn, &|operation| match operation {
            Request::RequestPut(put) => {
                let exists = self.history[&self.current].contains_key(&put.key);
                if (put.ignore_value || put.ignore_lease) && !exists {
                    return Err(Refusal::KeyNotFound(put.key.clone()));
                }
                if put.lease == 0 { Ok(()) } else { Err(Refusal::LeaseNotFound(put.lease)) }
            }
            _ => Ok(()),
        })?;
        self.check_each(txn, &|operation| match operation {
            Request::RequestRange(range) if range.revision != 0 => {
                let (requested, compacted) = (range.revision, self.compacted);
                if requested > self.current {
                    return Err(Refusal::FutureRevision { requested, current: self.current });
                }
                if requested < compacted { Err(Refusal::Compacted { requested, compacted }) } else { Ok(()) }
            }
            _ => Ok(()),
        })
    }

    fn check_each(&self, txn: &TxnRequest, check: &dyn Fn(&Request) -> Result<(), Refusal>) -> Result<(), Refusal> {
        for operation in self.branch(txn).1 {
            match operation.request.as_ref().unwrap() {
                Request::RequestTxn(nested) => self.check_each(nested, check)?,
                operation => check(operation)?,
            }
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let judge = |kv: &KeyValue| {
            let order = match compare.target_union.as_ref().unwrap() {
                TargetUnion::Version(operand) => kv.version.cmp(operand),
                TargetUnion::CreateRevision(operand) => kv.create_revision.cmp(operand),
                TargetUnion::ModRevision(operand) => kv.mod_revision.cmp(operand),
                TargetUnion::Value(operand) => kv.value.cmp(operand),
                TargetUnion::Lease(operand) => kv.lease.cmp(operand),
            };
            match compare.result() {
                CompareResult::Equal => order.is_eq(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
                CompareResult::NotEqual => order.is_ne(),
            }
        };
        let kvs = within(&self.history[&self.current], &compare.key, &compare.range_end);
        match kvs.is_empty() {
            true => compare.target() != CompareTarget::Value && judge(&KeyValue::default()),
            false => kvs.iter().all(judge),
        }
    }

    fn range(&self, range: &RangeRequest, change: Option<&Change>) -> Result<RangeResponse, Refusal> {
        let (requested, compacted) = (range.revision, self.compacted);
        let current = change.map_or(self.current, |change| self.revision_in(change));
        if requested > current {
            return Err(Refusal::FutureRevision { requested, current });
        }
        if requested > 0 && requested < compacted {
            return Err(Refusal::Compacted { requested, compacted });
        }
        let pairs = match change {
            Some(change) if requested <= 0 || requested == current => &change.pairs,
            _ => &self.history[&if requested <= 0 { current } else { requested }],
        };
        let mut kvs = within(pairs, &range.key, &range.range_end);
        let count = kvs.len() as i64;
        if range.count_only {
            return Ok(RangeResponse { header: header(current), count, ..Default::default() });
        }
        let (min_mod, max_mod) = (range.min_mod_revision, range.max_mod_revision);
        let (min_create, max_create) = (range.min_create_revision, range.max_create_revision);
        let filtered = [min_mod, max_mod, min_create, max_create] != [0; 4];
        let limit = range.limit as usize;
        if limit > 0 && !filtered && range.sort_order() == SortOrder::None {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (min_mod == 0 || kv.mod_revision >= min_mod)
                && (max_mod == 0 || kv.mod_revision <= max_mod)
                && (min_create == 0 || kv.create_revision >= min_create)
                && (max_create == 0 || kv.create_revision <= max_create)
        });
        let target = range.sort_target();
        kvs.sort_by(|a, b| {
            let order = match target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if range.sort_order() == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        for kv in kvs.iter_mut().filter(|_| range.keys_only) {
            kv.value = Bytes::new();
        }
        Ok(RangeResponse { header: header(current), kvs, more, count })
    }

    fn compact(&mut self, requested: i64) -> Result<CompactionResponse, Refusal> {
        if requested <= self.compacted {
            return Err(Refusal::Compacted { requested, compacted: self.compacted });
        }
        if requested > self.current {
            return Err(Refusal::FutureRevision { requested, current: self.current });
        }
        self.compacted = requested;
        self.history = self.history.split_off(&requested);
        Ok(CompactionResponse { header: header(self.current) })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Request),
    Compact(i64),
    Read(RangeRequest),
    ReadAll,
    Commit,
    Abandon,
    Flush,
    Crash,
    DeleteCompacted(usize),
    Reinstall(usize),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(["a", "b", "bb", "c", "d"].map(|key| Bytes::from_static(key.as_bytes())).to_vec())
}

fn key_range() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end =
        prop::sample::select(["", "\0", "a", "b", "c", "e"].map(|end| Bytes::from_static(end.as_bytes())).to_vec());
    (prop_oneof![4 => key(), 1 => Just(Bytes::from_static(b"\0"))], end)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(["", "1", "2", "three"].map(|value| Bytes::from_static(value.as_bytes())).to_vec())
}

/// Mostly none, else any that a short history has.
fn some_revision() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => -2..40i64]
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    let filters = (weighted(0.2, 1..20i64), weighted(0.2, 1..20i64), weighted(0.2, 1..20i64), weighted(0.2, 1..20i64));
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key_range(), 0..4i64, some_revision(), 0..3i32, 0..5i32, flags, filters).prop_map(
        |((key, range_end), limit, revision, sort_order, sort_target, (keys_only, count_only), filters)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: false,
            keys_only,
            count_only,
            min_mod_revision: filters.0.unwrap_or(0),
            max_mod_revision: filters.1.unwrap_or(0),
            min_create_revision: filters.2.unwrap_or(0),
            max_create_revision: filters.3.unwrap_or(0),
        },
    )
}

fn put_request() -> impl Strategy<Value = PutRequest> {
    let rarely = || prop::bool::weighted(0.1);
    (key(), value(), prop::bool::ANY, rarely(), rarely(), rarely()).prop_map(
        |(key, value, prev_kv, ignore_value, ignore_lease, leased)| PutRequest {
            key,
            value,
            lease: i64::from(leased && !ignore_lease),
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn operation() -> impl Strategy<Value = Request> {
    prop_oneof![
        5 => put_request().prop_map(Request::RequestPut),
        2 => (key_range(), prop::bool::ANY).prop_map(|((key, range_end), prev_kv)| {
            Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv })
        }),
        2 => range_request().prop_map(Request::RequestRange),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let operand = prop_oneof![
        (0..4i64).prop_map(|version| (CompareTarget::Version, TargetUnion::Version(version))),
        (0..20i64).prop_map(|revision| (CompareTarget::Create, TargetUnion::CreateRevision(revision))),
        (0..20i64).prop_map(|revision| (CompareTarget::Mod, TargetUnion::ModRevision(revision))),
        value().prop_map(|value| (CompareTarget::Value, TargetUnion::Value(value))),
        (0..2i64).prop_map(|lease| (CompareTarget::Lease, TargetUnion::Lease(lease))),
    ];
    (key_range(), 0..4i32, operand).prop_map(|((key, range_end), result, (target, operand))| Compare {
        key,
        range_end,
        result,
        target: target.into(),
        target_union: Some(operand),
    })
}

/// Any operations in any order: the store does not depend on a txn having been found valid.
fn request() -> impl Strategy<Value = Request> {
    let txn = |inner: BoxedStrategy<Request>| {
        let operations = || vec(inner.clone().prop_map(op), 0..4);
        (vec(compare(), 0..2), operations(), operations())
            .prop_map(|(compare, success, failure)| Request::RequestTxn(TxnRequest { compare, success, failure }))
    };
    let txn_or_operation = prop_oneof![4 => operation(), 1 => txn(operation().boxed())].boxed();
    prop_oneof![3 => operation(), 1 => txn(txn_or_operation)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => request().prop_map(Step::Apply),
        2 => (-1..40i64).prop_map(Step::Compact),
        6 => range_request().prop_map(Step::Read),
        1 => Just(Step::ReadAll),
        6 => Just(Step::Commit),
        1 => Just(Step::Abandon),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        3 => (1..6usize).prop_map(Step::DeleteCompacted),
        1 => (1..300usize).prop_map(Step::Reinstall),
    ]
}

/// A store, and what it should be.
struct Run {
    disk: MemoryDisk,
    store: TestStore,
    batch: Option<(Batch<MemoryDisk>, Model)>,
    committed: Model,
    flushed: Model,
}

impl Run {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Apply(request) => {
                let (batch, model) = self.batch().await;
                model.applied += 1;
                batch.set_meta("applied", &model.applied.to_le_bytes());
                use response_op::Response::*;
                let applied = match &request {
                    Request::RequestRange(request) => batch.range(request).map(ResponseRange),
                    Request::RequestPut(request) => batch.put(request).map(ResponsePut),
                    Request::RequestDeleteRange(request) => batch.delete_range(request).map(ResponseDeleteRange),
                    Request::RequestTxn(request) => batch.txn(request).map(ResponseTxn),
                };
                assert_eq!(applied.map_err(refusal), model.apply(&request));
            }
            Step::Compact(revision) => {
                let (batch, model) = self.batch().await;
                let compacted = batch.compact(&compaction(revision)).map_err(refusal);
                assert_eq!(compacted, model.compact(revision));
            }
            Step::Read(request) => {
                let read = self.store.range(&request).map_err(refusal);
                assert_eq!(read, self.committed.range(&request, None));
            }
            Step::ReadAll => self.read_all(),
            Step::Commit => self.commit(),
            Step::Abandon => self.batch = None,
            Step::Flush => {
                self.commit();
                flush(&self.store).await;
                self.flushed = self.committed.clone();
            }
            Step::Crash => {
                self.batch = None;
                self.disk = self.disk.crashed(|| true);
                self.store = open(&self.disk).await;
                self.committed = self.flushed.clone();
                self.read_all();
            }
            Step::DeleteCompacted(rows) => {
                self.commit();
                let hash = self.store.hash(0).unwrap();
                self.store.compaction_step(rows).await.unwrap();
                assert_eq!(self.store.hash(0).unwrap(), hash);
            }
            Step::Reinstall(bytes_max) => {
                self.commit();
                self.disk = MemoryDisk::default();
                let installed = open(&self.disk).await;
                let mut installer = installed.installer().await.unwrap();
                let mut snapshot = self.store.snapshot().unwrap();
                while let Some(chunk) = snapshot.next_chunk(bytes_max).unwrap() {
                    installer.feed(&chunk).unwrap();
                }
                if let Some(applied) = snapshot.meta("applied") {
                    installer.set_meta("applied", &applied);
                }
                installer.finish::<TokioRuntime>().await.unwrap();
                assert_eq!(installed.digest(), self.store.digest());
                assert_eq!(installed.hash(0).unwrap(), self.store.hash(0).unwrap());
                self.store = installed;
                self.flushed = self.committed.clone();
                self.read_all();
            }
        }
    }

    async fn batch(&mut self) -> &mut (Batch<MemoryDisk>, Model) {
        if self.batch.is_none() {
            self.batch = Some((self.store.begin().await.unwrap(), self.committed.clone()));
        }
        self.batch.as_mut().unwrap()
    }

    fn commit(&mut self) {
        if let Some((batch, model)) = self.batch.take() {
            batch.commit().unwrap();
            self.committed = model;
        }
    }

    /// Everything that can be read.
    fn read_all(&self) {
        let (store, model) = (&self.store, &self.committed);
        assert_eq!((store.revision(), store.compact_revision()), (model.current, model.compacted));
        let applied = store.meta("applied").unwrap().unwrap_or(Bytes::from_static(&[0; 8]));
        assert_eq!(applied, model.applied.to_le_bytes()[..]);
        for revision in *model.history.first_key_value().unwrap().0..=model.current {
            let request = RangeRequest { revision, ..range("\0", "\0") };
            assert_eq!(store.range(&request).map_err(refusal), model.range(&request, None));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_are_the_models(steps in vec(step(), 1..120)) {
        run(async {
            let disk = MemoryDisk::default();
            let store = open(&disk).await;
            let model = Model::new();
            let mut run = Run { disk, store, batch: None, committed: model.clone(), flushed: model };
            for step in steps {
                run.step(step).await;
            }
            run.commit();
            run.read_all();
        });
    }
}
