//! Tests of the store as a whole, on a disk in memory.

mod damage;
mod defragment;
mod disk;
mod durability;
mod leases;
mod model;
mod semantics;
mod snapshots;
mod subscriptions;

use std::future::Future;

use openraft_rt_tokio::TokioRuntime;

use self::disk::MemoryDisk;
use super::*;
use crate::proto::etcdserverpb::*;

type TestStore = Store<MemoryDisk>;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

async fn open(disk: &MemoryDisk) -> TestStore {
    let options = Options { cache_bytes: 1 << 20, ..Options::default() };
    Store::open(disk, "member/data", options).await.unwrap()
}

async fn flush(store: &TestStore) {
    store.flush::<TokioRuntime>().await.unwrap();
}

/// One batch of one request.
async fn apply<T>(
    store: &TestStore,
    request: impl FnOnce(&mut Batch<MemoryDisk>) -> Result<T, ApplyError>,
) -> Result<T, Refusal> {
    let mut batch = store.begin().await.unwrap();
    let applied = request(&mut batch);
    batch.commit().unwrap();
    applied.map_err(refusal)
}

fn refusal(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Refused(refusal) => refusal,
        ApplyError::Store(error) => panic!("the store failed: {error}"),
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn compaction(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: false }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}
