//! What many watchers cost a member, on a real server: a child process, real sockets, real fsync.
//!
//! Watches lie on streams, and streams on connections. A round is one put; it ends when the last of those who want it has been
//! told. The time shown is that of a round, which is the lag of the last watcher; the throughput counts events.
//!
//! - `same-key`: every watch is for the key that is put.
//! - `other-keys`: one watch is for it, all others for keys that nobody puts.
//!
//! ```sh
//! cargo build --release --workspace
//! cargo bench -p seedbed-benches --bench watchers
//! ```
//!
//! What a watch takes of the member's memory, and a round of its processor time, is printed for each setting and kept in
//! `reports/out/watchers.md`. Server and watchers share the machine's cores.

use std::cell::RefCell;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use seedbed_benches::reports;
use seedbed_benches::servers::{Cluster, Program};
use seedbed_benches::watchers::{self, Told};
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::PutRequest;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::runtime::tokio::TokioRuntime;

const WATCHES: u64 = 10_000;

/// As many as a connection takes, and few more.
const STREAMS_A_CONNECTION: u64 = 100;

const VALUE_BYTES: usize = 128;

#[derive(Clone, Copy)]
struct Setting {
    streams: u64,
    same_key: bool,
}

impl Setting {
    fn name(self) -> String {
        format!("{}/{}-streams", if self.same_key { "same-key" } else { "other-keys" }, self.streams)
    }

    /// Events of one put.
    fn events(self) -> u64 {
        if self.same_key { WATCHES } else { 1 }
    }

    fn key(self, watch: u64) -> Bytes {
        if self.same_key || watch == 0 { "key".into() } else { format!("other-{watch}").into() }
    }
}

/// A member with watchers.
struct Watched {
    setting: Setting,
    cluster: Cluster,
    kv: KvClient<Channel>,
    told: Arc<Told>,
    bytes_a_watch: f64,
    rounds: u64,
    cpu_before: Duration,
}

impl Watched {
    async fn start(setting: Setting) -> Watched {
        let program = Program::seedbed(&["--log-level", "warn"]).unwrap_or_else(|error| panic!("{error}"));
        let cluster = Cluster::start(&program, 1).await.unwrap_or_else(|error| panic!("{error}"));
        let kv = KvClient::new(cluster.members[0].connect().await.expect("a member takes connections"));
        let told = Arc::new(Told::default());
        let before = cluster.members[0].memory().expect("it runs");
        let mut channel = None;
        for nth in 0..setting.streams {
            if nth % STREAMS_A_CONNECTION == 0 {
                channel = Some(cluster.members[0].connect().await.expect("a member takes connections"));
            }
            let channel = channel.clone().expect("it was just made");
            let watches = (0..WATCHES).filter(|watch| watch % setting.streams == nth);
            let keys = watches.map(|watch| setting.key(watch)).collect();
            drop(TokioRuntime::spawn(watchers::listen(channel, keys, told.clone())));
        }
        told.until(&told.created, WATCHES).await.expect("it watches");
        let memory = cluster.members[0].memory().expect("it runs").saturating_sub(before);
        let cpu_before = cluster.cpu().expect("it runs");
        let bytes_a_watch = memory as f64 / WATCHES as f64;
        Watched { setting, cluster, kv, told, bytes_a_watch, rounds: 0, cpu_before }
    }

    async fn round(&mut self) {
        let wanted = self.told.events.load(Ordering::Acquire) + self.setting.events();
        let put = PutRequest { key: "key".into(), value: vec![b'v'; VALUE_BYTES].into(), ..PutRequest::default() };
        self.kv.put(put).await.expect("it is put");
        self.told.until(&self.told.events, wanted).await.expect("it watches");
        self.rounds += 1;
    }

    fn line(&self) -> String {
        let cpu = self.cluster.cpu().expect("it runs") - self.cpu_before;
        format!(
            "| {} | {WATCHES} | {:.0} | {:.1} |",
            self.setting.name(),
            self.bytes_a_watch,
            cpu.as_secs_f64() * 1e6 / self.rounds.max(1) as f64
        )
    }
}

fn many_watchers(criterion: &mut Criterion) {
    let runtime = RefCell::new(TokioRuntime::new(2));
    let mut lines = Vec::new();
    for same_key in [true, false] {
        for streams in [100, WATCHES] {
            let setting = Setting { streams, same_key };
            let mut group = criterion.benchmark_group("watchers");
            group.sample_size(10).sampling_mode(SamplingMode::Flat).nresamples(1_001);
            group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
            group.throughput(Throughput::Elements(setting.events()));
            let mut watched: Option<Watched> = None;
            group.bench_function(BenchmarkId::from_parameter(setting.name()), |bencher| {
                let mut runtime = runtime.borrow_mut();
                let watched = watched.get_or_insert_with(|| runtime.block_on(Watched::start(setting)));
                bencher.iter_custom(|rounds| {
                    runtime.block_on(async {
                        let begun = <TokioRuntime as AsyncRuntime>::Instant::now();
                        for _ in 0..rounds {
                            watched.round().await;
                        }
                        begun.elapsed()
                    })
                });
            });
            group.finish();
            lines.extend(watched.map(|watched| watched.line()));
        }
    }
    // Nothing was measured if the bench was only asked for its list.
    if !lines.is_empty() {
        let head = "| setting | watches | bytes of memory each | CPU a put, us |\n|---|---:|---:|---:|\n";
        let page = format!("{head}{}\n", lines.join("\n"));
        print!("{page}");
        fs::create_dir_all(reports())
            .and_then(|()| fs::write(reports().join("watchers.md"), page))
            .expect("it is written");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = many_watchers
}
criterion_main!(benches);
