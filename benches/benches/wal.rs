//! How many entries a second the log takes, by the number of appenders that wait at the same time.
//!
//! It answers two questions. On the disk: how well one sync serves all who came during the last; the time of an append
//! falls with the number of appenders. In memory: what an append costs besides the sync, which is the ceiling of any disk.
//!
//! An appender appends an entry of 128 bytes, waits until it is durable, and appends the next. The time shown is that of
//! one append of each appender; the throughput counts appends. The WAL is used as the log store uses it, without raft.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use openraft::AsyncRuntime;
use seedbed_benches::medium::Medium;
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::tokio::TokioRuntime;
use seedbed_core::wal::{LogId, Record, Wal, WalOptions};
use tokio::sync::oneshot;

const PAYLOAD: [u8; 128] = [b'p'; 128];

/// The log, and the index of the last entry. Entries are appended in their order, as raft does.
struct Log {
    wal: Wal<TokioRuntime>,
    last: Mutex<u64>,
}

impl Log {
    async fn append(&self) {
        let (tx, rx) = oneshot::channel();
        {
            let mut last = self.last.lock().expect("nothing panics while it holds the index");
            *last += 1;
            let entry = Record::Entry(LogId { term: 1, index: *last }, &PAYLOAD[..]);
            let flushed = move |outcome| drop(tx.send(outcome));
            self.wal.append([entry], flushed).expect("the log is open");
        }
        rx.await.expect("the log tells everybody").expect("the disk works");
    }
}

/// The time of `rounds` appends of each appender, on a new log.
#[allow(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn time(runtime: &mut TokioRuntime, medium: Medium, appenders: u64, rounds: u64) -> Duration {
    let folder = medium.folder().expect("a folder");
    runtime.block_on(async {
        let opened = Wal::open(folder.disk.clone(), "wal", NodeId(1), WalOptions::default()).await;
        let (wal, _) = opened.expect("the folder is empty");
        let log = Arc::new(Log { wal, last: Mutex::new(0) });
        let begun = std::time::Instant::now();
        let tasks: Vec<_> = (0..appenders)
            .map(|_| {
                let log = log.clone();
                TokioRuntime::spawn(async move {
                    for _ in 0..rounds {
                        log.append().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("appenders do not panic");
        }
        let took = begun.elapsed();
        log.wal.close().await.expect("the disk works");
        took
    })
}

fn append(criterion: &mut Criterion) {
    let mut runtime = TokioRuntime::new(2);
    for medium in Medium::ALL {
        let mut group = criterion.benchmark_group(format!("wal/append/{medium}"));
        group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
        for appenders in [1, 16, 128] {
            group.throughput(Throughput::Elements(appenders));
            group.bench_function(BenchmarkId::from_parameter(appenders), |bencher| {
                bencher.iter_custom(|rounds| time(&mut runtime, medium, appenders, rounds));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
