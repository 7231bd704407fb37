//! What a request costs the store, by kind and by how many share a transaction of the backend.
//!
//! It answers what apply can take: `put` and `txn` (a compare and a put) are whole batches as raft applies them, applied
//! index included, from the begin to the moment when readers see them; `range` is a read, of 1 key and of 100. None of
//! these waits for the disk; `durable` does: a batch of 64 puts, and the durable commit that a snapshot ends with.
//!
//! The store has 10 000 keys with values of 128 bytes, and is new for each sample. The throughput counts requests, or
//! keys in the case of `range`.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use openraft::AsyncRuntime;
use seedbed_benches::medium::{Folder, Medium};
use seedbed_benches::requests::{self, KEYS, scattered};
use seedbed_core::mvcc::{Batch, Options, Store};
use seedbed_core::runtime::tokio::{TokioDisk, TokioRuntime};

/// About as long as what raft keeps with each batch: the log id and the membership.
const APPLIED: [u8; 48] = [0; 48];

/// A store with every key, durable.
struct Filled {
    store: Store<TokioDisk>,
    _folder: Folder,
}

impl Filled {
    async fn new(medium: Medium) -> Filled {
        let folder = medium.folder().expect("a folder");
        let store = Store::open(&folder.disk, "member", Options::default()).await.expect("the folder is empty");
        let filled = Filled { store, _folder: folder };
        filled.apply(|batch| (0..KEYS).for_each(|number| put(batch, number))).await;
        filled.flush().await;
        filled
    }

    async fn apply(&self, requests: impl FnOnce(&mut Batch<TokioDisk>)) {
        let mut batch = self.store.begin().await.expect("the disk works");
        requests(&mut batch);
        batch.set_meta("applied", &APPLIED);
        batch.commit().expect("the disk works");
    }

    async fn flush(&self) {
        self.store.flush::<TokioRuntime>().await.expect("the disk works");
    }
}

/// Applies a request to the key of a number.
type Request = fn(&mut Batch<TokioDisk>, u64);

fn put(batch: &mut Batch<TokioDisk>, number: u64) {
    black_box(batch.put(&requests::put(number)).expect("it has no lease"));
}

fn txn(batch: &mut Batch<TokioDisk>, number: u64) {
    let response = batch.txn(&requests::put_if_there(number)).expect("it refers to no revision");
    assert!(response.succeeded);
}

/// The time of `batches` batches of `size` requests each, on a new store.
#[allow(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn time(
    runtime: &mut TokioRuntime,
    medium: Medium,
    batches: u64,
    size: u64,
    request: Request,
    durable: bool,
) -> Duration {
    runtime.block_on(async {
        let filled = Filled::new(medium).await;
        let begun = std::time::Instant::now();
        for nth in 0..batches {
            let numbers = (nth * size..(nth + 1) * size).map(scattered);
            filled.apply(|batch| numbers.for_each(|number| request(batch, number))).await;
            if durable {
                filled.flush().await;
            }
        }
        begun.elapsed()
    })
}

fn group<'a>(criterion: &'a mut Criterion, medium: Medium) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("mvcc/{medium}"));
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

fn writes(criterion: &mut Criterion) {
    let mut runtime = TokioRuntime::new(2);
    for medium in Medium::ALL {
        let mut group = group(criterion, medium);
        let requests: [(_, Request, _, _); 5] = [
            ("put", put, 1, false),
            ("put", put, 64, false),
            ("txn", txn, 1, false),
            ("txn", txn, 64, false),
            ("durable", put, 64, true),
        ];
        for (name, request, size, durable) in requests {
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|batches| time(&mut runtime, medium, batches, size, request, durable));
            });
        }
        group.finish();
    }
}

fn reads(criterion: &mut Criterion) {
    let mut runtime = TokioRuntime::new(2);
    for medium in Medium::ALL {
        let filled = runtime.block_on(Filled::new(medium));
        let mut group = group(criterion, medium);
        for keys in [1, 100] {
            let mut nth = 0;
            group.throughput(Throughput::Elements(keys));
            group.bench_function(BenchmarkId::new("range", keys), |bencher| {
                bencher.iter(|| {
                    nth += 1;
                    let response = filled.store.range(&requests::range(scattered(nth), keys)).expect("the disk works");
                    assert_eq!(response.kvs.len() as u64, keys);
                    response
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, writes, reads);
criterion_main!(benches);
